//! What the Score page works on: prompts with their answers, and the lines of JSON they come from and go to.

use paddock_engine::prompt::Message;
use paddock_engine::records::Scorable;
use paddock_engine::score::ranks;
use serde_json::{Map, Value, json};

use crate::protocol::Scored;
use crate::scale::{ScoreScale, answer_scores};

/// A prompt and the answers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetRow {
    /// The prompt.
    pub prompt: String,
    /// At least one.
    pub answers: Vec<SheetAnswer>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetAnswer {
    /// Its own in the sheet.
    pub id: usize,
    /// What it says.
    pub text: String,
    /// Its scores, until it or its prompt changes.
    pub scored: Option<Scored>,
}

/// All prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// At least one.
    rows: Vec<SheetRow>,
    /// The row that is shown.
    current: usize,
    next_id: usize,
}

impl Default for Sheet {
    /// One empty row.
    fn default() -> Self {
        let mut sheet = Self { rows: Vec::new(), current: 0, next_id: 0 };
        sheet.push(String::new(), [String::new(), String::new()]);
        sheet
    }
}

impl Sheet {
    /// Every row; at least one.
    pub fn rows(&self) -> &[SheetRow] {
        &self.rows
    }

    /// Which row is shown.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The row that is shown.
    pub fn row(&self) -> &SheetRow {
        &self.rows[self.current]
    }

    /// Shows another row, or the last.
    pub fn show(&mut self, index: usize) {
        self.current = index.min(self.rows.len() - 1);
    }

    /// Changes the prompt of the row that is shown.
    pub fn set_prompt(&mut self, prompt: String) {
        let row = &mut self.rows[self.current];
        row.prompt = prompt;
        for answer in &mut row.answers {
            answer.scored = None;
        }
    }

    /// Changes an answer of the row that is shown.
    pub fn set_answer(&mut self, id: usize, text: String) {
        if let Some(answer) = self.rows[self.current].answers.iter_mut().find(|answer| answer.id == id) {
            answer.text = text;
            answer.scored = None;
        }
    }

    /// Adds an empty answer to the row that is shown.
    pub fn add_answer(&mut self) {
        let answer = self.answer(String::new());
        self.rows[self.current].answers.push(answer);
    }

    /// Removes an answer from the row that is shown, unless it is the only one.
    pub fn remove_answer(&mut self, id: usize) {
        let answers = &mut self.rows[self.current].answers;
        if answers.len() > 1 {
            answers.retain(|answer| answer.id != id);
        }
    }

    /// Gives the answers of row `index` their scores, in order.
    pub fn set_scores(&mut self, index: usize, scored: Vec<Scored>) {
        if let Some(row) = self.rows.get_mut(index) {
            for (answer, scored) in row.answers.iter_mut().zip(scored) {
                answer.scored = Some(scored);
            }
        }
    }

    /// Removes every score; they were made with other settings than the next ones.
    pub fn forget_scores(&mut self) {
        for answer in self.rows.iter_mut().flat_map(|row| &mut row.answers) {
            answer.scored = None;
        }
    }

    /// Replaces the rows by those of `text`, JSON Lines as [`Scorable`] reads them, of one turn each; other fields are
    /// ignored. Returns a sentence for each line that is something else; if no line is valid, the rows stay as they were.
    pub fn import(&mut self, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut sheet = Self { rows: Vec::new(), current: 0, next_id: self.next_id };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match read_line(line) {
                Ok((prompt, answers)) => sheet.push(prompt, answers),
                Err(problem) => problems.push(format!("Line {}: {problem}.", index + 1)),
            }
        }
        if !sheet.rows.is_empty() {
            *self = sheet;
        } else if problems.is_empty() {
            problems.push("The file is empty; expected one line of JSON for each prompt.".to_string());
        }
        problems
    }

    /// JSON Lines, one for each row, which [`Sheet::import`] reads again. Scored rows have `end_score`, `scores`, `ids`
    /// and `tokens`; where a row has `responses`, these are lists in the same order.
    pub fn export(&self) -> String {
        self.rows.iter().map(|row| format!("{}\n", row.to_json())).collect()
    }

    fn push(&mut self, prompt: String, answers: impl IntoIterator<Item = String>) {
        let answers = answers.into_iter().map(|text| self.answer(text)).collect();
        self.rows.push(SheetRow { prompt, answers });
    }

    fn answer(&mut self, text: String) -> SheetAnswer {
        self.next_id += 1;
        SheetAnswer { id: self.next_id, text, scored: None }
    }
}

impl SheetRow {
    /// The rank of each answer by its score, counted from 1; `None` until all have scores.
    pub fn ranks(&self) -> Option<Vec<usize>> {
        let scores: Option<Vec<f32>> =
            self.answers.iter().map(|answer| Some(answer.scored.as_ref()?.rank_score())).collect();
        scores.map(|scores| ranks(&scores))
    }

    /// The scale for the colours of all answers' tokens.
    pub fn scale(&self) -> Option<ScoreScale> {
        let scored = self.answers.iter().filter_map(|answer| answer.scored.as_ref());
        ScoreScale::of(scored.flat_map(answer_scores).map(|(_, score)| score))
    }

    fn to_json(&self) -> Value {
        let texts = self.answers.iter().map(|answer| json!(answer.text));
        let mut line = Map::new();
        line.insert("prompt".to_string(), json!(self.prompt));
        line.insert(if self.answers.len() == 1 { "response" } else { "responses" }.to_string(), list(texts));
        let scored: Option<Vec<&Scored>> = self.answers.iter().map(|answer| answer.scored.as_ref()).collect();
        if let Some(scored) = scored {
            let mut insert = |name: &str, field: &dyn Fn(&Scored) -> Value| {
                line.insert(name.to_string(), list(scored.iter().map(|scored| field(scored))));
            };
            insert("end_score", &|scored| numbers(scored.end_score()));
            insert("scores", &|scored| scored.scores.chunks(scored.score_dim.max(1)).map(numbers).collect());
            insert("ids", &|scored| json!(scored.ids));
            insert("tokens", &|scored| json!(scored.tokens));
        }
        Value::Object(line)
    }
}

/// The scores of one token: a list, or a number if there is only one.
fn numbers(scores: &[f32]) -> Value {
    list(scores.iter().map(|score| json!(score)))
}

/// The values as a list, or the value itself if there is only one.
fn list(values: impl Iterator<Item = Value>) -> Value {
    let mut values: Vec<Value> = values.collect();
    if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
}

fn read_line(line: &str) -> Result<(String, Vec<String>), String> {
    let value: Value = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        // The error counts lines within this one; the caller names the line of the file.
        format!("it is not JSON ({})", text.split(" at line").next().unwrap_or(&text))
    })?;
    let (messages, answers) = match Scorable::parse(&value)? {
        Scorable::Answer { messages, answer } => (messages, vec![answer]),
        Scorable::Answers { messages, answers } => (messages, answers),
        Scorable::Text(_) => return Err("a whole conversation as text has no prompt to show here".to_string()),
    };
    match <[Message; 1]>::try_from(messages) {
        Ok([prompt]) => Ok((prompt.content, answers)),
        Err(_) => Err("a conversation of several turns does not fit here; `paddock score` takes it".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"prompt":"p","response":"one"}
{"prompt":"q","responses":["x","y","z"],"better_response_id":1}

{"prompt":"r","response_0":"no","response_1":"yes","is_response_0_safe":true}
"#;

    fn scored(scores: &[f32]) -> Scored {
        Scored {
            ids: (0..scores.len() as u32).collect(),
            tokens: scores.iter().map(f32::to_string).collect(),
            texts: vec![String::new(); scores.len()],
            scores: scores.to_vec(),
            score_dim: 1,
            answer_start: 1,
            end: scores.len() - 1,
        }
    }

    fn texts(sheet: &Sheet) -> Vec<(String, Vec<String>)> {
        let answers = |row: &SheetRow| row.answers.iter().map(|answer| answer.text.clone()).collect();
        sheet.rows().iter().map(|row| (row.prompt.clone(), answers(row))).collect()
    }

    #[test]
    fn what_is_exported_can_be_imported() {
        let mut sheet = Sheet::default();
        assert_eq!(sheet.import(LINES), Vec::<String>::new());
        let expected = [("p", vec!["one"]), ("q", vec!["x", "y", "z"]), ("r", vec!["no", "yes"])]
            .map(|(prompt, answers)| (prompt.to_string(), answers.into_iter().map(str::to_string).collect()));
        assert_eq!(texts(&sheet), expected);
        sheet.set_scores(0, vec![scored(&[0.5, -1.25])]);
        sheet.set_scores(2, vec![scored(&[0.5, 1.0]), scored(&[0.5, 2.0])]);
        let export = sheet.export();
        let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["end_score"], &lines[0]["scores"]), (&json!(-1.25), &json!([0.5, -1.25])));
        assert_eq!((&lines[0]["ids"], &lines[0]["tokens"]), (&json!([0, 1]), &json!(["0.5", "-1.25"])));
        assert_eq!(lines[1].get("end_score"), None);
        assert_eq!(lines[2]["end_score"], json!([1.0, 2.0]));
        let mut again = Sheet::default();
        assert_eq!(again.import(&export), Vec::<String>::new());
        assert_eq!(texts(&again), texts(&sheet));
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_go_on() {
        let mut sheet = Sheet::default();
        let text =
            "{\"prompt\":1}\n{oops\n{\"prompt\":\"p\",\"responses\":[]}\n{\"prompt\":\"p\",\"response\":\"a\"}\n[]";
        let problems = sheet.import(text);
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, start) in problems.iter().zip(["Line 1: ", "Line 2: it is not JSON", "Line 3: ", "Line 5: "]) {
            assert!(problem.starts_with(start) && problem.ends_with('.'), "{problem}");
        }
        assert_eq!(texts(&sheet), [("p".to_string(), vec!["a".to_string()])]);
        let before = sheet.clone();
        assert_eq!(sheet.import("\n").len(), 1);
        assert_eq!(sheet.import("null").len(), 1);
        assert_eq!(sheet, before);
    }

    #[test]
    fn a_change_takes_the_scores_with_it() {
        let mut sheet = Sheet::default();
        let [a, b] = [0, 1].map(|index: usize| sheet.row().answers[index].id);
        sheet.set_scores(0, vec![scored(&[1.0]), scored(&[2.0])]);
        assert_eq!(sheet.row().ranks(), Some(vec![2, 1]));
        sheet.set_answer(a, "new".to_string());
        assert_eq!((sheet.row().ranks(), sheet.row().answers[1].scored.is_some()), (None, true));
        sheet.set_prompt("p".to_string());
        assert!(sheet.row().answers.iter().all(|answer| answer.scored.is_none()));
        sheet.add_answer();
        sheet.remove_answer(a);
        sheet.remove_answer(b);
        assert_eq!(sheet.row().answers.len(), 1);
        let last = sheet.row().answers[0].id;
        assert!(last != a && last != b);
        sheet.remove_answer(last);
        assert_eq!(sheet.row().answers.len(), 1, "there is always something to write into");
    }

    #[test]
    fn the_scale_spans_the_answers_tokens() {
        let mut sheet = Sheet::default();
        assert_eq!(sheet.row().scale(), None);
        // The first token is the prompt's.
        sheet.set_scores(0, vec![scored(&[9.0, -1.0, 0.0]), scored(&[-9.0, 3.0])]);
        let scale = sheet.row().scale().unwrap();
        assert_eq!((scale.min, scale.middle(), scale.max), (-1.0, 1.0, 3.0));
        assert_eq!([-1.0, 0.0, 1.0, 3.0, 9.0].map(|score| scale.place(score)), [-1.0, -0.5, 0.0, 1.0, 1.0]);
        assert_eq!(ScoreScale { min: 2.0, max: 2.0 }.place(2.0), 0.0);
    }
}
