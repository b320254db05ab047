//! The progress of a run: a bar on a terminal, lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount};
use paddock_engine::model::LoadProgress;
use serde::Serialize;
use serde_json::{Value, json};

use super::console;
use super::interrupt::Interrupt;
use super::progress::{ProgressLine, Steps};
use crate::Result;
use crate::run::Metrics;
use crate::signals::Signal;
use crate::training::{Observer, Outcome, Overview};

/// Longest time between two lines, if a step ends in it.
const SILENCE: Duration = Duration::from_secs(30);

/// Shows a run's progress; of several ranks only the first does.
pub(super) struct RunProgress {
    pub shown: bool,
    /// Events go to standard output, too.
    json: bool,
    /// None where Ctrl-C ends the program at once.
    interrupt: Option<Interrupt>,
    loading: Option<ProgressLine>,
    display: Display,
}

enum Display {
    /// On a terminal, from the first step on.
    Bar(Option<Steps>),
    Lines(Lines),
}

/// Lines for a file or a pipe.
#[derive(Debug)]
struct Lines {
    /// Steps between two lines.
    every: u64,
    /// When the first step began, with the number of steps done before, and when a line was written last.
    began: Option<(Instant, u64)>,
    last: Instant,
}

impl RunProgress {
    /// Shows progress if `shown`, without a terminal a line for every `every` steps, and with `json` as JSON on standard
    /// output.
    pub fn new(interrupt: Option<Interrupt>, shown: bool, every: u64, json: bool) -> Self {
        let display = match io::stderr().is_terminal() {
            true => Display::Bar(None),
            false => Display::Lines(Lines { every, began: None, last: Instant::now() }),
        };
        let loading = shown.then(|| ProgressLine::new("loading"));
        Self { shown, json: json && shown, interrupt, loading, display }
    }

    /// Tells how the run in the folder `output` ended.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn end(&self, output: &Path, outcome: Outcome) -> Result<()> {
        let (outcome, step) = match outcome {
            Outcome::Finished => ("finished", None),
            Outcome::Stopped(step, _) => ("stopped", Some(step)),
        };
        self.event("end", &json!({ "outcome": outcome, "step": step, "output": output }))
    }

    /// Writes an event to standard output, if events go there.
    fn event(&self, name: &str, content: &impl Serialize) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut line = json!({ "event": name });
        let content = serde_json::to_value(content).map_err(io::Error::from)?;
        if let (Some(line), Value::Object(content)) = (line.as_object_mut(), content) {
            line.extend(content);
        }
        Ok(writeln!(io::stdout(), "{line}")?)
    }
}

impl Observer for RunProgress {
    fn loading(&mut self, progress: LoadProgress) {
        if let Some(line) = &mut self.loading {
            line.update(progress);
        }
    }

    fn begin(&mut self, overview: &Overview) {
        self.loading = None;
        if let Some(interrupt) = &self.interrupt {
            match self.shown {
                true => interrupt.begin_run("the run is saved and stops after this step; Ctrl-C again ends it at once"),
                false => interrupt.begin_answer(),
            }
        }
        if let Display::Lines(lines) = &mut self.display {
            lines.began = Some((Instant::now(), overview.done));
            lines.last = Instant::now();
        }
        self.note(&overview.to_string());
        let _ = self.event("begin", overview);
    }

    fn note(&mut self, text: &str) {
        match &self.display {
            Display::Bar(Some(steps)) => steps.above(|| console::note(text)),
            _ if self.shown => console::note(text),
            _ => {}
        }
    }

    fn step(&mut self, metrics: &Metrics, total: u64) {
        if !self.shown {
            return;
        }
        let _ = self.event("step", metrics);
        match &mut self.display {
            Display::Bar(steps) => {
                let rate = HumanCount(metrics.tokens_per_s.unwrap_or_default() as u64);
                let message = format!("loss {:.4}, {rate} tokens/s", metrics.loss.unwrap_or_default());
                steps.get_or_insert_with(Steps::new).update(metrics.step, total, message);
            }
            Display::Lines(lines) => {
                if let Some(line) = lines.next(metrics, total, Instant::now()) {
                    console::note(line);
                }
            }
        }
    }

    fn evaluated(&mut self, metrics: &Metrics) {
        let mut line = format!("step {}: evaluation loss {:.4}", metrics.step, metrics.eval_loss.unwrap_or_default());
        let mut add = |text: String| line.extend([", ", text.as_str()]);
        metrics.eval_perplexity.into_iter().for_each(|perplexity| add(format!("perplexity {perplexity:.3}")));
        let values = metrics.values.iter().filter_map(|(name, value)| Some((name.strip_prefix("eval_")?, value)));
        values.for_each(|(name, value)| add(format!("{} {value:.4}", name.replace('_', " "))));
        self.note(&line);
        let _ = self.event("evaluation", metrics);
    }

    fn sample(&mut self, step: u64, prompt: &str, answer: &str) {
        self.note(&format!("step {step}: {prompt} → {}", answer.trim()));
        let _ = self.event("sample", &json!({ "step": step, "prompt": prompt, "answer": answer }));
    }

    fn stop(&self) -> Option<Signal> {
        self.interrupt.as_ref()?.requested()
    }
}

impl Lines {
    /// The line for a step, if there is to be one.
    fn next(&mut self, metrics: &Metrics, total: u64, now: Instant) -> Option<String> {
        let (began, before) = *self.began.get_or_insert((now, metrics.step.saturating_sub(1)));
        let first_or_last = metrics.step == before + 1 || metrics.step == total;
        if !(first_or_last || metrics.step.is_multiple_of(self.every) || now.duration_since(self.last) >= SILENCE) {
            return None;
        }
        self.last = now;
        let mut line = format!("step {} of {total}", metrics.step);
        let mut add = |text: String| line.extend([", ", text.as_str()]);
        metrics.epoch.into_iter().for_each(|epoch| add(format!("epoch {epoch:.2}")));
        metrics.loss.into_iter().for_each(|loss| add(format!("loss {loss:.4}")));
        metrics.learning_rate.into_iter().for_each(|rate| add(format!("learning rate {rate:.2e}")));
        metrics.tokens_per_s.into_iter().for_each(|rate| add(format!("{} tokens/s", HumanCount(rate as u64))));
        metrics.memory.into_iter().for_each(|memory| add(BinaryBytes(memory).to_string()));
        let done = metrics.step.saturating_sub(before).max(1);
        let left = now.duration_since(began).as_secs_f64() / done as f64 * total.saturating_sub(metrics.step) as f64;
        if left > 0.0 {
            add(format!("{} left", duration(left)));
        }
        Some(line)
    }
}

/// A time in its two largest units.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_every_so_many_steps_and_after_a_silence() {
        let start = Instant::now();
        let mut lines = Lines { every: 10, began: Some((start, 0)), last: start };
        let mut at = |step: u64, seconds: u64| {
            let metrics = Metrics { step, loss: Some(1.25), epoch: Some(0.5), ..Metrics::default() };
            lines.next(&metrics, 100, start + Duration::from_secs(seconds))
        };
        assert_eq!(at(1, 1).as_deref(), Some("step 1 of 100, epoch 0.50, loss 1.2500, 1 min 39 s left"));
        assert_eq!(at(2, 2), None);
        assert!(at(10, 10).is_some());
        assert_eq!(at(11, 39), None);
        assert!(at(12, 40).is_some(), "thirty seconds later");
        assert_eq!(at(13, 41), None);
        assert_eq!(at(100, 100).as_deref(), Some("step 100 of 100, epoch 0.50, loss 1.2500"));
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(9.4, "9 s"), (61.0, "1 min 1 s"), (7_260.0, "2 h 1 min"), (180_000.0, "2 d 2 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
