//! What ranks tell each other of the answers that each has sampled and scored.

use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::Adjoint;
use paddock_learn::collective::Sharding;
use paddock_learn::rl::Estimate;

use super::experience::Answer;
use super::rollout::{Finish, Prompt, Rollout};
use super::sample::share;
use crate::{Error, Result};

/// Arrays of an answer.
const ARRAYS: usize = 8;

/// The answers to `asked` of all ranks, each of which has sampled its [`share`]: the same on all, to the bit.
///
/// # Errors
/// When a rank has ended, or tells something else than this one expects.
pub(super) async fn of_all_ranks<B: Adjoint>(
    sharding: Option<&Sharding<B>>,
    asked: &[Prompt],
    own: Vec<Answer>,
    tokenizer: &Tokenizer,
) -> Result<Vec<Answer>> {
    let Some(Sharding { ranks, .. }) = sharding else { return Ok(own) };
    let (rank, world_size) = (ranks.rank(), ranks.world_size());
    let told: Vec<f64> = own.iter().flat_map(numbers).collect();
    let mut lengths = vec![0.0; world_size];
    lengths[rank] = told.len() as f64;
    ranks.sum(&mut lengths).await?;
    // Each rank's numbers stand in a place of their own, where the others add zeros: a sum that is exact.
    let ends: Vec<usize> = lengths
        .iter()
        .scan(0, |end, length| {
            *end += *length as usize;
            Some(*end)
        })
        .collect();
    let mut all = vec![0.0; ends.last().copied().unwrap_or_default()];
    all[ends[rank] - told.len()..ends[rank]].copy_from_slice(&told);
    ranks.sum(&mut all).await?;
    let mut answers: Vec<Option<Answer>> = asked.iter().map(|_| None).collect();
    let mut rest = Numbers(&all);
    for rank in 0..world_size {
        for index in share(asked.len(), [rank, world_size]) {
            answers[index] = Some(rest.answer(&asked[index], tokenizer)?);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// All that other ranks cannot know of an answer.
fn numbers(answer: &Answer) -> Vec<f64> {
    let ids: Vec<f32> = answer.rollout.response_ids.iter().map(|id| *id as f32).collect();
    let arrays: [&[f32]; ARRAYS] = [
        &answer.log_probs,
        &answer.reference,
        &answer.reward_values,
        &answer.cost_values,
        &answer.all_log_probs,
        &answer.all_reference,
        &answer.all_reward_values,
        &answer.all_cost_values,
    ];
    let cut = answer.rollout.finish == Finish::Length;
    let mut numbers = vec![f64::from(u8::from(cut)), answer.reward];
    numbers.extend([f64::from(u8::from(answer.cost.is_some())), answer.cost.unwrap_or_default()]);
    for array in [&ids[..]].into_iter().chain(arrays) {
        numbers.push(array.len() as f64);
        numbers.extend(array.iter().copied().map(f64::from));
    }
    numbers
}

/// Numbers that have not been read yet.
struct Numbers<'a>(&'a [f64]);

impl Numbers<'_> {
    fn take(&mut self, count: usize) -> Result<&[f64]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| {
            Error::Request(
                "a rank tells less of its answers than is expected; run one version of paddock everywhere".into(),
            )
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<f64> {
        Ok(self.take(1)?[0])
    }

    fn array(&mut self) -> Result<Vec<f32>> {
        let len = self.number()? as usize;
        Ok(self.take(len)?.iter().map(|value| *value as f32).collect())
    }

    fn answer(&mut self, asked: &Prompt, tokenizer: &Tokenizer) -> Result<Answer> {
        let cut = self.number()? != 0.0;
        let reward = self.number()?;
        let has_cost = self.number()? != 0.0;
        let cost = Some(self.number()?).filter(|_| has_cost);
        let response_ids: Vec<u32> = self.array()?.into_iter().map(|id| id as u32).collect();
        let mut arrays: [Vec<f32>; ARRAYS] = Default::default();
        for array in &mut arrays {
            *array = self.array()?;
        }
        let [log_probs, reference, reward_values, cost_values, rest @ ..] = arrays;
        let [all_log_probs, all_reference, all_reward_values, all_cost_values] = rest;
        let text = tokenizer.decode(&response_ids, true)?;
        let rollout = Rollout {
            prompt: asked.text.clone(),
            prompt_ids: asked.ids.clone(),
            response_ids,
            finish: if cut { Finish::Length } else { Finish::Eos },
        };
        Ok(Answer {
            text,
            example: rollout.example(),
            rollout,
            log_probs,
            reference,
            all_log_probs,
            all_reference,
            all_reward_values,
            all_cost_values,
            reward,
            cost,
            score: reward,
            reward_values,
            cost_values,
            token_rewards: Vec::new(),
            token_costs: Vec::new(),
            reward_estimate: Estimate::default(),
            cost_estimate: Estimate::default(),
            masked: false,
        })
    }
}
