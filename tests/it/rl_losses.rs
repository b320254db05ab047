//! Advantages and losses of reinforcement learning on given arrays, against PyTorch's.

use std::fs;
use std::path::Path;

use paddock_learn::rl::{
    Aggregation, KlEstimator, Lagrange, LagrangeSettings, PolicyGradient, PolicyLoss, PolicySequence, Ratio,
    RewardScale, TokenRewards, Totals, ValueLoss, ValueSequence, gae, group_advantages, leave_one_out, normalize,
};
use paddock_tests::{expected_tensor, fixtures_with, largest_difference};
use serde_json::Value;

/// Largest difference of a loss, relative to it.
const TOLERANCE: f64 = 1e-4;

fn near(what: &str, got: f64, expected: f64) {
    assert!((got - expected).abs() <= TOLERANCE * expected.abs().max(1e-3), "{what}: {got}, expected {expected}");
}

fn all_near(what: &str, got: &[f64], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - f64::from(*expected)).abs() < TOLERANCE, "{what}: {got}, expected {expected}");
    }
}

/// The expectations that have `key`, with their folders.
fn expectations(key: &str) -> Vec<(std::path::PathBuf, Value)> {
    let read = |folder: std::path::PathBuf| {
        let json = fs::read(folder.join("expected.json")).unwrap();
        (folder, serde_json::from_slice::<Value>(&json).unwrap())
    };
    fixtures_with(&["expected.json", "expected.safetensors"])
        .into_iter()
        .map(read)
        .filter(|(_, json)| json.get(key).is_some())
        .collect()
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap_or_else(|| panic!("{key} of {json}"))
}

fn size(json: &Value, key: &str) -> usize {
    json[key].as_u64().unwrap_or_else(|| panic!("{key} of {json}")) as usize
}

struct Group<'f> {
    folder: &'f Path,
    json: &'f Value,
    new: Vec<Vec<f32>>,
    old: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
}

impl<'f> Group<'f> {
    fn read(folder: &'f Path, json: &'f Value) -> Self {
        let count = size(json, "prompts") * size(json, "answers");
        let arrays = |kind: &str| -> Vec<Vec<f32>> {
            (0..count).map(|index| expected_tensor(folder, &format!("seq{index}.{kind}_log_probs"))).collect()
        };
        Self { folder, json, new: arrays("new"), old: arrays("old"), reference: arrays("ref") }
    }

    fn rewards(&self) -> Vec<f64> {
        expected_tensor(self.folder, "rewards").into_iter().map(f64::from).collect()
    }

    fn advantages(&self, name: &str) -> Vec<f64> {
        let (group, rewards) = (size(self.json, "answers"), self.rewards());
        let penalised = || {
            let beta = number(self.json, "rloo_beta");
            let kl = |index: usize| -> f64 {
                let pairs = self.old[index].iter().zip(&self.reference[index]);
                pairs.map(|(&old, &reference)| KlEstimator::K1.value(old.into(), reference.into()).0).sum()
            };
            rewards.iter().enumerate().map(|(index, reward)| reward - beta * kl(index)).collect::<Vec<_>>()
        };
        let normalized = |mut advantages: Vec<f64>| {
            normalize(&mut advantages);
            advantages
        };
        match name {
            "group" => group_advantages(&rewards, group, RewardScale::Group),
            "batch" => group_advantages(&rewards, group, RewardScale::Batch),
            "none" => group_advantages(&rewards, group, RewardScale::None),
            "rloo.plain" => leave_one_out(&rewards, group),
            "rloo.kl_in_reward" => leave_one_out(&penalised(), group),
            "rloo.plain_normalized" => normalized(leave_one_out(&rewards, group)),
            "rloo.kl_in_reward_normalized" => normalized(leave_one_out(&penalised(), group)),
            other => panic!("{other} is no kind of advantage"),
        }
    }

    /// The micro-batches' losses and gradients together, cut after every `most` sequences.
    fn gradient(&self, loss: &PolicyLoss, advantages: &[f64], most: usize) -> PolicyGradient {
        let count = self.new.len();
        let tokens = self.new.iter().map(Vec::len).sum();
        let totals = Totals { sequences: count, tokens, micro_batches: count.div_ceil(most) };
        let wide: Vec<Vec<f64>> =
            advantages.iter().zip(&self.new).map(|(advantage, new)| vec![*advantage; new.len()]).collect();
        let sequences: Vec<PolicySequence> = (0..count)
            .map(|index| PolicySequence {
                log_probs: &self.new[index],
                old: &self.old[index],
                reference: &self.reference[index],
                advantages: &wide[index],
                masked: false,
            })
            .collect();
        let mut all = PolicyGradient::default();
        for part in sequences.chunks(most) {
            let part = loss.gradient(part, &totals);
            all.report.add(&part.report);
            all.seeds.extend(part.seeds);
        }
        all
    }
}

#[test]
fn group_relative_losses_are_trls() {
    let all = expectations("rloo_beta");
    assert!(!all.is_empty());
    for (folder, json) in all {
        let group = Group::read(&folder, &json);
        for name in json["advantages"].as_object().unwrap().keys() {
            all_near(name, &group.advantages(name), &expected_tensor(&folder, &format!("advantages.{name}")));
        }
        for (name, expected) in json["losses"].as_object().unwrap() {
            let aggregation = match name.split('.').next().unwrap() {
                "bnpo" => Aggregation::MicroBatchTokens,
                "dapo" => Aggregation::Tokens,
                "dr_grpo" => Aggregation::Fixed(size(&json, "max_completion_length")),
                _ => Aggregation::Sequences,
            };
            let ratio = match expected["importance_ratio"].as_str().unwrap() {
                "token" => Ratio::Token,
                "sequence" => Ratio::SequenceMean,
                _ => Ratio::Sequence,
            };
            let loss = PolicyLoss {
                clip: [number(&json, "epsilon_low"), number(&json, "epsilon_high")],
                ratio,
                dual_clip: None,
                kl_coefficient: expected["kl_coefficient"].as_f64().unwrap_or_default(),
                kl_estimator: KlEstimator::K3,
                aggregation,
            };
            let advantages = group.advantages(expected["advantages"].as_str().unwrap());
            let whole = group.gradient(&loss, &advantages, usize::MAX);
            near(name, whole.report.loss, number(expected, "loss"));
            for (index, seeds) in whole.seeds.iter().enumerate() {
                let expected = expected_tensor(&folder, &format!("grad.{name}.seq{index}"));
                // Some advantages are 0 but for rounding, and so are their gradients.
                assert!(largest_difference(seeds, &expected) < 1e-5, "{name}");
            }
            if let Some(cut) = expected["two_micro_batches"].as_f64() {
                near(name, group.gradient(&loss, &advantages, group.new.len() / 2).report.loss, cut);
            }
            if name == "grpo.beta0" {
                let report = whole.report;
                let share = |count: usize| report.mean(count as f64);
                near("low", share(report.clipped_low), number(&json["clip_fraction"], "low"));
                near("high", share(report.clipped_high), number(&json["clip_fraction"], "high"));
            }
        }
    }
}

#[test]
fn safe_rlhfs_arithmetic_is_its_own() {
    let all = expectations("clip_score");
    assert!(!all.is_empty());
    for (folder, json) in all {
        arithmetic(&folder, &json);
    }
}

fn arithmetic(folder: &Path, json: &Value) {
    let (start, mask) = (size(json, "start"), expected_tensor(folder, "mask"));
    let scores = [expected_tensor(folder, "reward"), expected_tensor(folder, "cost")];
    let (count, width) = (scores[0].len(), mask.len() / scores[0].len());
    // An answer's own tokens, of what is padded.
    let own = |name: &str, from: usize| -> Vec<Vec<f32>> {
        let all = expected_tensor(folder, name);
        let row = |index: usize| {
            let end = (0..width).rposition(|at| mask[index * width + at] != 0.0).unwrap() + 1;
            let columns = all.len() / count;
            all[index * columns + from..index * columns + from + end - start].to_vec()
        };
        (0..count).map(row).collect()
    };
    let (log_probs, reference) = (own("log_probs", start), own("ref_log_probs", start));
    let rewards = TokenRewards {
        kl_coefficient: number(json, "beta"),
        kl_estimator: KlEstimator::K1,
        clip: Some(number(json, "clip_score")),
        clip_score: None,
    };
    let (gamma, gae_lambda) = (number(json, "gamma"), number(json, "gae_lambda"));
    let values = [own("values_reward", start), own("values_cost", start)];
    let estimates: Vec<Vec<_>> = (0..2)
        .map(|kind| {
            let [tokens, advantages, returns] = [
                ["token_rewards", "reward_advantages", "reward_returns"],
                ["token_costs", "cost_advantages", "cost_returns"],
            ][kind];
            let estimate = |index: usize| {
                let score = f64::from(scores[kind][index]);
                let earned = match kind {
                    0 => rewards.rewards(&log_probs[index], &reference[index], score),
                    _ => rewards.costs(&log_probs[index], &reference[index], score),
                };
                all_near(tokens, &earned, &own(tokens, start)[index]);
                let estimate = gae(&earned, &values[kind][index], gamma, gae_lambda);
                all_near(advantages, &estimate.advantages, &own(advantages, 0)[index]);
                all_near(returns, &estimate.returns, &own(returns, 0)[index]);
                estimate
            };
            (0..count).map(estimate).collect()
        })
        .collect();
    let lagrange = Lagrange::new(LagrangeSettings {
        threshold: 0.0,
        init: number(json, "lambda"),
        learning_rate: 0.0,
        max: None,
        delay: 0,
        window: 1,
    });
    let advantages: Vec<Vec<f64>> = estimates[0]
        .iter()
        .zip(&estimates[1])
        .map(|(reward, cost)| {
            let pairs = reward.advantages.iter().zip(&cost.advantages);
            pairs.map(|(reward, cost)| lagrange.combine(*reward, *cost)).collect()
        })
        .collect();
    let totals = Totals { sequences: count, tokens: log_probs.iter().map(Vec::len).sum(), micro_batches: 1 };
    let policy = PolicyLoss {
        clip: [number(json, "clip_ratio"); 2],
        ratio: Ratio::Token,
        dual_clip: None,
        kl_coefficient: 0.0,
        kl_estimator: KlEstimator::K1,
        aggregation: Aggregation::Sequences,
    };
    let new = own("new_log_probs", start);
    let sequences: Vec<PolicySequence> = (0..count)
        .map(|index| PolicySequence {
            log_probs: &new[index],
            old: &log_probs[index],
            reference: &[],
            advantages: &advantages[index],
            masked: false,
        })
        .collect();
    near("actor", policy.gradient(&sequences, &totals).report.loss, number(json, "actor_loss"));
    let new = own("new_values", start);
    let critic = ValueLoss { clip: Some(number(json, "clip_value")), aggregation: Aggregation::Sequences };
    let sequences: Vec<ValueSequence> = (0..count)
        .map(|index| ValueSequence {
            values: &new[index],
            old: &values[0][index],
            returns: &estimates[0][index].returns,
        })
        .collect();
    near("critic", critic.gradient(&sequences, &totals).loss, number(json, "reward_critic_loss"));
}
