//! Answers with all that is known about them before the policy learns from them.

use std::rc::Rc;

use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::data::{Example, Passes};
use paddock_learn::rl::{
    Estimate, KlEstimator, gae, group_advantages, leave_one_out, normalize, returns_to_go, whiten,
};
use paddock_learn::{Adjoint, Store};

use super::exchange::of_all_ranks;
use super::reward_command::rewards;
use super::roles::Roles;
use super::rollout::{Finish, Prompt, Rollout};
use super::sample::Sampled;
use super::together::{Asked, Said, ask, on_trunk};
use super::{Advantage, PpoSettings};
use crate::{Error, Result};

/// An answer. Arrays have an entry for each of its tokens; `all_` ones for each token of the sequence but the first (or,
/// of values, the last).
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub rollout: Rollout,
    pub text: String,
    pub example: Rc<Example>,
    pub log_probs: Vec<f32>,
    pub reference: Vec<f32>,
    /// Of given rollouts, which are for looking at.
    pub all_log_probs: Vec<f32>,
    pub all_reference: Vec<f32>,
    pub all_reward_values: Vec<f32>,
    pub all_cost_values: Vec<f32>,
    /// What its model or its program gave it; no number where it could not be scored.
    pub reward: f64,
    pub cost: Option<f64>,
    /// What it earns in the end: the reward with what was added to it.
    pub score: f64,
    pub reward_values: Vec<f32>,
    pub cost_values: Vec<f32>,
    pub token_rewards: Vec<f64>,
    pub token_costs: Vec<f64>,
    pub reward_estimate: Estimate,
    pub cost_estimate: Estimate,
    pub masked: bool,
}

impl Answer {
    /// k1 to the reference, of the whole answer.
    pub fn kl(&self) -> f64 {
        let pairs = self.log_probs.iter().zip(&self.reference);
        pairs.map(|(&own, &reference)| KlEstimator::K1.value(own.into(), reference.into()).0).sum()
    }
}

/// Has this rank's share of the answers to `asked` scored by all roles, and says what is known of all of them. Given rollouts,
/// which come without log-probabilities, are scored at all tokens.
pub(super) async fn score<B: Adjoint, S: Store<B>>(
    settings: &PpoSettings,
    roles: &Roles<B, S>,
    tokenizer: &Tokenizer,
    (asked, sampled): (&[Prompt], Vec<Sampled>),
    given: bool,
    kl_coefficient: f64,
) -> Result<Vec<Answer>> {
    let whole = roles.keep_whole()?;
    // As many rows go through the model as there are roles on one trunk.
    let tokens = settings.run.memory.micro_batch_tokens / on_trunk(roles);
    let mut own = Vec::with_capacity(sampled.len());
    let sampled: Vec<Scored> = sampled.into_iter().map(Scored::new).collect();
    for (group, _) in Passes::new(&sampled, |one| &one.example, [0, 1], tokens).passes {
        own.extend(scored(settings, roles, tokenizer, group, given).await?);
    }
    drop(whole);
    if let Some(command) = settings.reward_command.as_ref().filter(|_| !own.is_empty()) {
        let texts: Vec<(String, String)> =
            own.iter().map(|answer| (answer.rollout.prompt.clone(), answer.text.clone())).collect();
        for (answer, found) in own.iter_mut().zip(rewards(command, &texts)?) {
            answer.reward = found.reward.unwrap_or(f64::NAN);
            answer.cost = found.cost.or(answer.cost);
        }
    }
    let mut answers = of_all_ranks(roles.sharding(), asked, own, tokenizer).await?;
    for answer in &mut answers {
        answer.score = answer.reward;
        if settings.reward_shaping {
            answer.score -= settings.lambda_init * answer.cost.unwrap_or_default();
        }
        if answer.rollout.finish == Finish::Length {
            answer.score -= settings.missing_eos_penalty;
            answer.masked = settings.mask_truncated_completions;
        }
        if let Some(overlong) = settings.overlong() {
            answer.score += overlong.penalty(answer.rollout.response_ids.len());
        }
    }
    if answers.iter().all(|answer| !answer.score.is_finite()) {
        return Err(Error::Request(
            "no answer of this iteration was given a reward that is a number, so there is nothing to learn; check the \
             reward model or the reward command"
                .to_string(),
        ));
    }
    estimate(settings, &mut answers, kl_coefficient);
    Ok(answers)
}

/// A rollout on its way through the models.
#[derive(Clone)]
struct Scored {
    sampled: Sampled,
    example: Rc<Example>,
}

impl Scored {
    fn new(sampled: Sampled) -> Self {
        Self { example: sampled.rollout.example(), sampled }
    }
}

async fn scored<B: Adjoint, S: Store<B>>(
    settings: &PpoSettings,
    roles: &Roles<B, S>,
    tokenizer: &Tokenizer,
    group: Vec<Scored>,
    given: bool,
) -> Result<Vec<Answer>> {
    // Of given rollouts every token is scored.
    let whole: Vec<Example> = match given {
        true => {
            let all = |ids: &Vec<u32>| Example { targets: (1..ids.len()).collect(), ids: ids.clone() };
            group.iter().map(|one| all(&one.example.ids)).collect()
        }
        false => group.iter().map(|one| (*one.example).clone()).collect(),
    };
    let examples: Vec<&Example> = whole.iter().collect();
    let rollouts: Vec<&Rollout> = group.iter().map(|one| &one.sampled.rollout).collect();
    let asked = Asked { actor: given, reference: settings.kl_coeff != 0.0 || given };
    let Said { log_probs, reference, reward_values, cost_values, rewards, costs } =
        ask(roles, &examples, &rollouts, tokenizer, asked).await?;
    let sampled = || group.iter().map(|one| one.sampled.log_probs.clone()).collect::<Vec<_>>();
    let log_probs = log_probs.unwrap_or_else(sampled);
    let reference = reference.unwrap_or_else(|| log_probs.clone());
    let (has_reward, has_cost) = (reward_values.is_some(), cost_values.is_some());
    let none = || vec![Vec::new(); group.len()];
    let (reward_values, cost_values) = (reward_values.unwrap_or_else(none), cost_values.unwrap_or_else(none));
    let rewards = rewards.unwrap_or_else(|| vec![f64::NAN; group.len()]);
    let mut answers = Vec::with_capacity(group.len());
    for (index, Scored { sampled, example }) in group.into_iter().enumerate() {
        let own = |values: &[f32]| values[values.len().saturating_sub(example.targets.len())..].to_vec();
        let shown = |values: &[f32]| if given { values.to_vec() } else { Vec::new() };
        let text = tokenizer.decode(&sampled.rollout.response_ids, true)?;
        answers.push(Answer {
            text,
            log_probs: own(&log_probs[index]),
            reference: own(&reference[index]),
            all_log_probs: shown(&log_probs[index]),
            all_reference: shown(&reference[index]),
            all_reward_values: shown(&reward_values[index]),
            all_cost_values: shown(&cost_values[index]),
            reward: rewards[index],
            cost: costs.as_ref().map(|costs| costs[index]),
            score: rewards[index],
            reward_values: if has_reward { own(&reward_values[index]) } else { Vec::new() },
            cost_values: if has_cost { own(&cost_values[index]) } else { Vec::new() },
            token_rewards: Vec::new(),
            token_costs: Vec::new(),
            reward_estimate: Estimate::default(),
            cost_estimate: Estimate::default(),
            masked: false,
            rollout: sampled.rollout,
            example,
        });
    }
    Ok(answers)
}

/// Rewards of tokens and advantages.
fn estimate(settings: &PpoSettings, answers: &mut [Answer], kl_coefficient: f64) {
    let rules = settings.token_rewards(kl_coefficient);
    for answer in answers.iter_mut() {
        // An answer that could not be scored earns nothing; its advantage is 0.
        let score = if answer.score.is_finite() { answer.score } else { 0.0 };
        answer.token_rewards = rules.rewards(&answer.log_probs, &answer.reference, score);
        if let Some(cost) = answer.cost.filter(|_| !answer.cost_values.is_empty()) {
            answer.token_costs = rules.costs(&answer.log_probs, &answer.reference, cost);
            answer.cost_estimate = gae(&answer.token_costs, &answer.cost_values, settings.gamma, settings.gae_lambda);
        }
    }
    match settings.advantage {
        Advantage::Gae => {
            for answer in answers.iter_mut() {
                let values = &answer.reward_values;
                answer.reward_estimate = gae(&answer.token_rewards, values, settings.gamma, settings.gae_lambda);
            }
        }
        Advantage::Rloo | Advantage::Grpo => {
            let rules = settings.token_rewards(kl_coefficient);
            let penalised = |answer: &Answer| answer.score - rules.kl_coefficient * answer.kl();
            let scores: Vec<f64> = answers.iter().map(penalised).collect();
            let advantages = match settings.advantage {
                Advantage::Rloo => {
                    let mut advantages = leave_one_out(&scores, settings.num_generations);
                    if settings.whiten_advantages {
                        normalize(&mut advantages);
                    }
                    advantages
                }
                _ => group_advantages(&scores, settings.num_generations, settings.scale_rewards),
            };
            for (answer, advantage) in answers.iter_mut().zip(advantages) {
                answer.reward_estimate.advantages = vec![advantage; answer.log_probs.len()];
            }
        }
        Advantage::ReinforcePlusPlus | Advantage::ReinforcePlusPlusBaseline => {
            reinforce(settings, answers, &rules);
        }
    }
    for answer in answers.iter_mut().filter(|answer| !answer.score.is_finite()) {
        answer.reward_estimate.advantages.fill(0.0);
    }
}

/// REINFORCE++ (arXiv 2501.03262): returns to go, whitened over the batch.
fn reinforce(settings: &PpoSettings, answers: &mut [Answer], rules: &paddock_learn::rl::TokenRewards) {
    if settings.advantage == Advantage::ReinforcePlusPlusBaseline {
        let scores: Vec<f64> = answers.iter().map(|answer| answer.score).collect();
        let centred = group_advantages(&scores, settings.num_generations, paddock_learn::rl::RewardScale::None);
        for (answer, score) in answers.iter_mut().zip(centred) {
            answer.token_rewards = rules.rewards(&answer.log_probs, &answer.reference, score);
        }
    }
    let mut advantages: Vec<Vec<f64>> =
        answers.iter().map(|answer| returns_to_go(&answer.token_rewards, settings.gamma)).collect();
    whiten(&mut advantages);
    for (answer, advantages) in answers.iter_mut().zip(advantages) {
        answer.reward_estimate.advantages = advantages;
    }
}
