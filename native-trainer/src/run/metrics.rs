//! What a run reports: one JSON object a line, in `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::event_file::EventFile;
use crate::files::AtomicFile;
use crate::{Error, Result};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done.
    pub step: u64,
    /// Mean loss over the step's target tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Norm of the gradients before clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Learning rate of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Tokens that went through the model since the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Tokens of the step per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Resident memory of the process in bytes, where the system reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Mean loss on the evaluation data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Passes over the data done, in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
    /// e to the power of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// e to the power of the evaluation loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_perplexity: Option<f64>,
    /// When the line was written, in seconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// What else a kind of run reports, by name, as in `accuracy`; that on the evaluation data begins with `eval_`.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

impl Metrics {
    /// These, with the perplexities that follow from losses which are means of -log p.
    pub fn with_perplexity(self) -> Self {
        Self { perplexity: self.loss.map(f64::exp), eval_perplexity: self.eval_loss.map(f64::exp), ..self }
    }

    /// These, with the time. Values that are not finite, which JSON does not have, are left out.
    pub fn stamped(mut self) -> Self {
        self.values.retain(|_, value| value.is_finite());
        Self { time: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64()), ..self }
    }

    /// The scalars of a line by the tags that TensorBoard shows them under.
    fn scalars(&self) -> Vec<(String, f64)> {
        let all = [
            ("train/loss", self.loss),
            ("train/grad_norm", self.grad_norm),
            ("train/learning_rate", self.learning_rate),
            ("train/tokens_per_s", self.tokens_per_s),
            ("train/epoch", self.epoch),
            ("train/perplexity", self.perplexity),
            ("eval/loss", self.eval_loss),
            ("eval/perplexity", self.eval_perplexity),
        ];
        let further = self.values.iter().map(|(name, value)| match name.strip_prefix("eval_") {
            Some(name) => (format!("eval/{name}"), *value),
            None => (format!("train/{name}"), *value),
        });
        all.into_iter().filter_map(|(tag, value)| Some((tag.to_string(), value?))).chain(further).collect()
    }
}

/// Where metrics are written: `metrics.jsonl`, and TensorBoard's event files in `tensorboard/`.
#[derive(Debug)]
pub struct MetricsFile {
    lines: File,
    events: EventFile,
}

impl MetricsFile {
    /// The name of the file in a run's folder.
    pub const NAME: &str = "metrics.jsonl";

    /// Opens the file of the run in `output`. Lines of steps after `step`, which a resumed run repeats, are dropped, and
    /// TensorBoard is told to drop its points of them. It also gets `notes`, titles and texts in Markdown.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(output: &Path, step: u64, notes: &[(&str, String)]) -> Result<Self> {
        let path = output.join(Self::NAME);
        let known = read(output);
        let kept = known
            .lines()
            .filter(|line| serde_json::from_str::<Metrics>(line).is_ok_and(|metrics| step > 0 && metrics.step <= step));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        let mut file = AtomicFile::create(&path)?;
        file.write_all(kept.as_bytes())?;
        file.commit()?;
        let lines = OpenOptions::new().append(true).open(&path).map_err(Error::path("open", &path))?;
        let folder = output.join("tensorboard");
        fs::create_dir_all(&folder).map_err(Error::path("create", &folder))?;
        let mut events = EventFile::create(&folder)?;
        events.begin(step + 1)?;
        notes.iter().try_for_each(|(title, text)| events.note(title, text))?;
        Ok(Self { lines, events })
    }

    /// The last step that the run in `output` has noted; 0 where there is none.
    pub fn last_step(output: &Path) -> u64 {
        let steps = read(output);
        steps.lines().filter_map(|line| serde_json::from_str::<Metrics>(line).ok()).map(|at| at.step).max().unwrap_or(0)
    }

    /// Adds a line, in one write.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn push(&mut self, metrics: &Metrics) -> Result<()> {
        let mut line = serde_json::to_string(metrics).map_err(|error| Error::Request(error.to_string()))?;
        line.push('\n');
        self.lines.write_all(line.as_bytes())?;
        let scalars = metrics.scalars();
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.write(metrics.step, &scalars)
    }
}

/// The lines of the run in `output`. A crash may have left one that is not UTF-8; the others still count.
fn read(output: &Path) -> String {
    let bytes = fs::read(output.join(MetricsFile::NAME)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Resident memory of this process in bytes, where the system reports it (Linux's `/proc/self/status`).
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_drops_the_lines_it_does_anew() {
        let folder = tempfile::tempdir().unwrap();
        let line = |step| Metrics { step, loss: Some(1.5), ..Metrics::default() }.with_perplexity().stamped();
        let mut file = MetricsFile::open(folder.path(), 0, &[]).unwrap();
        (1..=4).for_each(|step| file.push(&line(step)).unwrap());
        // A line cut short by a crash.
        file.lines.write_all(b"{\"step\": 5, \"lo\xff").unwrap();
        assert_eq!(MetricsFile::last_step(folder.path()), 4);
        MetricsFile::open(folder.path(), 3, &[]).unwrap().push(&line(4)).unwrap();
        let text = fs::read_to_string(folder.path().join(MetricsFile::NAME)).unwrap();
        let steps: Vec<u64> = text.lines().map(|line| serde_json::from_str::<Metrics>(line).unwrap().step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        let last: Metrics = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(last.time.is_some_and(|time| time > 1.7e9));
        assert_eq!(last.perplexity, Some(1.5f64.exp()));
    }
}
