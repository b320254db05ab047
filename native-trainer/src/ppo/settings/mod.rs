//! The settings of a run that learns from rewards.

mod placement;
mod preset;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use paddock_learn::optim::Schedule;
use paddock_learn::rl::{
    AdaptiveKl, Aggregation, KlEstimator, LagrangeSettings, Overlong, PolicyLoss, Ratio, RewardScale, TokenRewards,
    ValueLoss,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::Table;

use crate::run::{RunSettings, Settings};
pub use placement::Placement;
pub use preset::Preset;

/// What an answer's tokens are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advantage {
    /// A critic's values (PPO).
    #[default]
    Gae,
    /// The other answers to the same prompt.
    Rloo,
    /// The whole batch.
    #[value(name = "reinforce++")]
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
    /// The whole batch, after the mean of the answers to the same prompt is taken off.
    #[value(name = "reinforce++-baseline")]
    #[serde(rename = "reinforce++-baseline")]
    ReinforcePlusPlusBaseline,
    /// The mean and the deviation of the answers to the same prompt.
    Grpo,
}

/// What a loss of tokens is the mean of, by TRL's names where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossType {
    /// The answers' own means (`grpo`).
    #[default]
    #[value(alias = "grpo")]
    Sequences,
    /// All tokens of a step (`dapo`).
    #[value(alias = "dapo")]
    Tokens,
    /// The tokens of each micro-batch (`bnpo`).
    #[value(alias = "bnpo")]
    MicroBatchTokens,
    /// Answers of the largest length, however long they are (`dr_grpo`).
    #[value(alias = "dr_grpo")]
    DrGrpo,
}

/// A run of PPO or one of its relatives; `--model` is the actor, and `--data` its prompts or given rollouts.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PpoSettings {
    /// Those of every run.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunSettings,
    /// Whose conventions hold for what no flag says: safe-rlhf, trl, openrlhf
    #[arg(long, value_enum, default_value = "safe-rlhf", value_name = "NAME")]
    pub preset: Preset,
    /// Where roles are: shared (adapters and heads on the actor's frozen trunk; needs --lora-rank, and is then the default), or
    /// separate (each a whole model)
    #[arg(long, value_enum, value_name = "NAME")]
    pub roles: Option<Placement>,
    /// The model that the actor is to stay near [default: the actor as it begins]; beside adapters, an adapter's folder
    #[arg(long, value_name = "PATH")]
    pub reference: Option<PathBuf>,
    /// With adapters: the adapter that the actor begins with
    #[arg(long, value_name = "DIR")]
    pub actor_adapter: Option<PathBuf>,
    /// The model that rewards answers: a score model, or an adapter on the actor's trunk
    #[arg(long, value_name = "PATH")]
    pub reward_model: Option<PathBuf>,
    /// The model that gives answers a cost, which is to stay below --threshold (PPO-Lag)
    #[arg(long, value_name = "PATH")]
    pub cost_model: Option<PathBuf>,
    /// What the reward critic begins with [default: the reward model]
    #[arg(long, value_name = "PATH")]
    pub reward_critic: Option<PathBuf>,
    /// What the cost critic begins with [default: the cost model]
    #[arg(long, value_name = "PATH")]
    pub cost_critic: Option<PathBuf>,
    /// A program, with its arguments, that reads {"prompt", "response"} a line and writes {"reward"} a line, and a "cost"
    /// where there is a constraint
    #[arg(long, value_name = "COMMAND")]
    pub reward_command: Option<String>,
    /// Take the cost, times the first λ, off the reward, and train nothing on it (the baseline of the paper)
    #[arg(long)]
    pub reward_shaping: bool,
    /// What answers are compared with: gae (critics), rloo, reinforce++, reinforce++-baseline, grpo
    #[arg(long, value_enum, default_value = "gae", value_name = "NAME")]
    pub advantage: Advantage,
    /// Answers to each prompt
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub num_generations: usize,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub max_new_tokens: usize,
    /// Answers of an update; 0 takes all of the iteration
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub mini_batch_size: usize,
    /// Passes over the answers of an iteration
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub update_iters: usize,
    /// Discount of later rewards
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub gamma: f64,
    /// Decay of generalised advantage estimation
    #[arg(long, default_value_t = 0.95, value_name = "R")]
    pub gae_lambda: f64,
    /// Factor of the KL to the reference
    #[arg(long, default_value_t = 0.02, value_name = "R")]
    pub kl_coeff: f64,
    /// How the KL of a token is estimated: k1, k2, k3
    #[arg(long, default_value = "k1", value_name = "NAME", value_parser = named::<KlEstimator>(&["k1", "k2", "k3"]))]
    pub kl_estimator: KlEstimator,
    /// Take the KL into the loss, and not off the reward
    #[arg(long)]
    pub kl_in_loss: bool,
    /// KL of an answer that the factor is moved towards
    #[arg(long, value_name = "R")]
    pub kl_target: Option<f64>,
    /// Answers over which the factor makes up for a deviation
    #[arg(long, default_value_t = 10_000.0, value_name = "N")]
    pub kl_horizon: f64,
    /// How far the ratio of probabilities may move
    #[arg(long, default_value_t = 0.2, value_name = "R")]
    pub clip_range_ratio: f64,
    /// How far it may move up [default: as down]; DAPO has 0.28
    #[arg(long, value_name = "R")]
    pub clip_range_ratio_high: Option<f64>,
    /// Bound of the loss of bad tokens, as a multiple of their advantage
    #[arg(long, value_name = "R")]
    pub dual_clip: Option<f64>,
    /// Largest reward or cost of a token, with its KL; 0 sets none
    #[arg(long, default_value_t = 50.0, value_name = "R")]
    pub clip_range_score: f64,
    /// Largest score of an answer, before its KL; 0 sets none
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    pub clip_reward: f64,
    /// How far values may move; 0 lets them
    #[arg(long, default_value_t = 5.0, value_name = "R")]
    pub clip_range_value: f64,
    /// Shift and scale the advantages of an iteration to mean 0 and variance 1
    #[arg(long)]
    pub whiten_advantages: bool,
    /// What the loss is the mean of: sequences (grpo), tokens (dapo), micro-batch-tokens (bnpo), dr-grpo
    #[arg(long, value_enum, default_value = "sequences", value_name = "NAME")]
    pub loss_type: LossType,
    /// What advantages in a group are divided by: group, batch, none
    #[arg(long, default_value = "group", value_name = "NAME", value_parser = named::<RewardScale>(&["group", "batch", "none"]))]
    pub scale_rewards: RewardScale,
    /// What the ratio is of: token, sequence-mean (GSPO), sequence (RLOO)
    #[arg(long, default_value = "token", value_name = "NAME", value_parser = named::<Ratio>(&["token", "sequence-mean", "sequence"]))]
    pub importance_sampling_level: Ratio,
    /// Learn nothing from answers that were cut at --max-new-tokens
    #[arg(long)]
    pub mask_truncated_completions: bool,
    /// DAPO's soft punishment: tokens before --max-new-tokens over which it grows
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub overlong_buffer: usize,
    /// The punishment of an answer that was cut
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub overlong_factor: f64,
    /// Taken off the reward of an answer that did not end by itself
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    pub missing_eos_penalty: f64,
    /// The mean cost that is allowed
    #[arg(long, default_value_t = 0.0, value_name = "R", allow_negative_numbers = true)]
    pub threshold: f64,
    /// The first multiplier of the constraint
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub lambda_init: f64,
    /// Learning rate of its logarithm
    #[arg(long, default_value_t = 0.1, value_name = "R")]
    pub lambda_lr: f64,
    /// The largest multiplier
    #[arg(long, value_name = "R")]
    pub lambda_max: Option<f64>,
    /// Updates that leave it as it is, at the beginning
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub lambda_update_delay_steps: u64,
    /// Answers whose costs the multiplier follows
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub episode_cost_window_size: usize,
    /// Normalise rewards as their model's configuration says
    #[arg(long)]
    pub normalize_reward: bool,
    /// Normalise costs as their model's configuration says
    #[arg(long)]
    pub normalize_cost: bool,
    /// Examples that the actor is not to forget, as of paddock sft
    #[arg(long, value_name = "FILE")]
    pub ptx_data: Option<PathBuf>,
    /// Factor of their loss
    #[arg(long, default_value_t = 16.0, value_name = "R")]
    pub ptx_coeff: f64,
    /// Cut these examples after this many tokens
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub ptx_max_length: usize,
    /// Learning rate of the critics
    #[arg(long, default_value_t = 5e-6, value_name = "R")]
    pub critic_lr: f64,
    /// Weight decay of the critics
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    pub critic_weight_decay: f32,
    /// How the learning rate of the critics falls: cosine, linear, constant
    #[arg(long, default_value_t = Schedule::Constant, value_name = "NAME")]
    pub critic_schedule: Schedule,
    /// Updates that the schedules are made for [default: those of the run]
    #[arg(long, value_name = "N", alias = "total-steps")]
    pub schedule_steps: Option<u64>,
    /// Stop at an alarm, after the last good state is saved
    #[arg(long)]
    pub halt_on_alarm: bool,
    /// Mean KL of an answer above which there is an alarm
    #[arg(long, default_value_t = 50.0, value_name = "R")]
    pub max_kl: f64,
}

impl Default for PpoSettings {
    fn default() -> Self {
        let run = RunSettings { batch_size: 16, epochs: 1, ..RunSettings::default() };
        Self {
            run,
            preset: Preset::SafeRlhf,
            roles: None,
            reference: None,
            actor_adapter: None,
            reward_model: None,
            cost_model: None,
            reward_critic: None,
            cost_critic: None,
            reward_command: None,
            reward_shaping: false,
            advantage: Advantage::Gae,
            num_generations: 1,
            max_new_tokens: 128,
            mini_batch_size: 0,
            update_iters: 1,
            gamma: 1.0,
            gae_lambda: 0.95,
            kl_coeff: 0.02,
            kl_estimator: KlEstimator::K1,
            kl_in_loss: false,
            kl_target: None,
            kl_horizon: 10_000.0,
            clip_range_ratio: 0.2,
            clip_range_ratio_high: None,
            dual_clip: None,
            clip_range_score: 50.0,
            clip_reward: 0.0,
            clip_range_value: 5.0,
            whiten_advantages: false,
            loss_type: LossType::Sequences,
            scale_rewards: RewardScale::Group,
            importance_sampling_level: Ratio::Token,
            mask_truncated_completions: false,
            overlong_buffer: 0,
            overlong_factor: 1.0,
            missing_eos_penalty: 0.0,
            threshold: 0.0,
            lambda_init: 1.0,
            lambda_lr: 0.1,
            lambda_max: None,
            lambda_update_delay_steps: 0,
            episode_cost_window_size: 128,
            normalize_reward: false,
            normalize_cost: false,
            ptx_data: None,
            ptx_coeff: 16.0,
            ptx_max_length: 512,
            critic_lr: 5e-6,
            critic_weight_decay: 0.0,
            critic_schedule: Schedule::Constant,
            schedule_steps: None,
            halt_on_alarm: false,
            max_kl: 50.0,
        }
    }
}

impl Settings for PpoSettings {
    const COMMAND: &'static str = "ppo";
    const PATHS: &'static [&'static str] = &[
        "reference",
        "actor-adapter",
        "reward-model",
        "cost-model",
        "reward-critic",
        "cost-critic",
        "reward-command",
        "ptx-data",
    ];

    fn run(&self) -> &RunSettings {
        &self.run
    }

    fn run_mut(&mut self) -> &mut RunSettings {
        &mut self.run
    }

    fn check(&self) -> Result<(), String> {
        self.run.check()?;
        Placement::check(self.roles, &self.run.memory)?;
        let positive: [(&str, f64); 4] = [
            ("num-generations", self.num_generations as f64),
            ("max-new-tokens", self.max_new_tokens as f64),
            ("update-iters", self.update_iters as f64),
            ("lambda-init", self.lambda_init),
        ];
        if let Some((name, found)) = positive.into_iter().find(|(_, value)| value.is_nan() || *value <= 0.0) {
            return Err(format!("{name} is {found}, expected a number above 0"));
        }
        if self.reward_model.is_none() && self.reward_command.is_none() {
            return Err("reward-model and reward-command are missing, expected what rewards answers".to_string());
        }
        if self.reward_shaping && self.cost_model.is_none() {
            return Err("reward-shaping is set, but cost-model is missing".to_string());
        }
        let critics = self.advantage == Advantage::Gae;
        if critics && self.reward_model.is_none() && self.reward_critic.is_none() {
            return Err(
                "reward-critic is missing, expected a score model to begin with; or choose another advantage than \
                        gae, which need no critic"
                    .to_string(),
            );
        }
        if !critics && self.num_generations < 2 && self.advantage != Advantage::ReinforcePlusPlus {
            return Err(format!(
                "num-generations is {}, expected at least 2: answers are compared with others to the same prompt",
                self.num_generations
            ));
        }
        if !critics && self.has_constraint() {
            return Err("cost-model needs critics, expected the advantage gae; or add reward-shaping".to_string());
        }
        if self.run.memory.adapters.lora.as_ref().is_some_and(|lora| lora.dropout != 0.0) {
            return Err(
                "lora-dropout has no place here, expected 0: with it the actor that answers is not the one that learns"
                    .to_string(),
            );
        }
        if self.actor_adapter.is_some() && self.run.memory.adapters.lora.is_none() {
            return Err(
                "actor-adapter is set, but lora is not: without adapters the whole model is trained".to_string()
            );
        }
        if self.actor_adapter.is_some() && self.reference.is_none() {
            return Err(
                "the actor begins with an adapter, so the model without adapters is not what it begins with and \
                        cannot be its reference; name the adapter as --reference, or merge it into the model"
                    .to_string(),
            );
        }
        Ok(())
    }

    fn is_free(&self, name: &str) -> bool {
        // Where roles are follows from whether there are adapters.
        matches!(name, "halt-on-alarm" | "max-kl" | "micro-batch-tokens" | "roles")
            && self.loss_type != LossType::MicroBatchTokens
    }

    fn preset(&self) -> Table {
        self.preset.settings(self.has_constraint())
    }

    fn models(&self) -> Vec<(&'static str, &Path)> {
        // Without adapters the actor's own model is a reference that no checkpoint holds.
        let adapted = self.run.memory.adapters.lora.is_some();
        let reference = self.reference.as_ref().or(Some(&self.run.model).filter(|_| !adapted));
        let roles = [
            ("reference", reference),
            ("actor-adapter", self.actor_adapter.as_ref()),
            ("reward-model", self.reward_model.as_ref()),
            ("cost-model", self.cost_model.as_ref()),
            ("reward-critic", self.reward_critic.as_ref()),
            ("cost-critic", self.cost_critic.as_ref()),
        ];
        let roles = roles.into_iter().filter_map(|(name, path)| Some((name, path?.as_path())));
        [("model", self.run.model.as_path())].into_iter().chain(roles).collect()
    }

    fn files_beside(&self) -> Vec<(&'static str, &Path)> {
        self.ptx_data.iter().map(|path| ("ptx-data", path.as_path())).collect()
    }
}

impl PpoSettings {
    /// Whether a cost is held below a threshold.
    pub fn has_constraint(&self) -> bool {
        self.cost_model.is_some() && !self.reward_shaping
    }

    /// What tokens earn, with this factor of the KL.
    pub fn token_rewards(&self, kl_coefficient: f64) -> TokenRewards {
        TokenRewards {
            kl_coefficient: if self.kl_in_loss { 0.0 } else { kl_coefficient },
            kl_estimator: self.kl_estimator,
            clip: bound(self.clip_range_score),
            clip_score: bound(self.clip_reward),
        }
    }

    /// The loss of the actor, with this factor of the KL.
    pub fn policy_loss(&self, kl_coefficient: f64) -> PolicyLoss {
        PolicyLoss {
            clip: [self.clip_range_ratio, self.clip_range_ratio_high.unwrap_or(self.clip_range_ratio)],
            ratio: self.importance_sampling_level,
            dual_clip: self.dual_clip,
            kl_coefficient: if self.kl_in_loss { kl_coefficient } else { 0.0 },
            kl_estimator: self.kl_estimator,
            aggregation: self.aggregation(),
        }
    }

    /// The loss of a critic.
    pub fn value_loss(&self) -> ValueLoss {
        ValueLoss { clip: bound(self.clip_range_value), aggregation: self.aggregation() }
    }

    fn aggregation(&self) -> Aggregation {
        match self.loss_type {
            LossType::Sequences => Aggregation::Sequences,
            LossType::Tokens => Aggregation::Tokens,
            LossType::MicroBatchTokens => Aggregation::MicroBatchTokens,
            LossType::DrGrpo => Aggregation::Fixed(self.max_new_tokens),
        }
    }

    /// How the multiplier of the constraint moves.
    pub fn lagrange(&self) -> LagrangeSettings {
        LagrangeSettings {
            threshold: self.threshold,
            init: self.lambda_init,
            learning_rate: self.lambda_lr,
            max: self.lambda_max,
            delay: self.lambda_update_delay_steps,
            window: self.episode_cost_window_size,
        }
    }

    /// What moves the factor of the KL.
    pub fn adaptive_kl(&self) -> Option<AdaptiveKl> {
        self.kl_target.map(|target| AdaptiveKl { target, horizon: self.kl_horizon })
    }

    /// The punishment of long answers.
    pub fn overlong(&self) -> Option<Overlong> {
        (self.overlong_buffer > 0).then_some(Overlong {
            limit: self.max_new_tokens,
            buffer: self.overlong_buffer,
            factor: self.overlong_factor,
        })
    }
}

fn bound(most: f64) -> Option<f64> {
    (most > 0.0).then_some(most)
}

/// A value by the name that settings files have for it.
fn named<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| T::deserialize(toml::Value::String(name)))
}
