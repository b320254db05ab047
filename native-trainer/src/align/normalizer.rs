//! The running mean and variance of a score model's end scores (Safe-RLHF's `normalizer.py`).

use std::fs;
use std::path::Path;

use paddock_engine::config::HeadSpec;
use serde::{Deserialize, Serialize};

use crate::files::write_file;
use crate::{Error, Result};

/// The file of a checkpoint that holds them.
const FILE: &str = "normalizer.json";

/// How the mean and variance follow the scores of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NormalizerKind {
    /// They do not.
    #[default]
    None,
    /// Those of all scores so far.
    RunningMeanStd,
    /// Moving averages.
    ExponentialMovingAverage,
}

impl NormalizerKind {
    /// Its name in `config.json`.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::RunningMeanStd => Some("RunningMeanStd"),
            Self::ExponentialMovingAverage => Some("ExponentialMovingAverage"),
        }
    }
}

/// The statistics of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalizer {
    /// Mean of the scores.
    pub mean: f64,
    /// Their variance.
    pub var: f64,
    /// How many scores there were.
    pub count: u64,
}

/// The statistics in a file: numbers as their bits, since those that were read from decimal digits might be others.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    mean_bits: u64,
    var_bits: u64,
    count: u64,
}

impl Normalizer {
    /// That of a head as it was loaded.
    pub fn of(head: &HeadSpec) -> Self {
        let first = |values: &[f32], default: f64| values.first().copied().map_or(default, f64::from);
        Self { mean: first(&head.mean, 0.0), var: first(&head.var, 1.0), count: 0 }
    }

    /// Takes note of `count` scores of a step, of which the sum and the sum of the squares are given. Of a single score
    /// there is no variance; it only counts.
    pub fn update(&mut self, kind: NormalizerKind, momentum: f64, count: u64, sum: f64, squares: f64) {
        let (new, old) = (count as f64, self.count as f64);
        self.count += count;
        if count < 2 {
            return;
        }
        let mean = sum / new;
        let var = (squares - new * mean * mean).max(0.0) / (new - 1.0);
        match kind {
            NormalizerKind::None => {}
            NormalizerKind::ExponentialMovingAverage => {
                self.mean = momentum * self.mean + (1.0 - momentum) * mean;
                self.var = momentum * self.var + (1.0 - momentum) * var;
            }
            NormalizerKind::RunningMeanStd => {
                let (off, all) = (mean - self.mean, old + new);
                self.mean += off * new / all;
                self.var = (self.var * old + var * new + off * off * old * new / all) / all;
            }
        }
    }

    /// Writes it into a checkpoint.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let saved = Saved { mean_bits: self.mean.to_bits(), var_bits: self.var.to_bits(), count: self.count };
        let text = serde_json::to_string(&saved).map_err(|error| Error::Request(error.to_string()))?;
        write_file(&folder.join(FILE), &text)
    }

    /// Reads it from a checkpoint.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
        let saved: Result<Saved, _> = serde_json::from_slice(&bytes);
        let Saved { mean_bits, var_bits, count } =
            saved.map_err(|error| Error::Request(format!("{}: {error}", path.display())))?;
        Ok(Self { mean: f64::from_bits(mean_bits), var: f64::from_bits(var_bits), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(kind: NormalizerKind, batches: &[&[f64]]) -> Normalizer {
        let mut normalizer = Normalizer { mean: 0.0, var: 1.0, count: 0 };
        for batch in batches {
            let squares = batch.iter().map(|score| score * score).sum();
            normalizer.update(kind, 0.9, batch.len() as u64, batch.iter().sum(), squares);
        }
        normalizer
    }

    #[test]
    fn statistics_are_those_of_safe_rlhf() {
        let batches: [&[f64]; 2] = [&[1.0, 2.0, 3.0], &[-1.0, 4.0]];
        let average = updated(NormalizerKind::ExponentialMovingAverage, &batches);
        // Means 2 and 1.5; variances 1 and 12.5.
        assert!((average.mean - (0.9 * 0.2 + 0.15)).abs() < 1e-12, "{average:?}");
        assert!((average.var - (0.9 * (0.9 + 0.1) + 1.25)).abs() < 1e-12, "{average:?}");
        assert_eq!(average.count, 5);
        let running = updated(NormalizerKind::RunningMeanStd, &batches);
        assert!((running.mean - 1.8).abs() < 1e-12, "{running:?}");
        assert!((running.var - (1.0 * 3.0 + 12.5 * 2.0 + 0.25 * 6.0 / 5.0) / 5.0).abs() < 1e-12, "{running:?}");
        assert_eq!(updated(NormalizerKind::None, &batches), Normalizer { mean: 0.0, var: 1.0, count: 5 });
        assert_eq!(updated(NormalizerKind::RunningMeanStd, &[&[7.0]]), Normalizer { mean: 0.0, var: 1.0, count: 1 });
    }

    #[test]
    fn it_survives_a_checkpoint_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let normalizer = updated(NormalizerKind::ExponentialMovingAverage, &[&[0.1, 0.7, 1.0 / 3.0]]);
        normalizer.write(folder.path()).unwrap();
        assert_eq!(Normalizer::read(folder.path()).unwrap(), normalizer);
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert!(Normalizer::read(folder.path()).unwrap_err().to_string().contains(FILE));
    }
}
