//! Stanford Alpaca's way to make instructions (generate_instruction.py): a list of tasks that begins with three of people's,
//! continued by a language model, and the rules for what is kept of it.

use serde::{Deserialize, Serialize};

use super::{Ask, Dropped, Row};

/// Seed tasks in a prompt.
pub(super) const EXAMPLES: usize = 3;
/// What ends a list of twenty tasks.
const STOPS: [&str; 2] = ["\n20", "20."];
/// Most tokens of a completion.
const MAX_TOKENS: usize = 3072;
/// What a text model cannot do, or does not see.
const BLACKLIST: [&str; 18] = [
    "image",
    "images",
    "graph",
    "graphs",
    "picture",
    "pictures",
    "file",
    "files",
    "map",
    "maps",
    "draw",
    "plot",
    "go to",
    "video",
    "audio",
    "music",
    "flowchart",
    "diagram",
];

/// The wording of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wording {
    /// As Alpaca's data was made: two requirements have wrong numbers, and words are misspelt.
    #[default]
    AlpacaReleased,
    /// The same with both mended.
    AlpacaFixed,
}

impl Wording {
    fn text(self) -> String {
        let released = include_str!("prompt_released.txt");
        match self {
            Self::AlpacaReleased => released.to_string(),
            Self::AlpacaFixed => {
                let mut number = 0;
                let lines = released.lines().map(|line| match line.split_once(". ") {
                    Some((digit, rest)) if digit.parse::<usize>().is_ok() => {
                        number += 1;
                        format!("{number}. {rest}\n")
                    }
                    _ => format!("{line}\n"),
                });
                let text: String = lines.collect();
                text.replace("instrucitons", "instructions")
                    .replace("necssary", "necessary")
                    .replace("when a instr", "when an instr")
            }
        }
    }
}

/// The request for more tasks after `examples`.
pub(super) fn ask(wording: Wording, examples: &[&Row], temperature: f32, top_p: f32, seed: u32) -> Ask {
    let mut prompt = wording.text();
    for (index, Row { instruction, input, output }) in examples.iter().enumerate() {
        let number = index + 1;
        let instruction = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        let instruction = instruction.trim_end_matches(':');
        let input = if input.is_empty() { "<noinput>" } else { input };
        prompt += &format!(
            "###\n{number}. Instruction: {instruction}\n{number}. Input:\n{input}\n{number}. Output:\n{output}\n"
        );
    }
    prompt += &format!("###\n{}. Instruction:", examples.len() + 1);
    let stop = STOPS.iter().map(ToString::to_string).collect();
    Ask { max_tokens: MAX_TOKENS, temperature, top_p, stop, seed, ..Ask::text(prompt) }
}

/// The tasks of a completion that pass the rules, in its order, and why the others do not. `cut` says that it ended at its
/// greatest length, so that its last task is not whole.
pub(super) fn tasks(completion: &str, cut: bool, dropped: &mut Dropped) -> Vec<Row> {
    // Chat models may repeat where the prompt ended.
    let begin = format!("{}. Instruction:", EXAMPLES + 1);
    let completion = completion.trim_start().strip_prefix(&begin).unwrap_or(completion);
    let whole = begin + completion;
    let pieces: Vec<&str> = whole.split("###").collect();
    let mut tasks = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if cut && index == pieces.len() - 1 {
            dropped.count("cut off at the greatest length");
            continue;
        }
        match task(piece, EXAMPLES + 1 + index) {
            Ok(task) => tasks.push(task),
            Err(reason) => dropped.count(reason),
        }
    }
    tasks
}

/// One task, with the number that it must have.
fn task(piece: &str, number: usize) -> Result<Row, &'static str> {
    let [instruction, input, output] = parts(piece, number).ok_or("not in the form of a task")?;
    let words = python_words(instruction);
    if words <= 3 {
        return Err("an instruction of three words or less");
    }
    if words > 150 {
        return Err("an instruction of more than 150 words");
    }
    if BLACKLIST.iter().any(|word| has_word(instruction, word)) {
        return Err("asks for what is no text");
    }
    if instruction.starts_with("Write a program") {
        return Err("begins with \"Write a program\"");
    }
    match instruction.chars().next() {
        Some(first) if first.is_ascii_punctuation() => return Err("begins with punctuation"),
        Some(first) if !first.is_ascii() => return Err("begins with a character outside ASCII"),
        _ => {}
    }
    let input = if input.to_lowercase() == "<noinput>" { "" } else { input };
    Ok(Row { instruction: instruction.to_string(), input: input.to_string(), output: output.to_string() })
}

/// The texts after the three labels, such as "4. Input:", whatever their order; `None` if there are more or fewer.
fn parts(piece: &str, number: usize) -> Option<[&str; 3]> {
    let label = format!("{number}.");
    let (mut ends, mut starts) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(found) = piece[at..].find(&label) {
        let start = at + found;
        let after = &piece[start + label.len()..];
        let named = after.trim_start_matches(is_python_space);
        let name = ["Instruction:", "Input:", "Output:"].into_iter().find(|name| named.starts_with(name));
        match name.filter(|_| named.len() < after.len()) {
            Some(name) => {
                ends.push(start);
                at = piece.len() - named.len() + name.len();
                starts.push(at);
            }
            None => at = start + label.len(),
        }
    }
    let (&[first, second, third], &[_, end_first, end_second]) = (&starts[..], &ends[..]) else { return None };
    Some([
        piece[first..end_first].trim_matches(is_python_space),
        piece[second..end_second].trim_matches(is_python_space),
        piece[third..].trim_matches(is_python_space),
    ])
}

/// What Python's `str.isspace` and `\s` take for a space.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn python_words(text: &str) -> usize {
    text.split(is_python_space).filter(|word| !word.is_empty()).count()
}

/// Whether `word` stands in `text`, in any case, with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    // Python's IGNORECASE takes these for i, s and k.
    let folded = |c: char| match c {
        'İ' | 'ı' => 'i',
        'ſ' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    };
    let text: Vec<char> = text.chars().map(folded).collect();
    let word: Vec<char> = word.chars().collect();
    let in_word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    text.windows(word.len()).enumerate().any(|(at, found)| {
        found == word && !in_word(at.checked_sub(1).and_then(|at| text.get(at))) && !in_word(text.get(at + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instruction: &str, input: &str, output: &str) -> Row {
        Row { instruction: instruction.into(), input: input.into(), output: output.into() }
    }

    fn instructions(completion: &str, cut: bool) -> (Vec<String>, Dropped) {
        let mut dropped = Dropped::default();
        let tasks = tasks(completion, cut, &mut dropped);
        (tasks.into_iter().map(|task| task.instruction).collect(), dropped)
    }

    #[test]
    fn the_prompt_is_the_original_one() {
        let examples =
            [row("Name  the\ncapital: ", "", "Paris"), row("Add.", "1, 2", "3"), row("Say \"a\":", "A", "a")];
        let Ask { prompt: super::super::Prompt::Text(prompt), stop, max_tokens, .. } =
            ask(Wording::AlpacaReleased, &examples.iter().collect::<Vec<_>>(), 1.0, 1.0, 0)
        else {
            panic!("a text")
        };
        assert!(prompt.starts_with("You are asked to come up with a set of 20 diverse task instructions."));
        assert!(prompt.ends_with(
            "List of 20 tasks:\n###\n1. Instruction: Name the capital\n1. Input:\n<noinput>\n1. Output:\nParis\n\
             ###\n2. Instruction: Add.\n2. Input:\n1, 2\n2. Output:\n3\n\
             ###\n3. Instruction: Say \"a\"\n3. Input:\nA\n3. Output:\na\n###\n4. Instruction:"
        ));
        assert_eq!((stop, max_tokens), (vec!["\n20".to_string(), "20.".to_string()], 3072));
        let fixed = Wording::AlpacaFixed.text();
        for number in 1..=8 {
            assert_eq!(fixed.matches(&format!("\n{number}. ")).count(), 1, "{fixed}");
        }
        assert!(!fixed.contains("necssary") && Wording::AlpacaReleased.text().contains("necssary"));
    }

    #[test]
    fn tasks_are_cut_as_the_original_cuts_them() {
        let completion = " Give three tips for sleep.\n4. Input:\n<NoInput>\n4. Output:\n1. Read.\n2. Rest.\n\n\
                          ###\n5. Instruction: Add the two numbers.\n5.  Input:\n2 and 3\n5.\tOutput: 5\n\
                          ###\n7. Instruction: This number is wrong here.\n7. Input:\na\n7. Output:\nb\n\
                          ###\n7. Instruction: Explain what a heading is.\n7. Input:\n<noinput>\n7. Output:\n## A ### B\n\
                          ###\n9. Instruction: Name one more thing please.\n9. Input:\n<noinput>\n9. Output:\nSo";
        let mut dropped = Dropped::default();
        let found = tasks(completion, true, &mut dropped);
        assert_eq!(
            found,
            [
                row("Give three tips for sleep.", "", "1. Read.\n2. Rest."),
                row("Add the two numbers.", "2 and 3", "5"),
                // A heading of three marks ends the output.
                row("Explain what a heading is.", "", "## A"),
            ]
        );
        let reasons: Vec<_> = dropped.reasons().collect();
        assert_eq!(reasons, [("cut off at the greatest length", 1), ("not in the form of a task", 2)]);
        // The heading counts as a task, so the task after it must have the number after the next.
        assert_eq!(instructions(completion, false).0.len(), 4);
    }

    #[test]
    fn a_chat_model_may_repeat_where_the_prompt_ended() {
        let rest = " Name the days of the week.\n4. Input:\n<noinput>\n4. Output:\nMonday";
        assert_eq!(instructions(rest, false), instructions(&format!("\n4. Instruction:{rest}"), false));
        assert_eq!(instructions(rest, false).0, ["Name the days of the week."]);
    }

    /// The original's rules, on instructions that are at their edges.
    #[test]
    fn the_rules_are_the_original_ones() {
        let one = |instruction: &str| {
            let (found, dropped) = instructions(&format!(" {instruction}\n4. Input:\nx\n4. Output:\ny"), false);
            assert_eq!(found.len() + dropped.total(), 1);
            dropped.reasons().next().map(|(reason, _)| reason.to_string())
        };
        for kept in [
            "Explain photography to him",
            "Describe a profiled mapmaker here",
            "What is the capital filename",
            "Write the program of a concert",
            "Tell me about Videos games",
            "Rewrite it in graphical_graph form",
            "go  to is two spaces",
            &"word ".repeat(150),
        ] {
            assert_eq!(one(kept), None, "{kept}");
        }
        for (left_out, reason) in [
            ("Explain it well", "an instruction of three words or less"),
            ("", "an instruction of three words or less"),
            (&*"word ".repeat(151), "an instruction of more than 150 words"),
            ("Describe this IMAGE to me", "asks for what is no text"),
            ("Where do I go to learn", "asks for what is no text"),
            ("Sort the (files) by size", "asks for what is no text"),
            ("Delete the f\u{131}le from there", "asks for what is no text"),
            ("Write a program that sorts numbers", "begins with \"Write a program\""),
            ("\"Quote\" the following text here", "begins with punctuation"),
            ("Übersetze den Satz ins Englische", "begins with a character outside ASCII"),
        ] {
            assert_eq!(one(left_out).as_deref(), Some(reason), "{left_out}");
        }
    }

    /// Completions and what the original's own function makes of them; tests/fixtures/make_post_process.py says how they
    /// were made.
    #[test]
    fn awkward_completions_give_what_the_original_gives() {
        #[derive(Deserialize)]
        struct Case {
            text: String,
            finish_reason: String,
            tasks: Vec<Row>,
        }
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/fixtures/instruct/post_process.json")).unwrap();
        assert!(cases.len() > 150);
        for Case { text, finish_reason, tasks: expected } in cases {
            let found = tasks(&text, finish_reason == "length", &mut Dropped::default());
            assert_eq!(found, expected, "{text:?} {finish_reason}");
        }
    }
}
