//! Whole conversations to learn from, and where in them the assistant speaks.

use std::ops::Range;

use super::chat::ChatTemplate;
use super::{Format, Message, Prompt, Role, Template, alpaca};
use crate::{Error, Result};

/// Marks around what a model thinks before it answers.
pub(super) const THOUGHTS: [(&str, &str); 2] = [("<think>", "</think>"), ("[THINK]", "[/THINK]")];
/// Most bytes, such as an empty block of thoughts, that a template may put before an answer on its own.
const LEAD: usize = 64;

/// A conversation up to the assistant's last turn, as a text to learn from.
#[derive(Debug, Clone)]
pub struct Transcript<'a> {
    /// The text.
    pub prompt: Prompt,
    messages: &'a [Message],
    answers: Answers<'a>,
}

/// An answer: the number of its turn, and its bytes in the text.
pub type Answer = (usize, Range<usize>);

#[derive(Debug, Clone)]
enum Answers<'a> {
    /// Where each answer is, by the number of its turn.
    Known(Vec<Answer>),
    /// Where the last one is; the others are found as they are asked for.
    Rendered { template: &'a ChatTemplate, last: Answer, eos: String },
}

impl Template {
    /// The conversation `messages`, each of the assistant's turns with its end, which is `eos` except in chat templates.
    /// What comes after the last of these turns is left out; `None` when there is none.
    ///
    /// # Errors
    /// As [`Template::render`], and when a chat template does not show an answer as it was given.
    pub fn transcript<'a>(&'a self, messages: &'a [Message], eos: &str) -> Result<Option<Transcript<'a>>> {
        let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else { return Ok(None) };
        let messages = &messages[..=last];
        let (text, answers) = match &self.format {
            Format::Raw => joined(messages, eos, |message, _| Ok(message.content.clone()))?,
            Format::Alpaca => joined(messages, eos, |message, turn| alpaca::question(messages, message, turn))?,
            Format::SafeRlhf { eos } => {
                // Refuses turns that do not alternate.
                self.render(&messages[..last])?;
                joined(messages, eos, |message, turn| {
                    let start = if turn == 0 { "BEGINNING OF CONVERSATION: " } else { "" };
                    Ok(format!("{start}USER: {} ASSISTANT:", message.content))
                })?
            }
            Format::Chat(template) => {
                let (text, answer) = last_answer(template, messages)?;
                let answers = Answers::Rendered { template, last: (last, answer), eos: eos.to_string() };
                return Ok(Some(Transcript { prompt: Prompt { text, add_special: false }, messages, answers }));
            }
        };
        let prompt = Prompt { text, add_special: true };
        Ok(Some(Transcript { prompt, messages, answers: Answers::Known(answers) }))
    }
}

impl Transcript<'_> {
    /// The bytes of the answers that begin before byte `end`, by the number of their turn.
    ///
    /// # Errors
    /// When the chat template refuses a part of the conversation, or does not show an answer as it was given.
    pub fn answers(&self, end: usize) -> Result<Vec<Answer>> {
        let (template, last, eos) = match &self.answers {
            Answers::Known(answers) => return Ok(answers.clone()),
            Answers::Rendered { template, last, eos } => (template, last, eos),
        };
        let mut found: Vec<Answer> = Vec::new();
        for turn in (0..last.0).filter(|turn| self.messages[*turn].role == Role::Assistant) {
            let floor = found.last().map_or(0, |(_, answer)| answer.end);
            if floor >= end {
                return Ok(found);
            }
            let rendered = Rendered::of(template, self.messages, turn)?;
            let text = &self.prompt.text;
            let mut answer = find(text, floor, self.messages, turn, &rendered)?;
            // Some templates end every answer but the last one.
            if !text[answer.clone()].trim_end().ends_with(eos) && text[answer.end..].starts_with(eos.as_str()) {
                answer.end += eos.len();
            }
            found.push((turn, answer));
        }
        if last.1.start < end {
            found.push(last.clone());
        }
        Ok(found)
    }
}

/// Questions as `question` writes them, and answers that end with `eos`.
fn joined(
    messages: &[Message],
    eos: &str,
    question: impl Fn(&Message, usize) -> Result<String>,
) -> Result<(String, Vec<Answer>)> {
    let (mut text, mut answers) = (String::new(), Vec::new());
    for (turn, message) in messages.iter().enumerate() {
        if message.role == Role::Assistant {
            let start = text.len();
            text += &ended(&message.content, eos);
            answers.push((turn, start..text.len()));
        } else {
            text += &question(message, turn)?;
        }
    }
    Ok((text, answers))
}

/// `answer` with `eos` at its end, which data may have written there already.
pub fn ended(answer: &str, eos: &str) -> String {
    if !eos.is_empty() && answer.ends_with(eos) { answer.to_string() } else { format!("{answer}{eos}") }
}

/// The text of a conversation that ends with an answer, and where that is.
///
/// As a rule the prompt for the answer begins the text. Templates of reasoning models may take the thoughts out of
/// answers; then the text is what the model is to say when it is asked: the prompt, the whole answer, and its end.
fn last_answer(template: &ChatTemplate, messages: &[Message]) -> Result<(String, Range<usize>)> {
    let last = messages.len() - 1;
    let rendered = Rendered::of(template, messages, last)?;
    let Rendered { before, after, .. } = &rendered;
    let content = messages[last].content.trim();
    let same = common_beginning(before, after);
    if let Some((thoughts, answer)) = thoughts(content)
        && !after[same..].contains(thoughts)
    {
        let end = after.rfind(answer).map_or("", |at| &after[at + answer.len()..]);
        let begun = THOUGHTS.iter().find(|(open, _)| before.trim_end().ends_with(open) && content.starts_with(open));
        let rest = begun.map_or(content, |(open, _)| content[open.len()..].trim_start());
        let text = format!("{before}{rest}{end}");
        let answer = before.len()..text.len();
        return Ok((text, answer));
    }
    if same == before.len() {
        let answer = before.len()..after.len();
        return Ok((rendered.after, answer));
    }
    let answer = find(after, 0, messages, last, &rendered)?;
    Ok((rendered.after, answer))
}

/// What is thought and what is said in an answer that has both.
fn thoughts(content: &str) -> Option<(&str, &str)> {
    let (open, thoughts, answer) = THOUGHTS
        .iter()
        .find_map(|(open, close)| content.rsplit_once(close).map(|(thoughts, answer)| (open, thoughts, answer)))?;
    let thoughts = thoughts.trim_start().strip_prefix(open).unwrap_or(thoughts).trim();
    (!thoughts.is_empty()).then_some((thoughts, answer.trim()))
}

/// What a template writes around an answer when nothing follows it.
struct Rendered {
    /// The prompt for the answer.
    before: String,
    /// The end of the prompt, which asks for an answer.
    asking: String,
    /// The conversation with the answer.
    after: String,
}

impl Rendered {
    fn of(template: &ChatTemplate, messages: &[Message], turn: usize) -> Result<Self> {
        let before = template.render(&messages[..turn], true)?;
        let after = template.render(&messages[..=turn], false)?;
        // Where the prompt begins the text, nobody need know where it asks.
        let asking = match after.starts_with(&before) || turn == 0 {
            true => String::new(),
            false => {
                let closed = template.render(&messages[..turn], false)?;
                before.strip_prefix(&closed).unwrap_or_default().to_string()
            }
        };
        Ok(Self { before, asking, after })
    }
}

/// Where in `text`, from `floor` on, the answer of `turn` is.
fn find(
    text: &str,
    floor: usize,
    messages: &[Message],
    turn: usize,
    Rendered { before, asking, after }: &Rendered,
) -> Result<Range<usize>> {
    if text.starts_with(before) && after.starts_with(before) && text.starts_with(after) {
        return Ok(before.len()..after.len());
    }
    let content = messages[turn].content.trim();
    let shown = [Some(content), thoughts(content).map(|(_, answer)| answer)];
    // The prompt may end otherwise here than when nothing follows; it still asks in the same words.
    let asked = |start: usize| {
        let at = text[start..].find(asking.as_str()).filter(|at| *at <= LEAD);
        at.filter(|_| !text[..start].ends_with(asking.as_str())).map(|at| start + at + asking.len())
    };
    let starts = starts(text, floor, messages, turn, before);
    for start in starts.into_iter().flat_map(|start| asked(start).into_iter().chain([start])) {
        for shown in shown.into_iter().flatten() {
            let end = after.rfind(shown).map_or("", |at| &after[at + shown.len()..]);
            let near = text[start..].match_indices(shown).take_while(|(at, _)| *at <= LEAD);
            let mut said = near.map(|(at, _)| start + at);
            if let Some(said) = said.find(|said| text[said + shown.len()..].starts_with(end)) {
                return Ok(start..said + shown.len() + end.len());
            }
        }
    }
    Err(Error::Request(format!(
        "the model's chat template does not show turn {} as it was given, so it is unclear what to learn; choose another \
         template",
        turn + 1
    )))
}

/// Where in `text` the answer of `turn` may begin: where the prompt for it ends, or behind its question and what follows that
/// in the prompt, or where the text stops to be like the prompt.
fn starts(text: &str, floor: usize, messages: &[Message], turn: usize, before: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let same = common_beginning(text, before);
    if same == before.len() {
        starts.push(same);
    }
    let question = turn.checked_sub(1).map_or("", |previous| messages[previous].content.trim());
    if let Some(at) = before.rfind(question) {
        let question = &before[at..];
        starts.extend(text[floor..].find(question).map(|at| floor + at + question.len()));
    }
    // Some bytes of the answer may happen to go on like the prompt.
    let answer = messages[turn].content.trim();
    let back = (0..=answer.len().min(same - floor.min(same)))
        .filter(|back| text.is_char_boundary(same - back) && text[same - back..].starts_with(answer))
        .max();
    starts.push(same - back.unwrap_or(0));
    starts.retain(|start| *start >= floor);
    starts
}

/// Length of the longest beginning that two texts share, in bytes and whole characters.
pub(super) fn common_beginning(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=same).rev().find(|at| a.is_char_boundary(*at) && b.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::chat::SpecialTokens;

    /// A text with its answers between brackets.
    fn marked(template: &Template, turns: &[(Role, &str)]) -> Result<String, String> {
        let messages: Vec<Message> = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let transcript = template.transcript(&messages, "</s>").map_err(|error| error.to_string())?.unwrap();
        let answers = transcript.answers(usize::MAX).map_err(|error| error.to_string())?;
        let (mut out, mut at) = (String::new(), 0);
        for (turn, answer) in answers {
            assert_eq!(turns[turn].0, Role::Assistant);
            let text = &transcript.prompt.text;
            out += &format!("{}[[{}]]", &text[at..answer.start], &text[answer.clone()]);
            at = answer.end;
        }
        assert_eq!(at, transcript.prompt.text.len(), "nothing comes after the last answer");
        Ok(out)
    }

    fn chat(source: &str) -> Template {
        let template = ChatTemplate::new(source, SpecialTokens::usual()).unwrap();
        Template { format: Format::Chat(template), stops: Vec::new(), allow_special: false }
    }

    fn plain(format: Format) -> Template {
        Template { format, stops: Vec::new(), allow_special: false }
    }

    const TWO: [(Role, &str); 4] =
        [(Role::User, "q"), (Role::Assistant, "a"), (Role::User, "r"), (Role::Assistant, "b")];

    #[test]
    fn answers_end_with_eos_where_there_is_no_chat_template() {
        assert_eq!(marked(&plain(Format::Raw), &TWO).unwrap(), "q[[a</s>]]r[[b</s>]]");
        let safe = plain(Format::SafeRlhf { eos: "</s>".to_string() });
        let expected = "BEGINNING OF CONVERSATION: USER: q ASSISTANT:[[a</s>]]USER: r ASSISTANT:[[b</s>]]";
        assert_eq!(marked(&safe, &TWO).unwrap(), expected);
        assert!(marked(&safe, &TWO[1..]).is_err());
        let alpaca = marked(&plain(Format::Alpaca), &TWO).unwrap();
        let prompt = |instruction| alpaca::alpaca_prompt(instruction, None);
        assert_eq!(alpaca, format!("{}[[a</s>]]{}[[b</s>]]", prompt("q"), prompt("r")));
        assert!(marked(&plain(Format::Alpaca), &[TWO[0], TWO[0], TWO[1]]).unwrap_err().contains("take turns"));
        let ended = [(Role::User, "q"), (Role::Assistant, "a</s>"), (Role::User, "r")];
        assert_eq!(marked(&plain(Format::Raw), &ended).unwrap(), "q[[a</s>]]");
        let none = [Message::new(Role::User, "q")];
        assert!(plain(Format::Raw).transcript(&none, "</s>").unwrap().is_none());
    }

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                          {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    #[test]
    fn a_chat_template_ends_a_turn_in_its_own_way() {
        let expected = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[[a<|im_end|>\n]]\
                        <|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n[[b<|im_end|>\n]]";
        assert_eq!(marked(&chat(CHATML), &TWO).unwrap(), expected);
    }

    /// Like DeepSeek's: thoughts are taken out of every answer, and the prompt begins new ones.
    const DEEP: &str = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}\
                        {% else %}<|Assistant|>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}\
                        {% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}";

    #[test]
    fn thoughts_that_a_template_takes_out_are_learned_in_the_last_answer() {
        let thinking = [
            (Role::User, "2+2?"),
            (Role::Assistant, "<think>\nTwo and two.\n</think>\n\nFour."),
            (Role::User, "3+3?"),
            (Role::Assistant, "<think>\nSix.\n</think>\n\nSix, clearly."),
        ];
        let first = "<s><|User|>2+2?<|Assistant|><think>\n[[Two and two.\n</think>\n\nFour.</s>]]";
        assert_eq!(marked(&chat(DEEP), &thinking[..2]).unwrap(), first);
        let both = "<s><|User|>2+2?<|Assistant|>[[\n\nFour.</s>]]<|User|>3+3?<|Assistant|><think>\n\
                    [[Six.\n</think>\n\nSix, clearly.</s>]]";
        assert_eq!(marked(&chat(DEEP), &thinking).unwrap(), both);
        // An answer without any is learned whole.
        let plain = [(Role::User, "2+2?"), (Role::Assistant, "Four.")];
        assert_eq!(marked(&chat(DEEP), &plain).unwrap(), "<s><|User|>2+2?<|Assistant|>[[Four.</s>]]");
        let bold = [(Role::User, "2+2?"), (Role::Assistant, "<b>Four</b>.")];
        assert_eq!(marked(&chat(DEEP), &bold).unwrap(), "<s><|User|>2+2?<|Assistant|>[[<b>Four</b>.</s>]]");
        // A prompt that does not begin the thoughts is no reason to lose them.
        let quiet = DEEP.replace("<|Assistant|><think>\n{% endif %}", "<|Assistant|>{% endif %}");
        let expected = "<s><|User|>2+2?<|Assistant|>[[<think>\nTwo and two.\n</think>\n\nFour.</s>]]";
        assert_eq!(marked(&chat(&quiet), &thinking[..2]).unwrap(), expected);
    }

    /// Like Qwen3's: only answers before the last question lose their thoughts.
    #[test]
    fn thoughts_that_only_earlier_answers_lose() {
        let source = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and not loop.last %}\
                      {{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m.content }}{% endif %}<end>\n{% endfor %}\
                      {% if add_generation_prompt %}<assistant>{% endif %}";
        let thinking = [
            (Role::User, "2+2?"),
            (Role::Assistant, "<think>Two.</think>Four."),
            (Role::User, "3+3?"),
            (Role::Assistant, "<think>Three.</think>Six."),
        ];
        let expected = "<user>2+2?<end>\n<assistant>[[Four.<end>\n]]<user>3+3?<end>\n\
                        <assistant>[[<think>Three.</think>Six.<end>\n]]";
        assert_eq!(marked(&chat(source), &thinking).unwrap(), expected);
    }

    /// Like Mistral's: what the system says goes into the last question, wherever that is.
    #[test]
    fn answers_are_found_behind_their_questions() {
        let source = "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.index0 >= messages | length - 2 \
                      %}S: {% endif %}{{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}";
        let turns = [(Role::User, "q"), (Role::Assistant, "q"), (Role::User, "q"), (Role::Assistant, "b")];
        let expected = "[INST] q[/INST][[q</s>]][INST] S: q[/INST][[b</s>]]";
        assert_eq!(marked(&chat(source), &turns).unwrap(), expected);
    }

    /// Templates that write the last turn otherwise than the same turn with others behind it.
    #[test]
    fn an_answer_begins_where_it_is_asked_for() {
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'user' and loop.last %} /think\
                      {% endif %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        assert_eq!(marked(&chat(source), &TWO[..2]).unwrap(), "<user>q</s><assistant>[[a</s>]]");
        let both = "<user>q</s><assistant>[[a</s>]]<user>r</s><assistant>[[b</s>]]";
        assert_eq!(marked(&chat(source), &TWO).unwrap(), both);
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last %}{{ eos_token }}{% endif %}\
                      {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        let both = "<user>q</s><assistant>[[a</s>]]<user>r</s><assistant>[[b]]";
        assert_eq!(marked(&chat(source), &TWO).unwrap(), both);
    }

    #[test]
    fn an_answer_that_is_not_shown_is_said() {
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | upper }}{% endfor %}\
                      {% if add_generation_prompt %}<answer>{% endif %}";
        let problem = marked(&chat(source), &[(Role::User, "q"), (Role::Assistant, "Four.")]).unwrap_err();
        assert!(problem.contains("does not show turn 2"), "{problem}");
    }

    #[test]
    fn only_answers_before_the_end_are_looked_for() {
        let messages: Vec<Message> = TWO.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let template = chat(CHATML);
        let transcript = template.transcript(&messages, "").unwrap().unwrap();
        assert_eq!(transcript.answers(10).unwrap().len(), 1);
        assert_eq!(transcript.answers(usize::MAX).unwrap().len(), 2);
    }
}
