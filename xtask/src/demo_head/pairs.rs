//! Preference pairs from tasks with reference answers: the reference against something worse.

use serde_json::{Value, json};
use xtask::Result;

/// The kinds of worse answers, and what they are for people.
pub const KINDS: [(&str, &str); 4] = [
    ("another", "the answer to another task"),
    ("truncated", "the first half of the reference"),
    ("shuffled", "the reference's words in another order"),
    ("echo", "the task repeated"),
];

/// A task with its reference answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    prompt: String,
    answer: String,
}

impl Task {
    /// What is asked.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The reference answer.
    pub fn answer(&self) -> &str {
        &self.answer
    }
}

/// A reference answer and a worse one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Which task it is of.
    pub task: usize,
    /// One of [`KINDS`].
    pub kind: &'static str,
    prompt: String,
    better: String,
    worse: String,
    /// Where the better answer stands.
    better_id: usize,
}

impl Pair {
    /// Words of the longer of the two.
    pub fn words(&self) -> usize {
        let words = [&self.better, &self.worse].map(|answer| answer.split_whitespace().count());
        words.into_iter().max().unwrap_or_default()
    }

    /// A row as PKU-SafeRLHF writes them.
    pub fn row(&self) -> Value {
        let mut responses = [self.better.as_str(), &self.worse];
        if self.better_id == 1 {
            responses.reverse();
        }
        json!({
            "prompt": self.prompt, "response_0": responses[0], "response_1": responses[1],
            "better_response_id": self.better_id, "kind": self.kind,
        })
    }
}

/// Reads `seed_tasks.jsonl`: of each task its first instance.
pub fn tasks(text: &str) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let task = serde_json::from_str(line).ok().and_then(|value| task(&value));
        tasks.push(task.ok_or_else(|| {
            format!("line {}: expected \"instruction\" and \"instances\" with \"input\" and \"output\"", index + 1)
        })?);
    }
    if tasks.len() < 2 { Err("expected at least two tasks".to_string()) } else { Ok(tasks) }
}

fn task(value: &Value) -> Option<Task> {
    let instruction = value["instruction"].as_str()?.trim();
    let instance = &value["instances"][0];
    let input = instance["input"].as_str().unwrap_or_default().trim();
    let prompt = if input.is_empty() { instruction.to_string() } else { format!("{instruction}\n\n{input}") };
    Some(Task { prompt, answer: instance["output"].as_str()?.trim().to_string() })
}

/// A pair of each kind for each task, where the reference is long enough to be spoilt in that way.
pub fn derive(tasks: &[Task]) -> Vec<Pair> {
    let mut draws = Draws(0x9e37_79b9_7f4a_7c15);
    let mut pairs = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let words: Vec<&str> = task.answer.split(' ').collect();
        for (kind, _) in KINDS {
            let worse = match kind {
                "another" => tasks[(index + 1 + draws.below(tasks.len() - 1)) % tasks.len()].answer.clone(),
                "truncated" if words.len() >= 6 => words[..words.len() / 2].join(" "),
                "shuffled" if words.len() >= 4 => shuffled(&words, &mut draws),
                "echo" => task.prompt.clone(),
                _ => continue,
            };
            if worse != task.answer {
                let better_id = draws.below(2);
                let (prompt, better) = (task.prompt.clone(), task.answer.clone());
                pairs.push(Pair { task: index, kind, prompt, better, worse, better_id });
            }
        }
    }
    pairs
}

fn shuffled(words: &[&str], draws: &mut Draws) -> String {
    let mut words = words.to_vec();
    for last in (1..words.len()).rev() {
        words.swap(last, draws.below(last + 1));
    }
    words.join(" ")
}

/// SplitMix64 (Steele, Lea & Flood 2014): the same pairs on every machine.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &str = r#"{"instruction":"Add.","instances":[{"input":"1 and 2","output":"3"}]}
{"instruction":"List four fruits.","instances":[{"input":"","output":"Apples, pears, cherries and plums are fruits."}]}
"#;

    #[test]
    fn every_kind_is_worse_in_its_own_way() {
        let tasks = tasks(TASKS).unwrap();
        let pairs = derive(&tasks);
        let kinds: Vec<(usize, &str)> = pairs.iter().map(|pair| (pair.task, pair.kind)).collect();
        assert_eq!(
            kinds,
            [(0, "another"), (0, "echo"), (1, "another"), (1, "truncated"), (1, "shuffled"), (1, "echo")]
        );
        assert_eq!(pairs[1].worse, "Add.\n\n1 and 2");
        assert_eq!(pairs[2].worse, "3");
        assert_eq!(pairs[3].worse, "Apples, pears, cherries");
        assert_eq!([1, 2, 3].map(|index: usize| pairs[index].words()), [4, 7, 7]);
        assert_eq!(pairs, derive(&tasks), "the same on every run");
    }

    #[test]
    fn a_row_tells_which_is_better() {
        for pair in derive(&tasks(TASKS).unwrap()) {
            let row = pair.row();
            let better = row["better_response_id"].as_u64().unwrap();
            assert_eq!(row[format!("response_{better}")], pair.better.as_str());
            assert_eq!(row[format!("response_{}", 1 - better)], pair.worse.as_str());
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(tasks("{}\n").unwrap_err().starts_with("line 1"));
        assert!(tasks("").is_err());
    }
}
