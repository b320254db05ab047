//! Which verbs and objects a set of instructions has, as a table; the picture is in sunburst.rs.

use std::collections::HashMap;
use std::fmt::Write;

use serde::Serialize;

use super::verbs::{Request, request};

/// Verbs of the inner ring.
const VERBS: usize = 20;
/// Objects of each in the outer ring.
const OBJECTS: usize = 4;

/// Verbs with their objects, the most frequent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diversity {
    /// All instructions.
    pub instructions: usize,
    /// Those in which a verb with an object was found; only they are counted below.
    pub with_object: usize,
    /// Different pairs of verb and object.
    pub pairs: usize,
    /// The most frequent verbs.
    pub verbs: Vec<Verb>,
}

/// A verb of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verb {
    /// Its base form.
    pub verb: String,
    /// Instructions that have it, with any object.
    pub count: usize,
    /// Its most frequent objects, and how often each occurs with it.
    pub objects: Vec<(String, usize)>,
}

impl Diversity {
    /// Counts what `instructions` ask for.
    pub fn of<'a>(instructions: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut all, mut with_object) = (0, 0);
        let mut verbs: HashMap<String, HashMap<String, usize>> = HashMap::new();
        for instruction in instructions {
            all += 1;
            if let Some(Request { verb, object: Some(object) }) = request(instruction) {
                with_object += 1;
                *verbs.entry(verb).or_default().entry(object).or_default() += 1;
            }
        }
        let pairs = verbs.values().map(HashMap::len).sum();
        let verbs = verbs.into_iter().map(|(verb, objects)| {
            let count = objects.values().sum();
            Verb { verb, count, objects: most_frequent(objects, OBJECTS) }
        });
        let mut verbs: Vec<Verb> = verbs.collect();
        verbs.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.verb.cmp(&b.verb)));
        verbs.truncate(VERBS);
        Self { instructions: all, with_object, pairs, verbs }
    }

    /// How many of all instructions with a verb and its object `count` of them are: `12.5 %`.
    pub fn share(&self, count: usize) -> String {
        format!("{:.1} %", 100.0 * count as f64 / self.with_object.max(1) as f64)
    }

    /// The table as text, a verb a line.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{} instructions, {} with a verb and its object, {} different pairs\n",
            self.instructions, self.with_object, self.pairs
        );
        for Verb { verb, count, objects } in &self.verbs {
            let objects: Vec<String> = objects.iter().map(|(object, count)| format!("{object} {count}")).collect();
            let _ = writeln!(table, "{verb:<14}{count:>7}  {}", objects.join(", "));
        }
        table
    }
}

/// The first `count` of `counts`, the greatest first; equal ones in the order of their names.
fn most_frequent(counts: HashMap<String, usize>, count: usize) -> Vec<(String, usize)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(count);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_objects_are_counted() {
        let write = [
            "Write a story.",
            "Write a story about rain.",
            "Write a poem.",
            "Please write two poems!",
            "Write an essay.",
        ];
        let more = ["Name three colours.", "What is the capital of France?", "Describe the picture."];
        let diversity = Diversity::of(write.into_iter().chain(more));
        assert_eq!((diversity.instructions, diversity.with_object, diversity.pairs), (8, 7, 5));
        let write = &diversity.verbs[0];
        assert_eq!((write.verb.as_str(), write.count), ("write", 5));
        let objects: Vec<_> = write.objects.iter().map(|(object, count)| (object.as_str(), *count)).collect();
        assert_eq!(objects, [("poem", 2), ("story", 2), ("essay", 1)]);
        assert!(diversity.table().contains("write               5  poem 2, story 2, essay 1"), "{}", diversity.table());
    }
}
