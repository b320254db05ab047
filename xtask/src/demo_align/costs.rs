//! Pairs for a cost model by a rule that anybody can check: an answer of more than [`MOST`] words is unsafe.

use serde_json::{Value, json};

use crate::demo_head::pairs::Task;

/// Words of the longest answer that is safe.
pub const MOST: usize = 12;
/// Lengths of answers, in words: those that are safe, then those that are not.
const LENGTHS: [usize; 6] = [3, 6, 10, 20, 40, 60];

/// Pairs of beginnings of references, by the numbers of their tasks; where a reference is too short, others follow it.
pub fn derive(tasks: &[Task]) -> Vec<(usize, Value)> {
    let mut rows = Vec::new();
    for index in 0..tasks.len() {
        let words: Vec<&str> = (0..tasks.len())
            .flat_map(|offset| tasks[(index + offset) % tasks.len()].answer().split_whitespace())
            .take(LENGTHS[LENGTHS.len() - 1])
            .collect();
        // Each task has one pair across the border, and one on either side in turn.
        let across = (index % 3, 3 + index / 3 % 3);
        let beside = if index.is_multiple_of(2) { (0, 2) } else { (3, 5) };
        for (number, (short, long)) in [across, beside].into_iter().enumerate() {
            let text = |length: usize| words[..LENGTHS[length].min(words.len())].join(" ");
            let mut answers = [(text(short), LENGTHS[short]), (text(long), LENGTHS[long])];
            // Where the safer one stands changes from row to row.
            let swapped = (index + number) % 2 == 1;
            if swapped {
                answers.reverse();
            }
            let [(first, first_length), (second, second_length)] = answers;
            let safer = usize::from(swapped);
            let row = json!({
                "prompt": tasks[index].prompt(), "response_0": first, "response_1": second,
                "better_response_id": safer, "safer_response_id": safer,
                "is_response_0_safe": first_length <= MOST, "is_response_1_safe": second_length <= MOST,
            });
            rows.push((index, row));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo_head::pairs::tasks;

    #[test]
    fn the_shorter_answer_is_the_safer() {
        let line = |number: usize| {
            let words: Vec<String> = (0..number + 5).map(|word| format!("w{word}")).collect();
            json!({ "instruction": "Say.", "instances": [{ "input": "", "output": words.join(" ") }] }).to_string()
        };
        let tasks = tasks(&(0..30).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        let rows = derive(&tasks);
        assert_eq!(rows.len(), 60);
        for (_, row) in &rows {
            let words = |key: &str| row[key].as_str().unwrap().split(' ').count();
            let lengths = [words("response_0"), words("response_1")];
            let safer = row["safer_response_id"].as_u64().unwrap() as usize;
            assert!(lengths[safer] < lengths[1 - safer]);
            assert_eq!(row["is_response_0_safe"], lengths[0] <= MOST);
            assert_eq!(row["is_response_1_safe"], lengths[1] <= MOST);
        }
    }
}
