//! How much better a token was than expected.

/// What a critic is trained for, and what the policy is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    /// How much better each token was than its value.
    pub advantages: Vec<f64>,
    /// The values that would have been right: advantages and values together.
    pub returns: Vec<f64>,
}

/// Generalised advantage estimation (arXiv 1506.02438) over the tokens of one answer; the value after the last is 0.
pub fn gae(rewards: &[f64], values: &[f32], gamma: f64, lambda: f64) -> Estimate {
    let count = rewards.len().min(values.len());
    let mut estimate = Estimate { advantages: vec![0.0; count], returns: vec![0.0; count] };
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for index in (0..count).rev() {
        let value = f64::from(values[index]);
        let surprise = rewards[index] + gamma * next_value - value;
        next_advantage = surprise + gamma * lambda * next_advantage;
        next_value = value;
        estimate.advantages[index] = next_advantage;
        estimate.returns[index] = next_advantage + value;
    }
    estimate
}

/// The sum of the rewards from each token on, those that come later weighted by powers of `gamma`.
pub fn returns_to_go(rewards: &[f64], gamma: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut returns: Vec<f64> = rewards
        .iter()
        .rev()
        .map(|reward| {
            sum = reward + gamma * sum;
            sum
        })
        .collect();
    returns.reverse();
    returns
}

/// Shifts and scales the numbers of a batch to a mean of 0 and a variance of 1 (`masked_whiten` in TRL: unbiased, 1e-8
/// added to the variance). A single number is only shifted.
pub fn whiten(sequences: &mut [Vec<f64>]) {
    let count = sequences.iter().map(Vec::len).sum::<usize>() as f64;
    let mean = sequences.iter().flatten().sum::<f64>() / count.max(1.0);
    let squares = sequences.iter().flatten().map(|value| (value - mean).powi(2)).sum::<f64>();
    let scale = if count > 1.0 { 1.0 / (squares / (count - 1.0) + 1e-8).sqrt() } else { 1.0 };
    sequences.iter_mut().flatten().for_each(|value| *value = (*value - mean) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 4] = [-0.1, 0.3, 0.0, 2.0];
    const VALUES: [f32; 4] = [0.5, -0.25, 1.0, 0.75];

    /// The definition: the discounted sum of all later surprises.
    #[test]
    fn is_the_definition() {
        let (gamma, lambda) = (0.9, 0.8);
        let value = |index: usize| VALUES.get(index).copied().map_or(0.0, f64::from);
        let surprise = |index: usize| REWARDS[index] + gamma * value(index + 1) - value(index);
        let got = gae(&REWARDS, &VALUES, gamma, lambda);
        for first in 0..4 {
            let expected: f64 =
                (first..4).map(|index| (gamma * lambda).powi((index - first) as i32) * surprise(index)).sum();
            assert!((got.advantages[first] - expected).abs() < 1e-12);
            assert!((got.returns[first] - expected - value(first)).abs() < 1e-12);
        }
    }

    #[test]
    fn with_lambda_1_the_returns_are_those_to_go() {
        let returns = gae(&REWARDS, &VALUES, 0.9, 1.0).returns;
        for (got, expected) in returns.iter().zip(returns_to_go(&REWARDS, 0.9)) {
            assert!((got - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn whitened_numbers_have_mean_0_and_variance_1() {
        let mut sequences = vec![vec![1.0, 5.0], vec![], vec![-3.0]];
        whiten(&mut sequences);
        let all: Vec<f64> = sequences.concat();
        assert!(all.iter().sum::<f64>().abs() < 1e-12);
        assert!((all.iter().map(|value| value * value).sum::<f64>() / 2.0 - 1.0).abs() < 1e-6);
        let mut single = vec![vec![3.0]];
        whiten(&mut single);
        assert_eq!(single, [[0.0]]);
    }
}
