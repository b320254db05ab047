//! The lines of a `metrics.jsonl`: one JSON object per step.

use serde_json::Value;

/// A quantity that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// The field of a line.
    pub field: &'static str,
    /// Its name for people.
    pub title: &'static str,
}

/// Everything that is drawn, in order.
pub const QUANTITIES: [Quantity; 7] = [
    Quantity { field: "loss", title: "Loss" },
    Quantity { field: "eval_loss", title: "Evaluation loss" },
    Quantity { field: "accuracy", title: "Accuracy" },
    Quantity { field: "eval_accuracy", title: "Evaluation accuracy" },
    Quantity { field: "learning_rate", title: "Learning rate" },
    Quantity { field: "grad_norm", title: "Gradient norm" },
    Quantity { field: "tokens_per_s", title: "Tokens per second" },
];

/// One line.
#[derive(Debug, Clone, PartialEq)]
struct StepMetrics {
    step: u64,
    /// One for each of [`QUANTITIES`].
    values: [Option<f64>; QUANTITIES.len()],
}

/// The metrics of a run so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    rows: Vec<StepMetrics>,
    /// The number of lines that are not metrics.
    bad_lines: usize,
    /// The beginning of an incomplete line.
    rest: Vec<u8>,
}

impl Metrics {
    /// Adds more of the file. A line counts once it is complete.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match row(line) {
                Some(row) => self.add(row),
                None => self.bad_lines += 1,
            }
        }
    }

    /// A resumed run logs some steps again; the latest values count.
    fn add(&mut self, row: StepMetrics) {
        match self.rows.last_mut() {
            // Training and evaluation of one step may come in two lines.
            Some(last) if last.step == row.step => {
                last.values.iter_mut().zip(row.values).for_each(|(old, new)| *old = new.or(*old));
            }
            _ => {
                let kept = self.rows.partition_point(|old| old.step < row.step);
                self.rows.truncate(kept);
                self.rows.push(row);
            }
        }
    }

    /// Steps and values of a quantity.
    pub fn points(&self, quantity: usize) -> Vec<(f64, f64)> {
        self.rows.iter().filter_map(|row| Some((row.step as f64, row.values[quantity]?))).collect()
    }

    /// The last step; `None` before the first line.
    pub fn last_step(&self) -> Option<u64> {
        self.rows.last().map(|row| row.step)
    }

    /// The last value of a quantity at or before `step`.
    pub fn value_at(&self, quantity: usize, step: u64) -> Option<f64> {
        let end = self.rows.partition_point(|row| row.step <= step);
        self.rows[..end].iter().rev().find_map(|row| row.values[quantity])
    }

    /// The number of lines that are not metrics.
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }
}

fn row(line: &[u8]) -> Option<StepMetrics> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let step = line.get("step")?.as_u64()?;
    let values = QUANTITIES.map(|quantity| line.get(quantity.field)?.as_f64());
    values.iter().any(Option::is_some).then_some(StepMetrics { step, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: usize = 0;

    #[test]
    fn lines_count_when_they_are_complete() {
        let mut metrics = Metrics::default();
        metrics.push(b"{\"step\": 1, \"loss\": 2.5, \"grad_norm\": 1}\n{\"step\": 2, \"lo");
        assert_eq!(metrics.points(LOSS), [(1.0, 2.5)]);
        metrics.push(b"ss\": 2.25}\n");
        assert_eq!(metrics.points(LOSS), [(1.0, 2.5), (2.0, 2.25)]);
        assert_eq!((metrics.last_step(), metrics.bad_lines()), (Some(2), 0));
        assert_eq!(metrics.value_at(5, 2), Some(1.0));
        assert_eq!(metrics.value_at(LOSS, 0), None);
    }

    #[test]
    fn what_is_no_metric_is_counted_and_passed_over() {
        let mut metrics = Metrics::default();
        metrics.push(b"hello\n\n[1]\n{\"step\": -1, \"loss\": 1}\n{\"step\": 3}\n{\"step\": 4, \"loss\": null, \"eval_loss\": 2}\n");
        assert_eq!(metrics.bad_lines(), 4);
        assert_eq!(metrics.points(1), [(4.0, 2.0)]);
        assert!(metrics.points(LOSS).is_empty());
    }

    #[test]
    fn a_resumed_run_replaces_what_it_tells_again() {
        let mut metrics = Metrics::default();
        for (step, loss) in [(1, 9.0), (2, 8.0), (3, 7.0), (2, 6.0), (3, 5.0)] {
            metrics.push(format!("{{\"step\":{step},\"loss\":{loss}}}\n").as_bytes());
        }
        assert_eq!(metrics.points(LOSS), [(1.0, 9.0), (2.0, 6.0), (3.0, 5.0)]);
        metrics.push(b"{\"step\":3,\"eval_loss\":4}\n");
        assert_eq!(metrics.value_at(LOSS, 3), Some(5.0));
        assert_eq!(metrics.value_at(1, 3), Some(4.0));
    }
}
