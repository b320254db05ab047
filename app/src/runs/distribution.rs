//! How a score model's scores were spread in an evaluation: what an `evaluation-N.json` says.

use serde_json::Value;

/// The scores of some answers, in bins of equal width.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last one ends.
    pub high: f64,
    /// Sets of answers by name, with the number of scores in each bin.
    pub sets: Vec<(String, Vec<f64>)>,
    /// What else the report counts, by name.
    pub facts: Vec<(&'static str, f64)>,
}

impl Distribution {
    /// Reads a report.
    ///
    /// # Errors
    /// One sentence when it has no distribution.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::find(bytes).ok_or_else(|| "This evaluation's file has no distribution of scores.".to_string())
    }

    fn find(bytes: &[u8]) -> Option<Self> {
        let report: Value = serde_json::from_slice(bytes).ok()?;
        let own = report.get("distribution")?;
        let set = |set: &Value| {
            let counts = set.get("counts")?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()?;
            Some((set.get("name")?.as_str()?.to_string(), counts))
        };
        let sets = own.get("sets")?.as_array()?.iter().map(set).collect::<Option<Vec<_>>>()?;
        let (low, high) = (own.get("low")?.as_f64()?, own.get("high")?.as_f64()?);
        let named = [
            ("/pairs", "Pairs"),
            ("/accuracy", "Accuracy"),
            ("/accuracy_sign", "Accuracy of signs"),
            ("/mean", "Mean"),
            ("/std", "Deviation"),
            ("/calibration/expected_error", "Calibration error"),
        ];
        let facts =
            named.into_iter().filter_map(|(path, name)| Some((name, report.pointer(path)?.as_f64()?))).collect();
        (high > low && sets.iter().any(|(_, counts)| !counts.is_empty())).then_some(Self { low, high, sets, facts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = r#"{"pairs": 3, "accuracy": 0.5, "mean": 0.25, "distribution":
            {"low": -1, "high": 1, "sets": [{"name": "better answers", "counts": [0, 3]}, {"name": "other answers", "counts": [2, 1]}]}}"#;
        let found = Distribution::read(report.as_bytes()).unwrap();
        assert_eq!((found.low, found.high), (-1.0, 1.0));
        assert_eq!(found.sets[1], ("other answers".to_string(), vec![2.0, 1.0]));
        assert_eq!(found.facts, [("Pairs", 3.0), ("Accuracy", 0.5), ("Mean", 0.25)]);
    }

    #[test]
    fn a_report_without_a_distribution_says_so() {
        let flat = r#"{"distribution": {"low": 1, "high": 1, "sets": []}}"#;
        for text in ["", "{}", "{\"distribution\": 3}", flat] {
            assert!(Distribution::read(text.as_bytes()).unwrap_err().contains("no distribution"), "{text}");
        }
    }
}
