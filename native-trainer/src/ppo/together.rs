//! What all roles say about the same answers: those on one trunk in one pass, each with its own adapters, the others each
//! in a pass of its own.

use paddock_engine::backend::{Device, Operations, Segments};
use paddock_engine::model::{Fresh, Trunk};
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::data::{Example, MicroBatch};
use paddock_learn::objective::Policy;
use paddock_learn::{Adjoint, Store, Tape};

use super::judge::Judge;
use super::roles::{Roles, TrainedCritic};
use super::rollout::Rollout;
use crate::Result;

/// For each answer: log-probabilities and values of its targets, and scores of the whole. Who has no part said nothing.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub log_probs: Option<Vec<Vec<f32>>>,
    pub reference: Option<Vec<Vec<f32>>>,
    pub reward_values: Option<Vec<Vec<f32>>>,
    pub cost_values: Option<Vec<Vec<f32>>>,
    pub rewards: Option<Vec<f64>>,
    pub costs: Option<Vec<f64>>,
}

/// Who is asked, beside critics and score models.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// For the actor's log-probabilities.
    pub actor: bool,
    /// For the reference's.
    pub reference: bool,
}

/// Roles whose trunk is the actor's.
pub(super) fn on_trunk<B: Adjoint, S: Store<B>>(roles: &Roles<B, S>) -> usize {
    let tape = roles.actor.tape();
    let critics = [&roles.reward_critic, &roles.cost_critic].into_iter().flatten();
    let judges = [&roles.reward, &roles.cost].into_iter().flatten();
    let critics = critics.filter(|critic| critic.trainer.tape().is(tape)).count();
    let judges = judges.filter(|judge| judge.model().backend().is(tape)).count();
    1 + usize::from(roles.reference.model().backend().is(tape)) + critics + judges
}

/// Asks all roles about `examples`, whose answers are those of `rollouts`. Nothing is recorded.
///
/// # Errors
/// When a text cannot be encoded, or the device fails.
pub(super) async fn ask<B: Adjoint, S: Store<B>>(
    roles: &Roles<B, S>,
    examples: &[&Example],
    rollouts: &[&Rollout],
    tokenizer: &Tokenizer,
    asked: Asked,
) -> Result<Said> {
    let pause = roles.actor.tape().pause();
    let mut said = shared_pass(roles, examples, asked).await?;
    drop(pause);
    if asked.actor && said.log_probs.is_none() {
        said.log_probs = Some(roles.actor.objective().score(examples).await?);
    }
    if asked.reference && said.reference.is_none() {
        said.reference = Some(roles.reference.score(examples).await?);
    }
    if let (Some(critic), None) = (&roles.reward_critic, &said.reward_values) {
        said.reward_values = Some(critic.trainer.objective().score(examples).await?);
    }
    if let (Some(critic), None) = (&roles.cost_critic, &said.cost_values) {
        said.cost_values = Some(critic.trainer.objective().score(examples).await?);
    }
    let ids: Vec<(&Rollout, &Example)> = rollouts.iter().copied().zip(examples.iter().copied()).collect();
    if let (Some(judge), None) = (&roles.reward, &said.rewards) {
        said.rewards = Some(judge.scores(&ids, tokenizer).await?);
    }
    if let (Some(judge), None) = (&roles.cost, &said.costs) {
        said.costs = Some(judge.scores(&ids, tokenizer).await?);
    }
    Ok(said)
}

/// A role in the shared pass.
enum Part<'a, B: Adjoint, S: Store<B>> {
    Actor(&'a Policy<B, S>),
    Reference(&'a Policy<B, S>),
    RewardCritic(&'a TrainedCritic<B, S>),
    CostCritic(&'a TrainedCritic<B, S>),
    Reward(&'a Judge<B, S>),
    Cost(&'a Judge<B, S>),
}

impl<B: Adjoint, S: Store<B>> Part<'_, B, S> {
    fn trunk(&self) -> &Trunk<Tape<B, S>> {
        match self {
            Self::Actor(policy) | Self::Reference(policy) => policy.model().trunk(),
            Self::RewardCritic(critic) | Self::CostCritic(critic) => critic.trainer.objective().model().trunk(),
            Self::Reward(judge) | Self::Cost(judge) => judge.model().trunk(),
        }
    }
}

/// The pass of those that share the actor's trunk; of one alone there is none.
async fn shared_pass<B: Adjoint, S: Store<B>>(
    roles: &Roles<B, S>,
    examples: &[&Example],
    asked: Asked,
) -> Result<Said> {
    let tape = roles.actor.tape();
    let mut parts: Vec<Part<B, S>> = Vec::new();
    if asked.actor {
        parts.push(Part::Actor(roles.actor.objective()));
    }
    if asked.reference {
        parts.push(Part::Reference(&roles.reference));
    }
    parts.extend(roles.reward_critic.as_ref().map(Part::RewardCritic));
    parts.extend(roles.cost_critic.as_ref().map(Part::CostCritic));
    parts.extend(roles.reward.as_ref().filter(|judge| judge.reads_tokens()).map(Part::Reward));
    parts.extend(roles.cost.as_ref().filter(|judge| judge.reads_tokens()).map(Part::Cost));
    parts.retain(|part| part.trunk().backend().is(tape));
    let mut said = Said::default();
    if parts.len() < 2 {
        return Ok(said);
    }
    let micro = MicroBatch::new(examples);
    let rows = micro.ids.len();
    let trunks: Vec<(&Trunk<Tape<B, S>>, usize)> = parts.iter().map(|part| (part.trunk(), rows)).collect();
    let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
    let (ids, segments) = (micro.ids.repeat(parts.len()), Segments::documents(&lengths.repeat(parts.len())));
    let hidden = Trunk::together(&trunks)?.forward(&tape.tokens(&ids)?, &segments, &mut Fresh)?;
    let targets = tape.tokens(&micro.targets)?;
    for (number, part) in parts.iter().enumerate() {
        let first = number * rows;
        let before: Vec<usize> = micro.rows.iter().map(|row| first + row).collect();
        match part {
            Part::Actor(policy) | Part::Reference(policy) => {
                let log_probs = policy.model().hidden_logprobs(&tape.select_rows(&hidden, &before)?, &targets)?;
                let log_probs = Some(split(&tape.read(&log_probs).await?, examples));
                match part {
                    Part::Actor(_) => said.log_probs = log_probs,
                    _ => said.reference = log_probs,
                }
            }
            Part::RewardCritic(critic) | Part::CostCritic(critic) => {
                let model = critic.trainer.objective().model();
                let values = tape.read(&model.scores(&tape.select_rows(&hidden, &before)?)?).await?;
                let values = Some(split(&values, examples));
                match part {
                    Part::RewardCritic(_) => said.reward_values = values,
                    _ => said.cost_values = values,
                }
            }
            Part::Reward(judge) | Part::Cost(judge) => {
                let (mut start, mut ends) = (first, Vec::with_capacity(examples.len()));
                for example in examples {
                    ends.push(start + judge.model().head().end_position(&example.ids));
                    start += example.ids.len();
                }
                let scores = tape.read(&judge.model().scores(&tape.select_rows(&hidden, &ends)?)?).await?;
                let scores = Some(judge.counted(scores));
                match part {
                    Part::Reward(_) => said.rewards = scores,
                    _ => said.costs = scores,
                }
            }
        }
    }
    Ok(said)
}

/// The values of each example's targets.
fn split(values: &[f32], examples: &[&Example]) -> Vec<Vec<f32>> {
    let mut start = 0;
    let own = |example: &&Example| {
        let range = start..start + example.targets.len();
        start = range.end;
        values[range].to_vec()
    };
    examples.iter().map(own).collect()
}
