//! Details that differ silently from trainer to trainer, as each has them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use toml::{Table, toml};

/// A trainer whose conventions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// PKU-Alignment/safe-rlhf at e8cca16, by its scripts.
    #[default]
    SafeRlhf,
    /// huggingface/trl 1.16, `experimental/ppo`.
    Trl,
    /// OpenRLHF 0.9.
    Openrlhf,
}

impl Preset {
    /// What it says; with a constraint, Safe-RLHF's script has half the KL.
    pub fn settings(self, has_constraint: bool) -> Table {
        match self {
            Self::SafeRlhf => {
                let mut table = toml! {
                    batch-size = 16
                    epochs = 1
                    learning-rate = 1e-5
                    weight-decay = 0.01
                    schedule = "cosine"
                    warmup-ratio = 0.03
                    warmup-rounding = "down"
                    decay-rule = "safe-rlhf"
                    adam-beta2 = 0.95
                    kl-coeff = 0.02
                };
                if has_constraint {
                    table.insert("kl-coeff".to_string(), 0.01.into());
                }
                table
            }
            Self::Trl => toml! {
                batch-size = 64
                epochs = 1
                learning-rate = 3e-6
                schedule = "linear"
                warmup-ratio = 0.0
                critic-lr = 3e-6
                critic-schedule = "linear"
                kl-coeff = 0.05
                clip-range-score = 0.0
                clip-range-value = 0.2
                update-iters = 4
                whiten-advantages = true
                loss-type = "micro-batch-tokens"
                max-new-tokens = 53
            },
            Self::Openrlhf => toml! {
                batch-size = 128
                epochs = 1
                learning-rate = 1e-6
                critic-lr = 9e-6
                critic-schedule = "cosine"
                adam-beta2 = 0.95
                gae-lambda = 1.0
                kl-coeff = 0.01
                clip-range-score = 0.0
                clip-reward = 10.0
                clip-range-value = 0.5
                whiten-advantages = true
                loss-type = "tokens"
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ppo::PpoSettings;

    #[test]
    fn presets_name_settings_that_there_are() {
        let known = Table::try_from(PpoSettings::default()).unwrap();
        for preset in [Preset::SafeRlhf, Preset::Trl, Preset::Openrlhf] {
            for has_constraint in [false, true] {
                let table = preset.settings(has_constraint);
                let unknown = table.keys().find(|name| !known.contains_key(*name));
                assert_eq!(unknown, None, "{preset:?}");
                let settings: PpoSettings = table.try_into().unwrap();
                assert!(settings.run.optimizer.learning_rate > 0.0);
            }
        }
        assert_eq!(Preset::SafeRlhf.settings(true)["kl-coeff"].as_float(), Some(0.01));
    }
}
