//! `paddock score`: scores of a reward or cost model.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::records::{Place, Records, Scorable};
use paddock_engine::score::{self, Conversation, Scored};
use serde_json::{Map, Value, json};

use super::console;
use super::device::OpenDevice;
use super::options::ModelOptions;
use super::scorer::{HeadOptions, Judge, end_score, step_scores, token_scores};
use crate::files::read_values;
use crate::{Error, Result};

/// Number of lines with one conversation each that are scored together.
const ROWS_TOGETHER: usize = 16;

/// Score answers with a reward or cost model
#[derive(Debug, Args)]
pub(super) struct Score {
    #[command(flatten)]
    model: ModelOptions,
    /// The chat model whose trunk the score head uses, where the model at --model is a head alone
    #[arg(long, value_name = "PATH")]
    trunk: Option<PathBuf>,
    #[command(flatten)]
    head: HeadOptions,
    /// The question
    #[arg(long, value_name = "TEXT", requires = "response", required_unless_present = "input")]
    prompt: Option<String>,
    /// An answer to it; may be repeated
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    response: Vec<String>,
    /// Conversations to score, one JSON object a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "response"])]
    input: Option<PathBuf>,
    /// How a conversation becomes text: auto (the model's own chat template, else Safe-RLHF's for its models),
    /// safe-rlhf, alpaca, none
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Special tokens spelled out in conversations are those tokens, as in transformers, and not text
    #[arg(long)]
    allow_special: bool,
    /// Write the tokenizer's EOS after each answer, as in the training of Safe-RLHF's models
    #[arg(long)]
    append_eos: bool,
    /// Print the score after each token, too
    #[arg(long)]
    per_token: bool,
    /// Print one JSON object for each line of the input (or for the prompt) instead of a table
    #[arg(long)]
    json: bool,
}

impl Score {
    pub fn run(&self) -> Result<()> {
        match self.model.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(self.score(&cpu)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(self.score(&gpu)),
            OpenDevice::Cuda(cuda) => pollster::block_on(self.score(&cuda)),
        }
    }

    async fn score<B: Backend>(&self, backend: &B) -> Result<()> {
        let list = self.input.as_deref().map(list).transpose()?.flatten();
        let mut lines = self.input.as_deref().filter(|_| list.is_none()).map(open).transpose()?;
        let chat = match &self.trunk {
            Some(path) => Some(self.model.load_from(path, backend).await?),
            None => None,
        };
        // Of a head and its trunk, the trunk has the adapter.
        let adapter = self.model.adapter.as_deref().filter(|_| chat.is_none());
        let scorer = self.head.load(backend, &self.model.model, adapter, self.model.context, chat.as_ref()).await?;
        let template = scorer.template(self.template)?.allow_special(self.allow_special);
        let mut run = Run { options: self, scorer, template, waiting: Vec::new(), seen: 0, bad: 0 };
        match (list, &mut lines) {
            (Some(list), _) => run.list(list).await,
            (None, Some(lines)) => run.lines(lines).await,
            (None, None) => {
                let prompt = self.prompt.clone().unwrap_or_default();
                let row = json!({ "prompt": prompt, "responses": self.response });
                let messages = vec![Message::new(Role::User, prompt)];
                run.answers(Place::Record(1), row, &messages, &self.response).await
            }
        }
    }
}

/// The rows of a file that is a JSON list; `None` where rows are lines.
fn list(path: &Path) -> Result<Option<Records<Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)).map_err(Error::path("read", path))?;
    let begins = start.iter().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    if begins == Some(&b'[') { read_values(path).map(Some) } else { Ok(None) }
}

/// The lines of a file or of standard input.
fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(path).map_err(Error::path("read", path))?)))
}

/// A line that waits to be scored with others.
struct Waiting {
    place: Place,
    row: Value,
    conversation: Conversation,
}

struct Run<'a, B: Backend> {
    options: &'a Score,
    scorer: Judge<B>,
    template: Template,
    waiting: Vec<Waiting>,
    /// Rows that were read, and those of them that could not be scored.
    seen: usize,
    bad: usize,
}

impl<B: Backend> Run<'_, B> {
    async fn list(&mut self, Records { usable, refused, .. }: Records<Value>) -> Result<()> {
        self.seen = usable.len() + refused.len();
        refused.iter().for_each(|(place, problem)| self.refuse(*place, problem));
        for (place, row) in usable {
            self.rows(place, row).await?;
        }
        self.finish().await
    }

    async fn lines(&mut self, lines: &mut dyn BufRead) -> Result<()> {
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let read = lines.read_until(b'\n', &mut bytes);
            if read.map_err(|error| Error::Request(format!("cannot read the input: {error}")))? == 0 {
                break;
            }
            let place = Place::Line(line);
            // Some editors put a byte-order mark before the first line.
            let text = std::str::from_utf8(&bytes).map(|line| line.trim_start_matches('\u{feff}'));
            if text.is_ok_and(|text| text.trim().is_empty()) {
                continue;
            }
            self.seen += 1;
            match text {
                Ok(line) => match serde_json::from_str(line) {
                    Ok(row) => self.rows(place, row).await?,
                    Err(error) => self.refuse(place, &format!("it is not JSON ({error})")),
                },
                Err(_) => self.refuse(place, "it has bytes that are not UTF-8; save the file as UTF-8"),
            }
        }
        self.finish().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.flush().await?;
        match self.bad {
            0 => Ok(()),
            bad => Err(Error::Request(format!("{bad} of {} rows could not be scored", self.seen))),
        }
    }

    /// Scores a row, or the rows of a list in its place.
    async fn rows(&mut self, place: Place, row: Value) -> Result<()> {
        let Value::Array(rows) = row else { return self.row(place, row).await };
        for row in rows {
            self.row(place, row).await?;
        }
        Ok(())
    }

    async fn row(&mut self, place: Place, row: Value) -> Result<()> {
        let row = match Scorable::parse(&row) {
            Ok(parsed) => (parsed, row),
            Err(problem) => {
                self.refuse(place, &problem);
                return Ok(());
            }
        };
        let append_eos = self.options.append_eos;
        let (conversation, row) = match row {
            (Scorable::Answers { messages, answers }, row) => {
                self.flush().await?;
                // A conversation that does not fit only fails its own line; a lost device fails the run.
                return match self.answers(place, row, &messages, &answers).await {
                    Err(Error::Engine(error @ paddock_engine::Error::Request(_))) => {
                        self.refuse(place, &error.to_string());
                        Ok(())
                    }
                    result => result,
                };
            }
            (Scorable::Answer { messages, answer }, row) => {
                (self.scorer.conversation(&messages, &answer, &self.template, append_eos), row)
            }
            (Scorable::Text(text), row) => (self.scorer.text(&text), row),
        };
        match conversation {
            Ok(conversation) => self.waiting.push(Waiting { place, row, conversation }),
            Err(error) => self.refuse(place, &error.to_string()),
        }
        if self.waiting.len() >= ROWS_TOGETHER { self.flush().await } else { Ok(()) }
    }

    /// Scores and prints the waiting lines.
    async fn flush(&mut self) -> Result<()> {
        let (mut rows, mut conversations) = (Vec::new(), Vec::new());
        for Waiting { place, row, conversation } in self.waiting.drain(..) {
            rows.push((place, row));
            conversations.push(conversation);
        }
        let scored = self.scorer.score_conversations(conversations).await?;
        for ((place, row), scored) in rows.into_iter().zip(scored) {
            if self.options.json {
                self.print_json(row, |of| of(&scored))?;
            } else {
                self.print_table(place, &[scored])?;
            }
        }
        self.progress();
        Ok(())
    }

    /// Scores and prints several answers to one question.
    async fn answers(&mut self, place: Place, row: Value, messages: &[Message], answers: &[String]) -> Result<()> {
        let scored = self.scorer.score(messages, answers, &self.template, self.options.append_eos).await?;
        if self.options.json {
            self.print_json(row, |of| scored.iter().map(of).collect())?;
        } else {
            self.print_table(place, &scored)?;
        }
        self.progress();
        Ok(())
    }

    /// Prints the line's own fields and the scores, which are lists where the line has several answers.
    fn print_json(&self, row: Value, each: impl Fn(&dyn Fn(&Scored) -> Value) -> Value) -> Result<()> {
        let mut object = match row {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        object.insert("end_score".to_string(), each(&end_score));
        let steps = each(&|scored| step_scores(scored).unwrap_or_default());
        let is_empty = |value: &Value| value.as_array().is_none_or(|list| list.iter().all(Value::is_null));
        if !is_empty(&steps) {
            object.insert("step_scores".to_string(), steps);
        }
        if self.options.per_token {
            object.insert("scores".to_string(), each(&token_scores));
            object.insert("ids".to_string(), each(&|scored| json!(scored.ids)));
            object.insert("tokens".to_string(), each(&|scored| json!(self.tokens(scored))));
        }
        let mut output = io::stdout().lock();
        serde_json::to_writer(&mut output, &object).map_err(io::Error::from)?;
        writeln!(output)?;
        Ok(())
    }

    /// Prints a line for each answer (rank, score, first words) and, with --per-token, a line for each token.
    fn print_table(&self, place: Place, scored: &[Scored]) -> Result<()> {
        let mut output = io::stdout().lock();
        if self.options.input.is_some() {
            writeln!(output, "{place}")?;
        }
        writeln!(output, "{:>4}  {:>9}  answer", "rank", "score")?;
        for (scored, rank) in scored.iter().zip(ranks(scored)) {
            let answer = self.scorer.tokenizer().decode(&scored.ids[scored.answer_start..], false)?;
            writeln!(output, "{rank:>4}  {:>9}  {}", numbers(scored.end_score()), beginning(&answer))?;
            for (number, step) in scored.steps.iter().enumerate() {
                let scores = scored.scores.chunks(scored.score_dim.max(1)).nth(*step).unwrap_or_default();
                writeln!(output, "      {:>9}    step {}", numbers(scores), number + 1)?;
            }
            if self.options.per_token {
                let tokens = self.tokens(scored);
                for (token, scores) in tokens.iter().zip(scored.scores.chunks(scored.score_dim.max(1))) {
                    writeln!(output, "      {:>9}    {token}", numbers(scores))?;
                }
            }
        }
        Ok(())
    }

    fn tokens(&self, scored: &Scored) -> Vec<String> {
        scored.ids.iter().map(|id| self.scorer.tokenizer().token(*id).unwrap_or_default()).collect()
    }

    fn refuse(&mut self, place: Place, problem: &str) {
        self.bad += 1;
        console::note(format_args!("{place}: {problem}"));
    }

    /// Shows progress through a file on a terminal, when the scores are redirected.
    fn progress(&self) {
        if self.options.input.is_some() && io::stderr().is_terminal() && !io::stdout().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K{} rows scored", self.seen - self.bad);
        }
    }
}

/// The rank of each by its first end score.
pub(super) fn ranks(scored: &[Scored]) -> Vec<usize> {
    let first = |scored: &Scored| scored.end_score().first().copied().unwrap_or(f32::NEG_INFINITY);
    score::ranks(&scored.iter().map(first).collect::<Vec<_>>())
}

/// Scores as text.
pub(super) fn numbers(scores: &[f32]) -> String {
    let scores: Vec<String> = scores.iter().map(|score| format!("{score:.4}")).collect();
    scores.join(" ")
}

/// The beginning of an answer, on one line.
pub(super) fn beginning(text: &str) -> String {
    const LENGTH: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_are_cut_between_characters() {
        assert_eq!(beginning("a\n b"), "a b");
        assert_eq!(beginning(&"ü".repeat(80)), format!("{}…", "ü".repeat(60)));
    }
}
