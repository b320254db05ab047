//! Advantages of answers among those to the same prompt, without a critic. A reward that is no number, of an answer that
//! could not be scored, counts for nothing and has an advantage of 0.

use serde::{Deserialize, Serialize};

/// What advantages within a group are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardScale {
    /// The deviation within the group (GRPO, arXiv 2402.03300).
    #[default]
    Group,
    /// The deviation of all rewards of the step.
    Batch,
    /// Nothing (Dr. GRPO, arXiv 2503.20783).
    None,
}

/// Added to deviations, as in TRL.
const EPS: f64 = 1e-4;

/// GRPO's: each reward minus the mean of its group of `group` answers, which lie one after the other.
pub fn group_advantages(rewards: &[f64], group: usize, scale: RewardScale) -> Vec<f64> {
    let all = stddev(rewards);
    let mut advantages = Vec::with_capacity(rewards.len());
    for rewards in rewards.chunks(group.max(1)) {
        let mean = mean(rewards);
        let divisor = match scale {
            RewardScale::Group => stddev(rewards) + EPS,
            RewardScale::Batch => all + EPS,
            RewardScale::None => 1.0,
        };
        advantages.extend(rewards.iter().map(|reward| known((reward - mean) / divisor)));
    }
    advantages
}

/// RLOO's (arXiv 2402.14740): each reward minus the mean of the others in its group.
pub fn leave_one_out(rewards: &[f64], group: usize) -> Vec<f64> {
    let mut advantages = Vec::with_capacity(rewards.len());
    for rewards in rewards.chunks(group.max(1)) {
        let count = rewards.iter().filter(|reward| reward.is_finite()).count() as f64;
        let sum: f64 = rewards.iter().filter(|reward| reward.is_finite()).sum();
        let others = |reward: f64| if count > 1.0 { (sum - reward) / (count - 1.0) } else { 0.0 };
        advantages.extend(rewards.iter().map(|&reward| known(reward - others(reward))));
    }
    advantages
}

/// Shifts and scales advantages of sequences to a mean of 0 and a deviation of 1.
pub fn normalize(advantages: &mut [f64]) {
    let (mean, deviation) = (mean(advantages), stddev(advantages) + EPS);
    advantages.iter_mut().for_each(|advantage| *advantage = (*advantage - mean) / deviation);
}

/// The deviation of the numbers among `values`, with n − 1; 0 of fewer than two.
pub fn stddev(values: &[f64]) -> f64 {
    let mean = mean(values);
    let (mut squares, mut count) = (0.0, 0.0f64);
    for value in values.iter().filter(|value| value.is_finite()) {
        squares += (value - mean).powi(2);
        count += 1.0;
    }
    if count > 1.0 { (squares / (count - 1.0)).sqrt() } else { 0.0 }
}

fn mean(values: &[f64]) -> f64 {
    let numbers = || values.iter().filter(|value| value.is_finite());
    numbers().sum::<f64>() / numbers().count().max(1) as f64
}

fn known(advantage: f64) -> f64 {
    if advantage.is_finite() { advantage } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_do_not_see_each_other() {
        let got = group_advantages(&[1.0, 3.0, 100.0, 100.0], 2, RewardScale::None);
        assert_eq!(got, [-1.0, 1.0, 0.0, 0.0]);
        assert_eq!(leave_one_out(&[1.0, 3.0, 100.0, 101.0], 2), [-2.0, 2.0, -1.0, 1.0]);
        // A group of equal rewards teaches nothing, whatever it is divided by.
        assert_eq!(group_advantages(&[2.0, 2.0], 2, RewardScale::Group), [0.0, 0.0]);
    }

    #[test]
    fn what_could_not_be_scored_counts_for_nothing() {
        assert_eq!(group_advantages(&[1.0, f64::NAN, 3.0], 3, RewardScale::None), [-1.0, 0.0, 1.0]);
        assert_eq!(leave_one_out(&[1.0, f64::NAN, 3.0], 3), [-2.0, 0.0, 2.0]);
        assert_eq!(leave_one_out(&[f64::NAN, f64::NAN], 2), [0.0, 0.0]);
    }

    #[test]
    fn one_alone_has_no_deviation_and_no_others() {
        assert_eq!(stddev(&[5.0]), 0.0);
        assert_eq!(stddev(&[5.0, f64::NAN]), 0.0);
        assert_eq!(leave_one_out(&[2.0, f64::NAN], 2), [2.0, 0.0]);
    }

    #[test]
    fn normalized_advantages_have_a_mean_of_zero_and_a_deviation_of_one() {
        let mut advantages = [1.0, 3.0, 8.0];
        normalize(&mut advantages);
        assert!(mean(&advantages).abs() < 1e-12);
        assert!((stddev(&advantages) - 1.0).abs() < 1e-4);
    }
}
