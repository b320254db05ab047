//! The settings of reward and cost models.

use clap::error::Result as ClapResult;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use paddock_engine::config::ScoreFamily;
use paddock_learn::objective::HeadInit;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::{RunSettings, Settings, expect, not_negative};
use crate::align::NormalizerKind;

/// A recipe whose details are chosen together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Safe-RLHF's: AdamW with betas of 0.9 and 0.95, its rule for weight decay, a warm-up that is rounded down.
    SafeRlhf,
}

impl Preset {
    /// What it says about the settings of every run.
    pub fn of_run(self) -> Table {
        let Self::SafeRlhf = self;
        Table::from_iter([
            ("adam-beta2".to_string(), Value::Float(0.95)),
            ("decay-rule".to_string(), "safe-rlhf".into()),
            ("warmup-rounding".to_string(), "down".into()),
        ])
    }
}

/// Over which tokens' scores a loss goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LossType {
    /// The last token's.
    #[default]
    SequenceWise,
    /// Those from the first token in which both answers differ to the end of the shorter one.
    TokenWise,
}

/// The class whose files the trained model is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum HeadClass {
    /// Safe-RLHF's `LlamaForScore`.
    #[default]
    Score,
    /// transformers' `LlamaForSequenceClassification`.
    SequenceClassification,
}

impl HeadClass {
    /// How the engine names it.
    pub fn family(self) -> ScoreFamily {
        match self {
            Self::Score => ScoreFamily::SafeRlhf,
            Self::SequenceClassification => ScoreFamily::SequenceClassification,
        }
    }
}

/// A run that trains a score model.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ScoreSettings {
    /// Those of every run.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunSettings,
    /// Take the settings that are not given from a recipe
    #[arg(long, value_enum, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Over which tokens' scores the loss goes
    #[arg(long, value_enum, default_value = "sequence-wise", value_name = "NAME")]
    pub loss_type: LossType,
    /// Factor of the mean square of the scores in the loss
    #[arg(long, default_value_t = Self::default().regularization, value_name = "F", allow_negative_numbers = true)]
    pub regularization: f64,
    /// Factor of the square of the sum of a pair's scores, which keeps their mean at 0
    #[arg(long, default_value_t = Self::default().center_rewards_coefficient, value_name = "F", allow_negative_numbers = true)]
    pub center_rewards_coefficient: f64,
    /// Take no notice of the data's column "margin"
    #[arg(long = "no-margin", action = ArgAction::SetFalse)]
    pub margin: bool,
    /// How the head of a chat model begins, and whether that of a score model is kept
    #[arg(long, default_value = "keep", value_name = "NAME", value_parser = head_init())]
    pub head_init: HeadInit,
    /// The class that a chat model becomes; a score model keeps its own
    #[arg(long, value_enum, default_value = "score", value_name = "NAME")]
    pub head: HeadClass,
    /// How the mean and variance that are written beside the model follow its scores
    #[arg(long, value_enum, default_value = "none", value_name = "NAME")]
    pub normalizer: NormalizerKind,
    /// Weight of the old mean and variance in moving averages
    #[arg(long, default_value_t = Self::default().momentum, value_name = "M", allow_negative_numbers = true)]
    pub momentum: f64,
    /// Have scores normalised by that mean and variance when the model is used
    #[arg(long)]
    pub normalize: bool,
}

impl Default for ScoreSettings {
    fn default() -> Self {
        Self {
            run: RunSettings::default(),
            preset: None,
            loss_type: LossType::SequenceWise,
            regularization: 0.0,
            center_rewards_coefficient: 0.0,
            margin: true,
            head_init: HeadInit::Keep,
            head: HeadClass::Score,
            normalizer: NormalizerKind::None,
            momentum: 0.9,
            normalize: false,
        }
    }
}

/// [`ScoreSettings`] of a run that trains a reward model or, with `COST`, a cost model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeantSettings<const COST: bool>(pub ScoreSettings);

impl<const COST: bool> Serialize for MeantSettings<COST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, const COST: bool> Deserialize<'de> for MeantSettings<COST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ScoreSettings::deserialize(deserializer).map(Self)
    }
}

impl<const COST: bool> Args for MeantSettings<COST> {
    fn augment_args(command: Command) -> Command {
        ScoreSettings::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ScoreSettings::augment_args_for_update(command)
    }
}

impl<const COST: bool> FromArgMatches for MeantSettings<COST> {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        ScoreSettings::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<const COST: bool> Settings for MeantSettings<COST> {
    const COMMAND: &'static str = if COST { "cost" } else { "reward" };

    fn run(&self) -> &RunSettings {
        &self.0.run
    }

    fn run_mut(&mut self) -> &mut RunSettings {
        &mut self.0.run
    }

    fn check(&self) -> Result<(), String> {
        let Self(own) = self;
        own.run.check()?;
        own.run.check_evaluation()?;
        not_negative("regularization", own.regularization)?;
        not_negative("center-rewards-coefficient", own.center_rewards_coefficient)?;
        expect("momentum", own.momentum, (0.0..=1.0).contains(&own.momentum), "a number from 0 to 1")
    }

    fn is_free(&self, name: &str) -> bool {
        // The loss is the mean over all pairs of a step, however they are cut.
        name == "micro-batch-tokens"
    }

    fn preset(&self) -> Table {
        let Some(preset) = self.0.preset else { return Table::new() };
        let mut table = preset.of_run();
        table.insert("normalizer".to_string(), "exponential-moving-average".into());
        table.insert("regularization".to_string(), Value::Float(0.001));
        table
    }
}

fn head_init() -> impl clap::builder::TypedValueParser<Value = HeadInit> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(["keep", "normal", "scaled", "zeros"]).map(|name| match name.as_str() {
        "normal" => HeadInit::Normal,
        "scaled" => HeadInit::Scaled,
        "zeros" => HeadInit::Zeros,
        _ => HeadInit::Keep,
    })
}
