//! Conversations with tools: rendered by a model's own chat template, and where in them the assistant speaks.

use std::ops::{Range, RangeTo};

use minijinja::Value;

use super::chat::ChatTemplate;
use super::transcript::{Answer, THOUGHTS, common_beginning};
use super::{Format, Prompt, Template};
use crate::{Error, Result};

/// A conversation as chat templates read it: calls of tools, what these return, and what the model thinks apart from what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolUse {
    /// The turns.
    pub turns: Vec<ToolTurn>,
    /// Descriptions of the tools, a list; none without any.
    pub(crate) tools: Value,
    /// Their names.
    pub(crate) names: Vec<String>,
}

/// A turn of such a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolTurn {
    /// All its fields, as a template gets them.
    pub(crate) message: Value,
    /// What a template must show of it.
    pub(crate) shown: Vec<String>,
    /// What the assistant thinks, which templates leave out of earlier turns.
    pub(crate) reasoning: Option<String>,
    /// Whether it is the assistant's.
    pub assistant: bool,
    /// Whether it is to be learned.
    pub learned: bool,
}

/// Such a conversation up to the assistant's last turn, as a text to learn from.
#[derive(Debug, Clone)]
pub struct ToolTranscript<'a> {
    /// The text.
    pub prompt: Prompt,
    conversation: &'a ToolUse,
    template: &'a ChatTemplate,
    last: usize,
    eos: String,
}

impl Template {
    /// `conversation` up to the assistant's last turn; `None` when there is none. `eos` is the tokenizer's, which belongs to an
    /// answer where the template writes it behind one.
    ///
    /// # Errors
    /// When this is no chat template, or it refuses the conversation or does not show all of it.
    pub fn tool_transcript<'a>(&'a self, conversation: &'a ToolUse, eos: &str) -> Result<Option<ToolTranscript<'a>>> {
        let Format::Chat(template) = &self.format else {
            return Err(Error::Request(
                "tools and reasoning have a place only in a model's own chat template; choose the template auto, and a model \
                 that has one"
                    .to_string(),
            ));
        };
        let Some(last) = conversation.turns.iter().rposition(|turn| turn.assistant) else { return Ok(None) };
        let text = conversation.rendered(template, ..last + 1, false)?;
        conversation.check(&text, last)?;
        let prompt = Prompt { text, add_special: false };
        Ok(Some(ToolTranscript { prompt, conversation, template, last, eos: eos.to_string() }))
    }
}

impl ToolUse {
    fn rendered(&self, template: &ChatTemplate, turns: RangeTo<usize>, asks: bool) -> Result<String> {
        let messages: Vec<Value> = self.turns[turns].iter().map(|turn| turn.message.clone()).collect();
        template.render_with(Value::from(messages), self.tools.clone(), asks)
    }

    /// Refuses a template that leaves out of `text` what the turns up to `last` say.
    fn check(&self, text: &str, last: usize) -> Result<()> {
        let is_shown = |words: &str| text.contains(words) || text.contains(&inside_json(words));
        let missing = |what: String| {
            Err(Error::Request(format!(
                "the model's chat template does not show {what}; choose a model whose template does"
            )))
        };
        if let Some(name) = self.names.iter().find(|name| !is_shown(name)) {
            return missing(format!("the tool \"{name}\""));
        }
        for (number, turn) in self.turns[..=last].iter().enumerate() {
            if turn.shown.iter().any(|words| !is_shown(words)) {
                return missing(format!("all of turn {}", number + 1));
            }
        }
        match &self.turns[last].reasoning {
            Some(reasoning) if !is_shown(reasoning) => Err(Error::Request(format!(
                "the model's chat template does not show the reasoning of turn {}; write it into the content, in the model's \
                 own marks",
                last + 1
            ))),
            _ => Ok(()),
        }
    }
}

/// `text` inside a JSON string, which is how some templates write what a tool returns.
fn inside_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_string()
}

/// What stands behind thoughts, empty ones too.
fn behind_thoughts(said: &str) -> Option<&str> {
    THOUGHTS.iter().find_map(|(_, close)| Some(said.rsplit_once(close)?.1.trim_start()))
}

impl ToolTranscript<'_> {
    /// The bytes of the answers that begin before byte `end`, by the number of their turn.
    ///
    /// # Errors
    /// When the chat template refuses a part of the conversation, or writes an answer otherwise than where it is asked for.
    pub fn answers(&self, end: usize) -> Result<Vec<Answer>> {
        let mut found: Vec<Answer> = Vec::new();
        let turns = self.conversation.turns[..=self.last].iter().enumerate();
        for (turn, _) in turns.filter(|(_, turn)| turn.assistant) {
            let floor = found.last().map_or(0, |(_, answer)| answer.end);
            if floor >= end {
                break;
            }
            let mut answer = self.find(turn, floor)?;
            let (said, rest) = self.prompt.text[answer.start..].split_at(answer.len());
            // Some templates end every answer but the last one.
            if !said.trim_end().ends_with(&self.eos) && rest.starts_with(&self.eos) {
                answer.end += self.eos.len();
            }
            if answer.start < end {
                found.push((turn, answer));
            }
        }
        Ok(found)
    }

    /// Where the answer of `turn` is, from byte `floor` on.
    fn find(&self, turn: usize, floor: usize) -> Result<Range<usize>> {
        let text = &self.prompt.text;
        let rendered = |turns, asks| self.conversation.rendered(self.template, ..turns, asks);
        let (before, after) = (rendered(turn, true)?, rendered(turn + 1, false)?);
        let same = common_beginning(&before, &after);
        if same == before.len() && text.starts_with(&after) {
            return Ok(same..after.len());
        }
        // The prompt may open thoughts that the turn has not, and turns behind this one may take its thoughts out of it.
        let closed = if turn == 0 { String::new() } else { rendered(turn, false)? };
        let (asking, answered) = (before.strip_prefix(&closed), after.strip_prefix(&closed));
        let (asking, answered) = asking.zip(answered).unwrap_or_default();
        let (header, said) = answered.split_at(common_beginning(asking, answered));
        let at = |said: &str| text[floor..].find(&format!("{header}{said}")).map(|at| floor + at + header.len());
        let shown = [Some(said), behind_thoughts(said)].into_iter().flatten().filter(|said| !said.is_empty());
        let mut places = shown.filter_map(|said| at(said).map(|at| at..at + said.len()));
        places.next().filter(|_| !header.is_empty()).ok_or_else(|| {
            Error::Request(format!(
                "the model's chat template does not show turn {} as it was given, so it is unclear what to learn; choose another \
                 model's",
                turn + 1
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::chat::SpecialTokens;
    use crate::records::Record;

    /// Calls between marks, as Qwen's and Hermes' templates have them; thoughts are taken out before the last question.
    const MARKED: &str = "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 \
        %}{% endif %}{% endfor %}{% if tools %}<s>{% for t in tools %}{{ t | tojson }}{% endfor %}</s>{% endif %}\
        {% for m in messages %}<{{ m.role }}>\
        {% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or m.reasoning_content) %}\
        <think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}\
        {% if m.content %}{{ m.content }}{% endif %}\
        {% for c in m.tool_calls or [] %}<call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</call>{% endfor %}\
        {{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    /// As in Llama 3.1's: one call and nothing beside it; what tools return is written as JSON.
    const ALONE: &str = "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}{% for m in messages %}\
        {% if m.role == 'tool' %}<ipython>{{ m.content | tojson }}\
        {% elif 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}\
        <assistant>{\"name\": \"{{ m.tool_calls[0].function.name }}\", \"parameters\": {{ m.tool_calls[0].function.arguments | tojson }}}\
        {% else %}<{{ m.role }}>{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";

    fn conversation(row: &str) -> ToolUse {
        let records = Record::parse_with(&serde_json::from_str(row).unwrap(), row).unwrap();
        let Some(Record::ToolUse(conversation)) = records.into_iter().next() else { panic!("no tools in {row}") };
        conversation
    }

    fn marked(source: &str, row: &str) -> Result<String, String> {
        let template = ChatTemplate::new(source, SpecialTokens::usual()).unwrap();
        let template = Template { format: Format::Chat(template), stops: Vec::new(), allow_special: false };
        let talk = conversation(row);
        let transcript = template.tool_transcript(&talk, "</s>").map_err(|error| error.to_string())?.unwrap();
        let (mut out, mut at) = (String::new(), 0);
        for (turn, answer) in transcript.answers(usize::MAX).map_err(|error| error.to_string())? {
            assert!(talk.turns[turn].assistant);
            let text = &transcript.prompt.text;
            out += &format!("{}[[{}]]", &text[at..answer.start], &text[answer.clone()]);
            at = answer.end;
        }
        assert_eq!(at, transcript.prompt.text.len(), "nothing comes after the last answer");
        Ok(out)
    }

    const WEATHER: &str = r#"{"tools": [{"type": "function", "function": {"name": "temperature", "parameters": {"type": "object",
        "properties": {"place": {"type": "string"}, "at": {"type": "string"}}}}}],
        "messages": [{"role": "user", "content": "How warm?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function",
            "function": {"name": "temperature", "arguments": "{\"place\": \"Ulm\", \"at\": \"noon\"}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "{\"degrees\": 7}"},
        {"role": "assistant", "content": "Seven."}]}"#;

    #[test]
    fn calls_of_tools_are_learned_and_what_they_return_is_not() {
        let tool = "{\"type\": \"function\", \"function\": {\"name\": \"temperature\", \"parameters\": {\"type\": \"object\", \
                    \"properties\": {\"place\": {\"type\": \"string\"}, \"at\": {\"type\": \"string\"}}}}}";
        let call = "{\"name\": \"temperature\", \"arguments\": {\"place\": \"Ulm\", \"at\": \"noon\"}}";
        // Fields keep their order, and the empty thoughts of a last turn are not in an earlier one.
        let expected = format!(
            "<s>{tool}</s><user>How warm?</s><assistant>[[<call>{call}</call></s>]]<tool>{{\"degrees\": 7}}</s>\
             <assistant>[[<think>\n\n</think>\n\nSeven.</s>]]"
        );
        assert_eq!(marked(MARKED, WEATHER).unwrap(), expected);
        let expected = "temperature <user>How warm?</s><assistant>[[{\"name\": \"temperature\", \"parameters\": {\"place\": \"Ulm\", \
                        \"at\": \"noon\"}}</s>]]<ipython>\"{\\\"degrees\\\": 7}\"</s><assistant>[[Seven.</s>]]";
        assert_eq!(marked(ALONE, WEATHER).unwrap(), expected);
    }

    #[test]
    fn reasoning_is_learned_where_the_template_shows_it() {
        let turn = |role: &str, rest: &str| format!("{{\"role\": \"{role}\", {rest}}}");
        let call = r#""content": "", "tool_calls": [{"name": "f", "arguments": {}}]"#;
        let row = |turns: &[String]| format!("{{\"messages\": [{}]}}", turns.join(", "));
        let first = [
            turn("user", "\"content\": \"q\""),
            turn("assistant", &format!("\"reasoning_content\": \"Ask f.\", {call}")),
            turn("tool", "\"content\": \"1\""),
            turn("assistant", "\"reasoning_content\": \"So.\", \"content\": \"One.\""),
        ];
        let shown = "<user>q</s><assistant>[[<think>\nAsk f.\n</think>\n\n<call>{\"name\": \"f\", \"arguments\": {}}</call></s>]]\
                     <tool>1</s><assistant>[[<think>\nSo.\n</think>\n\nOne.</s>]]";
        assert_eq!(marked(MARKED, &row(&first)).unwrap(), shown);
        // Behind another question the template takes these thoughts out.
        let second = [turn("user", "\"content\": \"r\""), turn("assistant", "\"content\": \"Two.\"")];
        let both = marked(MARKED, &row(&[&first[..], &second].concat())).unwrap();
        let expected = "<user>q</s><assistant>[[<call>{\"name\": \"f\", \"arguments\": {}}</call></s>]]<tool>1</s>\
                        <assistant>[[One.</s>]]<user>r</s><assistant>[[<think>\n\n</think>\n\nTwo.</s>]]";
        assert_eq!(both, expected);
        let problem = marked(ALONE, &row(&first)).unwrap_err();
        assert!(problem.contains("the reasoning of turn 4"), "{problem}");
    }

    #[test]
    fn what_a_template_leaves_out_is_said() {
        let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        assert!(marked(plain, WEATHER).unwrap_err().contains("the tool \"temperature\""));
        let row = WEATHER.replace("\"tools\"", "\"other\"");
        assert!(marked(plain, &row).unwrap_err().contains("all of turn 2"));
        let beside = WEATHER.replace("\"content\": null", "\"content\": \"Let me look.\"");
        assert!(marked(ALONE, &beside).unwrap_err().contains("all of turn 2"));
        let two = r#"{"messages": [{"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": [{"name": "f"}, {"name": "g"}]}]}"#;
        assert!(marked(ALONE, two).unwrap_err().contains("one call at once"));
        let raw = Template { format: Format::Raw, stops: Vec::new(), allow_special: false };
        assert!(
            raw.tool_transcript(&conversation(WEATHER), "</s>").unwrap_err().to_string().contains("own chat template")
        );
    }
}
