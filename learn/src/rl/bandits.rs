//! Toys whose best policies are known in closed form: one token, few choices, exact expectations.

use super::{
    Aggregation, KlEstimator, Lagrange, LagrangeSettings, PolicyLoss, PolicySequence, Ratio, TokenRewards, Totals,
    returns_to_go,
};

const PLAIN: PolicyLoss = PolicyLoss {
    clip: [0.2, 0.2],
    ratio: Ratio::Token,
    dual_clip: None,
    kl_coefficient: 0.0,
    kl_estimator: KlEstimator::K1,
    aggregation: Aggregation::Sequences,
};

fn rules(kl_coefficient: f64) -> TokenRewards {
    TokenRewards { kl_coefficient, kl_estimator: KlEstimator::K1, clip: None, clip_score: None }
}

fn log_softmax(logits: &[f64]) -> Vec<f32> {
    let sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.iter().map(|logit| (logit - sum) as f32).collect()
}

/// A step of size `rate` on `logits` by the gradient of `loss` over all choices, each as often as it is chosen.
fn step(loss: &PolicyLoss, logits: &mut [f64], reference: &[f32], advantages: &[f64], rate: f64) {
    let now = log_softmax(logits);
    let count = now.len();
    // An answer for each choice; how often it would be drawn is in its advantage.
    let weighted: Vec<f64> =
        now.iter().zip(advantages).map(|(log_prob, own)| count as f64 * f64::from(*log_prob).exp() * own).collect();
    let sequences: Vec<PolicySequence> = (0..count)
        .map(|choice| PolicySequence {
            log_probs: &now[choice..=choice],
            old: &now[choice..=choice],
            reference: &reference[choice..=choice],
            advantages: &weighted[choice..=choice],
            masked: false,
        })
        .collect();
    let totals = Totals { sequences: count, tokens: count, micro_batches: 1 };
    let seeds = loss.gradient(&sequences, &totals).seeds.concat();
    let sum: f64 = seeds.iter().map(|seed| f64::from(*seed)).sum();
    for choice in 0..count {
        logits[choice] -= rate * (f64::from(seeds[choice]) - f64::from(now[choice]).exp() * sum);
    }
}

/// The KL-regularised optimum is the reference, weighted by e to the power of reward over β (arXiv 1909.08593).
#[test]
fn a_bandit_with_kl_reaches_its_closed_form() {
    const REWARDS: [f64; 8] = [0.3, -1.0, 0.8, 0.0, 1.2, -0.4, 0.5, 0.9];
    let reference = log_softmax(&[0.5, 1.0, -0.7, 0.2, -1.5, 0.0, 0.9, -0.2]);
    for beta in [0.3, 1.0] {
        let mut logits: Vec<f64> = reference.iter().map(|log_prob| f64::from(*log_prob)).collect();
        for _ in 0..6000 {
            let now = log_softmax(&logits);
            let advantages: Vec<f64> = (0..8)
                .map(|choice| {
                    let rewards =
                        rules(beta).rewards(&now[choice..=choice], &reference[choice..=choice], REWARDS[choice]);
                    returns_to_go(&rewards, 1.0)[0]
                })
                .collect();
            let mean: f64 = now.iter().zip(&advantages).map(|(log_prob, own)| f64::from(*log_prob).exp() * own).sum();
            let advantages: Vec<f64> = advantages.iter().map(|own| own - mean).collect();
            step(&PLAIN, &mut logits, &reference, &advantages, 0.3);
        }
        let best: Vec<f64> =
            reference.iter().zip(REWARDS).map(|(log_prob, reward)| f64::from(*log_prob) + reward / beta).collect();
        for (got, expected) in log_softmax(&logits).iter().zip(log_softmax(&best)) {
            assert!((got.exp() - expected.exp()).abs() < 1e-2, "β {beta}: {}, expected {}", got.exp(), expected.exp());
        }
    }
}

/// With the cost at its threshold the policy is known, and so is the multiplier that holds it there: of
/// `π ∝ ref · exp((r − λc)/((1 + λ)β))`, as Safe-RLHF weighs reward, cost and KL.
#[test]
fn a_constrained_bandit_reaches_its_multiplier() {
    const BETA: f64 = 0.5;
    const REWARDS: [f64; 2] = [1.5, 0.0];
    const COSTS: [f64; 2] = [1.0, -1.0];
    const THRESHOLD: f64 = 0.2;
    let reference = log_softmax(&[0.3, 0.0]);
    let mut lagrange = Lagrange::new(LagrangeSettings {
        threshold: THRESHOLD,
        init: 0.5,
        learning_rate: 0.02,
        max: None,
        delay: 0,
        window: 1,
    });
    let mut logits = [0.3, 0.0];
    for _ in 0..20_000 {
        let now = log_softmax(&logits);
        let chance: Vec<f64> = now.iter().map(|log_prob| f64::from(*log_prob).exp()).collect();
        lagrange.observe(&[chance.iter().zip(COSTS).map(|(chance, cost)| chance * cost).sum::<f64>() as f32]);
        lagrange.update();
        let advantages: Vec<f64> = (0..2)
            .map(|choice| {
                let (own, other) = (&now[choice..=choice], &reference[choice..=choice]);
                let reward = rules(BETA).rewards(own, other, REWARDS[choice])[0];
                lagrange.combine(reward, rules(BETA).costs(own, other, COSTS[choice])[0])
            })
            .collect();
        let mean: f64 = chance.iter().zip(&advantages).map(|(chance, own)| chance * own).sum();
        let advantages: Vec<f64> = advantages.iter().map(|own| own - mean).collect();
        step(&PLAIN, &mut logits, &reference, &advantages, 0.2);
    }
    let chance = (THRESHOLD - COSTS[1]) / (COSTS[0] - COSTS[1]);
    let odds = (chance / (1.0 - chance)).ln() - f64::from(reference[0] - reference[1]);
    let expected = (REWARDS[0] - REWARDS[1] - odds * BETA) / (COSTS[0] - COSTS[1] + odds * BETA);
    assert!((f64::from(log_softmax(&logits)[0]).exp() - chance).abs() < 1e-2);
    assert!((lagrange.lambda() - expected).abs() < 1e-2, "λ is {}, expected {expected}", lagrange.lambda());
}
