//! What a run is about to do, for its header and for those who look at it later.

use std::fmt;

use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

/// The version of this program, with the revision of its sources where that is known.
pub const VERSION: &str = env!("PADDOCK_VERSION");

/// A run before its first step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// Where it computes.
    pub device: String,
    /// Processes that train together.
    pub ranks: usize,
    /// Values of the model, and of the adapters if there are any.
    pub parameters: u64,
    /// Those of them that are trained.
    pub trained: u64,
    /// Examples of a pass over the data.
    pub examples: usize,
    /// Their tokens.
    pub tokens: u64,
    /// Examples of a step.
    pub batch_size: usize,
    /// Steps of the run.
    pub steps: u64,
    /// Steps done before.
    pub done: u64,
    /// Steps of a pass.
    pub steps_per_epoch: u64,
    /// Estimated bytes on the device, of each process.
    pub memory: u64,
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |value: u64| HumanCount(value);
        let ranks = if self.ranks > 1 { format!(", {} ranks", self.ranks) } else { String::new() };
        writeln!(f, "paddock {VERSION} on {}{ranks}", self.device)?;
        writeln!(f, "parameters  {}, {} of them trained", count(self.parameters), count(self.trained))?;
        writeln!(f, "examples    {} with {} tokens", count(self.examples as u64), count(self.tokens))?;
        let passes = self.steps as f64 / self.steps_per_epoch.max(1) as f64;
        let done = if self.done > 0 { format!(", {} done", count(self.done)) } else { String::new() };
        let steps = count(self.steps);
        writeln!(f, "steps       {steps} of {} examples{done}; {passes:.2} passes over the data", self.batch_size)?;
        write!(f, "memory      about {}", BinaryBytes(self.memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let overview = Overview {
            device: "CPU".to_string(),
            ranks: 2,
            parameters: 6_738_415_616,
            trained: 4_194_304,
            examples: 52_002,
            tokens: 5_000_000,
            batch_size: 128,
            steps: 1_219,
            done: 407,
            steps_per_epoch: 407,
            memory: 3 << 30,
        };
        let text = overview.to_string();
        let expected = [
            "on CPU, 2 ranks\nparameters  6,738,415,616, 4,194,304 of them trained\n",
            "examples    52,002 with 5,000,000 tokens\n",
            "steps       1,219 of 128 examples, 407 done; 3.00 passes over the data\n",
            "memory      about 3.00 GiB",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{text}");
        }
    }
}
