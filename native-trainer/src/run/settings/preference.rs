//! The settings of DPO and its relatives.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use paddock_learn::loss::PreferenceKind;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{OptimizerSettings, Preset, RunSettings, Settings, expect, not_negative};

/// Where the log-probabilities of the reference come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceKind {
    /// With adapters, the model without them; else what is computed before the first step.
    #[default]
    Auto,
    /// The model without its adapters.
    AdapterOff,
    /// A model that does not change, beside the one that is trained.
    Model,
    /// What is computed once, before the first step, and kept in the checkpoints.
    Cached,
}

/// A run of `paddock dpo`. Defaults of the loss are those of TRL's trainers.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PreferenceSettings {
    /// Those of every run.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunSettings,
    /// Take the settings that are not given from a recipe
    #[arg(long, value_enum, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// The loss: sigmoid (DPO), ipo, hinge, robust, apo-zero, apo-down, sigmoid-norm, simpo, orpo, cpo, kto
    #[arg(long, default_value_t = Self::default().loss, value_name = "NAME")]
    pub loss: PreferenceKind,
    /// How strongly the model is held to its reference, or the loss's own factor where it has none
    #[arg(long, default_value_t = Self::default().beta, value_name = "B", allow_negative_numbers = true)]
    pub beta: f64,
    /// Probability that a preference is the wrong way round; below 0.5
    #[arg(long, default_value_t = Self::default().label_smoothing, value_name = "E", allow_negative_numbers = true)]
    pub label_smoothing: f64,
    /// Weight of the mean of -log p over the chosen answers' tokens [default: 0; for orpo and cpo 1]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub sft_weight: Option<f64>,
    /// Take means over an answer's tokens where the loss takes sums
    #[arg(long)]
    pub length_normalize: bool,
    /// By how much the chosen answer is to be the more likely, for simpo
    #[arg(long, default_value_t = Self::default().simpo_gamma, value_name = "G", allow_negative_numbers = true)]
    pub simpo_gamma: f64,
    /// Weight of the answers that are wanted, for kto
    #[arg(long, default_value_t = Self::default().desirable_weight, value_name = "W", allow_negative_numbers = true)]
    pub desirable_weight: f64,
    /// Weight of those that are not
    #[arg(long, default_value_t = Self::default().undesirable_weight, value_name = "W", allow_negative_numbers = true)]
    pub undesirable_weight: f64,
    /// Where the reference's log-probabilities come from
    #[arg(long, value_enum, default_value = "auto", value_name = "NAME")]
    pub reference: ReferenceKind,
    /// Another model as the reference than the one that the run starts from
    #[arg(long, value_name = "PATH")]
    pub reference_model: Option<PathBuf>,
    /// Take log-probabilities from the first token in which both answers differ, as Safe-RLHF does, and not from their first
    #[arg(long)]
    pub from_divergence: bool,
    /// Repeat Safe-RLHF's off-by-one in which tokens these are, to compare with runs of it
    #[arg(long)]
    pub upstream_slice: bool,
}

impl Default for PreferenceSettings {
    fn default() -> Self {
        let optimizer = OptimizerSettings { learning_rate: 1e-6, ..OptimizerSettings::default() };
        Self {
            run: RunSettings { batch_size: 32, epochs: 1, optimizer, ..RunSettings::default() },
            preset: None,
            loss: PreferenceKind::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            sft_weight: None,
            length_normalize: false,
            simpo_gamma: 0.5,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            reference: ReferenceKind::Auto,
            reference_model: None,
            from_divergence: false,
            upstream_slice: false,
        }
    }
}

impl PreferenceSettings {
    /// Where the reference's log-probabilities come from, of this run; `None` for a loss without a reference.
    pub fn reference_of_run(&self) -> Option<ReferenceKind> {
        let kind = match self.reference {
            ReferenceKind::Auto if self.reference_model.is_some() || self.upstream_slice => ReferenceKind::Model,
            ReferenceKind::Auto if self.run.memory.adapters.lora.is_some() => ReferenceKind::AdapterOff,
            ReferenceKind::Auto => ReferenceKind::Cached,
            other => other,
        };
        self.loss.has_reference().then_some(kind)
    }

    /// The weight of the chosen answers' own loss.
    pub fn sft_weight(&self) -> f64 {
        let own = matches!(self.loss, PreferenceKind::Orpo | PreferenceKind::Cpo);
        self.sft_weight.unwrap_or(if own { 1.0 } else { 0.0 })
    }
}

impl Settings for PreferenceSettings {
    const COMMAND: &'static str = "dpo";
    const PATHS: &'static [&'static str] = &["reference-model"];

    fn run(&self) -> &RunSettings {
        &self.run
    }

    fn run_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }

    fn check(&self) -> Result<(), String> {
        self.run.check()?;
        self.run.check_evaluation()?;
        expect("beta", self.beta, self.beta.is_finite() && self.beta > 0.0, "a number above 0")?;
        let smoothing = self.label_smoothing;
        expect("label-smoothing", smoothing, (0.0..0.5).contains(&smoothing), "a number from 0 to below 0.5")?;
        not_negative("sft-weight", self.sft_weight())?;
        not_negative("simpo-gamma", self.simpo_gamma)?;
        not_negative("desirable-weight", self.desirable_weight)?;
        not_negative("undesirable-weight", self.undesirable_weight)?;
        if !self.loss.has_reference() && (self.reference != ReferenceKind::Auto || self.reference_model.is_some()) {
            return Err(format!("{} has no reference; leave out reference and reference-model", self.loss));
        }
        let has_adapters = self.run.memory.adapters.lora.is_some();
        match (self.reference, &self.reference_model) {
            (ReferenceKind::AdapterOff, _) if !has_adapters => {
                return Err(
                    "reference is adapter-off, but the whole model is trained; add lora-rank, or choose model or \
                            cached"
                        .to_string(),
                );
            }
            (ReferenceKind::AdapterOff, Some(_)) => {
                return Err("reference-model is set, but reference is adapter-off; choose model or cached".to_string());
            }
            (ReferenceKind::Cached | ReferenceKind::AdapterOff, _) if self.upstream_slice => {
                return Err("upstream-slice needs the reference anew in each step; choose reference model".to_string());
            }
            _ => {}
        }
        if self.loss == PreferenceKind::Kto {
            expect("batch-size", self.run.batch_size, self.run.batch_size > 1, "at least 2 for kto")?;
            if self.upstream_slice || self.from_divergence {
                return Err("kto has single answers; leave out upstream-slice and from-divergence".to_string());
            }
        }
        Ok(())
    }

    fn is_free(&self, name: &str) -> bool {
        // The loss is the mean over all pairs of a step, however they are cut; the three references say the same.
        ["micro-batch-tokens", "reference"].contains(&name)
    }

    fn preset(&self) -> Table {
        let Some(preset) = self.preset else { return Table::new() };
        let mut table = preset.of_run();
        table.insert("from-divergence".to_string(), Value::Boolean(true));
        table
    }

    fn models(&self) -> Vec<(&'static str, &Path)> {
        let reference = self.reference_model.as_deref().map(|path| ("reference model", path));
        [("model", self.run.model.as_path())].into_iter().chain(reference).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};
    use paddock_learn::lora::Lora;
    use paddock_learn::optim::{DecayRule, Rounding};

    use super::*;
    use crate::run::{MeantSettings, SettingsFile};

    #[derive(Debug, Parser)]
    struct Line<T: Settings> {
        #[command(flatten)]
        settings: T,
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        resume: bool,
    }

    fn paths() -> RunSettings {
        RunSettings { model: "m".into(), data: "d".into(), output: "o".into(), ..PreferenceSettings::default().run }
    }

    fn checked(change: impl FnOnce(&mut PreferenceSettings)) -> Result<(), String> {
        let mut settings = PreferenceSettings { run: paths(), ..PreferenceSettings::default() };
        change(&mut settings);
        settings.check()
    }

    #[test]
    fn senseless_settings_are_refused_by_name() {
        assert_eq!(checked(|_| {}), Ok(()));
        let refused = |change: fn(&mut PreferenceSettings), words: &str| {
            let problem = checked(change).expect_err(words);
            assert!(problem.contains(words), "{problem}");
        };
        refused(|now| now.beta = 0.0, "beta is 0, expected a number above 0");
        refused(|now| now.label_smoothing = 0.5, "label-smoothing is 0.5");
        refused(|now| now.sft_weight = Some(-1.0), "sft-weight is -1");
        refused(|now| now.reference = ReferenceKind::AdapterOff, "the whole model is trained");
        refused(
            |now| (now.upstream_slice, now.reference) = (true, ReferenceKind::Cached),
            "upstream-slice needs the reference anew",
        );
        refused(|now| (now.loss, now.run.batch_size) = (PreferenceKind::Kto, 1), "at least 2 for kto");
        refused(|now| (now.loss, now.from_divergence) = (PreferenceKind::Kto, true), "kto has single answers");
        refused(
            |now| (now.loss, now.reference_model) = (PreferenceKind::Orpo, Some("r".into())),
            "orpo has no reference",
        );
        refused(|now| now.run.eval_steps = Some(3), "eval-data is missing");
    }

    #[test]
    fn the_reference_follows_from_what_is_trained() {
        let of = |change: fn(&mut PreferenceSettings)| {
            let mut settings = PreferenceSettings::default();
            change(&mut settings);
            settings.reference_of_run()
        };
        assert_eq!(of(|_| {}), Some(ReferenceKind::Cached));
        assert_eq!(of(|now| now.run.memory.adapters.lora = Some(Lora::default())), Some(ReferenceKind::AdapterOff));
        assert_eq!(of(|now| now.upstream_slice = true), Some(ReferenceKind::Model));
        assert_eq!(of(|now| now.reference_model = Some("r".into())), Some(ReferenceKind::Model));
        assert_eq!(of(|now| now.loss = PreferenceKind::SimPo), None);
    }

    /// A preset stands beneath a file, and a file beneath flags.
    #[test]
    fn a_preset_gives_what_is_not_given() {
        let read = |text: &str, given: &[&str]| {
            let file = SettingsFile::parse::<PreferenceSettings>(text, "run.toml").unwrap();
            let mut flags = PreferenceSettings { run: paths(), ..PreferenceSettings::default() };
            flags.run.optimizer.adam_beta2 = 0.5;
            let given: BTreeSet<String> =
                ["model", "data", "output"].iter().chain(given).map(|name| name.to_string()).collect();
            file.with_flags(&flags, &given).unwrap()
        };
        let plain = read("", &[]);
        assert_eq!((plain.run.batch_size, plain.run.optimizer.learning_rate, plain.from_divergence), (32, 1e-6, false));
        let preset = read("preset = \"safe-rlhf\"", &[]);
        let optimizer = preset.run.optimizer;
        assert_eq!((optimizer.adam_beta2, optimizer.decay_rule), (0.95, DecayRule::SafeRlhf));
        assert_eq!((optimizer.warmup_rounding, preset.from_divergence), (Rounding::Down, true));
        assert_eq!(optimizer.learning_rate, 1e-6, "what the preset does not say");
        let above = read("preset = \"safe-rlhf\"\nadam-beta2 = 0.9\nfrom-divergence = false", &["adam-beta2"]);
        assert_eq!((above.run.optimizer.adam_beta2, above.from_divergence), (0.5, false));
        assert_eq!(above.run.optimizer.decay_rule, DecayRule::SafeRlhf);
    }

    /// Every flag is a setting of the file by the same name, and the other way round.
    #[test]
    fn flags_and_file_have_the_same_names() {
        fn compared<T: Settings>(full: &T) {
            let mut names: Vec<String> = Table::try_from(full).unwrap().keys().cloned().collect();
            let command = Line::<T>::command();
            let ids = command.get_arguments().map(|argument| argument.get_id().as_str().replace('_', "-"));
            let own = ["config", "resume", "help", "lora-rank", "lora-alpha", "lora-targets", "lora-dropout"];
            let mut flags: Vec<String> = ids.filter(|flag| !own.contains(&flag.as_str())).collect();
            flags.push("lora".to_string());
            flags.sort();
            names.sort();
            assert_eq!(flags, names);
        }
        let mut run = RunSettings {
            max_steps: Some(1),
            save_steps: Some(1),
            eval_data: Some("e".into()),
            eval_steps: Some(1),
            ..paths()
        };
        run.memory.adapters.lora = Some(Lora::default());
        let mut score = MeantSettings::<true>::default();
        (score.0.run, score.0.preset) = (run.clone(), Some(Preset::SafeRlhf));
        compared(&score);
        compared(&PreferenceSettings {
            run,
            preset: Some(Preset::SafeRlhf),
            sft_weight: Some(1.0),
            reference_model: Some("r".into()),
            ..PreferenceSettings::default()
        });
    }
}
