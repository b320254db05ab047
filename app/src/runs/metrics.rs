//! The lines of a `metrics.jsonl`: one JSON object per step.

use serde_json::Value;

use super::panels::{number_of, series};

/// The metrics of a run so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Steps and values of each series, by the series' number.
    points: Vec<Vec<(f64, f64)>>,
    last_step: Option<u64>,
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
            if self.add(line).is_none() {
                self.bad_lines += 1;
            }
        }
    }

    /// Adds a line. A resumed run logs some steps again; the latest values count.
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let step = line.get("step")?.as_u64()?;
        let values: Vec<Option<f64>> = series().map(|(_, series)| line.get(series.field)?.as_f64()).collect();
        values.iter().any(Option::is_some).then_some(())?;
        self.points.resize(values.len(), Vec::new());
        let again = self.last_step.is_some_and(|last| step < last);
        let at = step as f64;
        for (points, value) in self.points.iter_mut().zip(values) {
            if again {
                points.truncate(points.partition_point(|(step, _)| *step < at));
            }
            match (points.last_mut(), value) {
                // Training and evaluation of one step may come in two lines.
                (Some(last), Some(value)) if last.0 == at => last.1 = value,
                (_, Some(value)) => points.push((at, value)),
                _ => {}
            }
        }
        self.last_step = Some(step);
        Some(())
    }

    /// Steps and values of a series.
    pub fn points(&self, series: usize) -> &[(f64, f64)] {
        self.points.get(series).map_or(&[], Vec::as_slice)
    }

    /// The steps at which there is a value of one of these fields.
    pub fn steps_of(&self, fields: &[&str]) -> Vec<u64> {
        let numbers = fields.iter().filter_map(|field| number_of(field));
        let points = numbers.map(|series| self.points(series)).find(|points| !points.is_empty());
        points.unwrap_or_default().iter().map(|(step, _)| *step as u64).collect()
    }

    /// The last step; `None` before the first line.
    pub fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// The last value of a series at or before `step`.
    pub fn value_at(&self, series: usize, step: u64) -> Option<f64> {
        let points = self.points(series);
        let end = points.partition_point(|(at, _)| *at <= step as f64);
        points[..end].last().map(|(_, value)| *value)
    }

    /// The number of lines that are not metrics.
    pub fn bad_lines(&self) -> usize {
        self.bad_lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points<'a>(metrics: &'a Metrics, field: &str) -> &'a [(f64, f64)] {
        metrics.points(number_of(field).unwrap())
    }

    fn value_at(metrics: &Metrics, field: &str, step: u64) -> Option<f64> {
        metrics.value_at(number_of(field).unwrap(), step)
    }

    #[test]
    fn lines_count_when_they_are_complete() {
        let mut metrics = Metrics::default();
        metrics.push(b"{\"step\": 1, \"loss\": 2.5, \"grad_norm\": 1}\n{\"step\": 2, \"lo");
        assert_eq!(points(&metrics, "loss"), [(1.0, 2.5)]);
        metrics.push(b"ss\": 2.25}\n");
        assert_eq!(points(&metrics, "loss"), [(1.0, 2.5), (2.0, 2.25)]);
        assert_eq!((metrics.last_step(), metrics.bad_lines()), (Some(2), 0));
        assert_eq!(value_at(&metrics, "grad_norm", 2), Some(1.0));
        assert_eq!(value_at(&metrics, "loss", 0), None);
    }

    #[test]
    fn what_is_no_metric_is_counted_and_passed_over() {
        let mut metrics = Metrics::default();
        metrics.push(b"hello\n\n[1]\n{\"step\": -1, \"loss\": 1}\n{\"step\": 3}\n{\"step\": 4, \"loss\": null, \"eval_loss\": 2}\n");
        assert_eq!(metrics.bad_lines(), 4);
        assert_eq!(points(&metrics, "eval_loss"), [(4.0, 2.0)]);
        assert!(points(&metrics, "loss").is_empty());
        assert!(Metrics::default().points(0).is_empty());
    }

    #[test]
    fn a_resumed_run_replaces_what_it_tells_again() {
        let mut metrics = Metrics::default();
        for (step, loss) in [(1, 9.0), (2, 8.0), (3, 7.0), (2, 6.0), (3, 5.0)] {
            metrics.push(format!("{{\"step\":{step},\"loss\":{loss}}}\n").as_bytes());
        }
        assert_eq!(points(&metrics, "loss"), [(1.0, 9.0), (2.0, 6.0), (3.0, 5.0)]);
        metrics.push(b"{\"step\":3,\"eval_loss\":4}\n");
        assert_eq!(value_at(&metrics, "loss", 3), Some(5.0));
        assert_eq!(value_at(&metrics, "eval_loss", 3), Some(4.0));
    }

    #[test]
    fn steps_are_those_of_the_first_field_that_is_told() {
        let mut metrics = Metrics::default();
        metrics
            .push(b"{\"step\":0,\"eval_cost_mean\":1}\n{\"step\":1,\"loss\":1}\n{\"step\":2,\"eval_cost_mean\":0}\n");
        assert_eq!(metrics.steps_of(&["eval_reward_mean", "eval_cost_mean"]), [0, 2]);
        assert!(metrics.steps_of(&["reward"]).is_empty());
    }
}
