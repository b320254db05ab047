//! What is learned from the answers of an iteration.

use std::collections::BTreeMap;

use paddock_learn::data::{Passes, Share};
use paddock_learn::objective::{CriticAnswer, CriticBatch, CriticStep, PolicyAnswer, PolicyBatch, PolicyStep, Ptx};
use paddock_learn::optim::{AdamW, OptimizerStep};
use paddock_learn::rl::{Lagrange, Totals, whiten};
use paddock_learn::{Adjoint, Store};

use super::PpoSettings;
use super::experience::Answer;
use super::ptx::PtxExamples;
use super::roles::{Roles, TrainedCritic, place};
use crate::Result;

/// What changes from update to update, besides weights.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Controls {
    /// Updates done.
    pub updates: u64,
    /// The constraint's multiplier and the costs that it follows.
    pub lagrange: Option<Lagrange>,
    /// The bits of the factor of the KL.
    kl_coefficient: u64,
    /// The bits of what was measured in the first iteration, for the alarms.
    first: Option<[u64; 5]>,
}

impl Controls {
    pub fn new(settings: &PpoSettings) -> Self {
        let lagrange = settings.has_constraint().then(|| Lagrange::new(settings.lagrange()));
        Self { updates: 0, lagrange, kl_coefficient: settings.kl_coeff.to_bits(), first: None }
    }

    /// Those that were saved, for a run of `settings`.
    pub fn resumed(self, settings: &PpoSettings) -> Self {
        Self { lagrange: self.lagrange.map(|lagrange| lagrange.resumed(settings.lagrange())), ..self }
    }

    /// What was measured in the first iteration, which `now` is if there was none.
    pub fn first(&mut self, now: [f64; 5]) -> [f64; 5] {
        self.first.get_or_insert(now.map(f64::to_bits)).map(f64::from_bits)
    }

    pub fn kl_coefficient(&self) -> f64 {
        f64::from_bits(self.kl_coefficient)
    }

    pub fn set_kl_coefficient(&mut self, coefficient: f64) {
        self.kl_coefficient = coefficient.to_bits();
    }
}

/// What an update found, by name, as Safe-RLHF calls it.
pub(super) type Report = BTreeMap<String, f64>;

/// The learning rates of an update, and AdamW.
struct Rates<'a> {
    settings: &'a PpoSettings,
    update: u64,
    total: u64,
}

impl Rates<'_> {
    fn step(&self, learning_rate: f64, adamw: AdamW) -> OptimizerStep {
        let run = &self.settings.run;
        let max_grad_norm = run.optimizer.max_grad_norm;
        OptimizerStep { number: self.update + 1, learning_rate, adamw, max_grad_norm, seed: run.seed }
    }

    fn actor(&self) -> OptimizerStep {
        let optimizer = &self.settings.run.optimizer;
        self.step(optimizer.rate(self.update, self.total), optimizer.adamw())
    }

    fn critic(&self) -> OptimizerStep {
        let (optimizer, settings) = (&self.settings.run.optimizer, self.settings);
        let warmup = optimizer.warmup_rounding.warmup(optimizer.warmup_ratio, self.total);
        // As with transformers, a constant rate does not warm up.
        let warmup = if settings.critic_schedule == paddock_learn::optim::Schedule::Constant { 0 } else { warmup };
        let rate = settings.critic_lr * settings.critic_schedule.factor(self.update, warmup, self.total);
        self.step(rate, AdamW { weight_decay: settings.critic_weight_decay, ..optimizer.adamw() })
    }
}

/// Updates actor and critics by all of `answers`, of which the first of the first pass have to have a ratio of 1 where
/// `exact` says so. Returns what each update found.
pub(super) async fn update<B: Adjoint, S: Store<B>>(
    settings: &PpoSettings,
    roles: &mut Roles<B, S>,
    controls: &mut Controls,
    answers: &[Answer],
    ptx: Option<&PtxExamples>,
    total: u64,
) -> Result<Vec<Report>> {
    let mini = if settings.mini_batch_size == 0 { answers.len() } else { settings.mini_batch_size };
    let ranks = roles.place();
    let mut reports = Vec::new();
    for _ in 0..settings.update_iters {
        for first in (0..answers.len()).step_by(mini.max(1)) {
            let range = first..(first + mini).min(answers.len());
            if let Some(lagrange) = &mut controls.lagrange {
                lagrange.update();
            }
            let advantages = advantages(settings, answers, controls.lagrange.as_ref());
            let rates = Rates { settings, update: controls.updates, total };
            let mut report = Report::new();
            let text =
                ptx.map(|ptx| ptx.share(controls.updates, range.len(), ranks, settings.run.memory.micro_batch_tokens));
            let own = (&answers[range.clone()], &advantages[range.clone()]);
            let batch = policy_batch(settings, controls, own, ranks, text);
            let step = rates.actor();
            let done = roles.actor.step(&batch, &step).await?;
            let PolicyStep { policy, policy_grad_norm, ptx_loss } = roles.actor.objective().last();
            report.insert("actor_loss".into(), done.loss);
            report.insert("actor_grad_norm".into(), done.grad_norm);
            report.insert("rl_grad_norm".into(), policy_grad_norm.unwrap_or(done.grad_norm));
            report.insert("actor_lr".into(), step.learning_rate);
            report.insert("ratio".into(), policy.mean(policy.ratio_sum));
            report.insert("ratio_deviation".into(), policy.ratio_deviation);
            report.insert("approx_kl".into(), policy.mean(policy.kl_sum));
            report.insert("clip_fraction_low".into(), policy.mean(policy.clipped_low as f64));
            report.insert("clip_fraction_high".into(), policy.mean(policy.clipped_high as f64));
            ptx_loss.into_iter().for_each(|loss| {
                report.insert("ptx_loss".into(), loss);
            });
            if let Some(lagrange) = &controls.lagrange {
                report.insert("lambda".into(), lagrange.lambda());
                report.insert("log_lambda".into(), lagrange.log_lambda());
                report.insert("episode_cost".into(), lagrange.mean_cost());
                report.insert("cost_threshold".into(), settings.threshold);
            }
            let own = &answers[range];
            if let Some(critic) = &mut roles.reward_critic {
                let samples = own.iter().map(|one| (one, &one.reward_values, &one.reward_estimate.returns));
                critic_step(settings, critic, samples, "reward", &rates, &mut report).await?;
            }
            if let Some(critic) = &mut roles.cost_critic {
                let samples = own.iter().map(|one| (one, &one.cost_values, &one.cost_estimate.returns));
                critic_step(settings, critic, samples, "cost", &rates, &mut report).await?;
            }
            controls.updates += 1;
            reports.push(report);
        }
    }
    Ok(reports)
}

/// What the actor follows: with a constraint, rewards and costs as the multiplier weighs them.
pub(super) fn advantages(settings: &PpoSettings, answers: &[Answer], lagrange: Option<&Lagrange>) -> Vec<Vec<f64>> {
    let own = |answer: &Answer| match lagrange {
        Some(lagrange) => {
            let pairs = answer.reward_estimate.advantages.iter().zip(&answer.cost_estimate.advantages);
            pairs.map(|(reward, cost)| lagrange.combine(*reward, *cost)).collect()
        }
        None => answer.reward_estimate.advantages.clone(),
    };
    let mut advantages: Vec<Vec<f64>> = answers.iter().map(own).collect();
    if settings.whiten_advantages && settings.advantage == super::Advantage::Gae {
        whiten(&mut advantages);
    }
    advantages
}

fn totals(answers: &[Answer], micro_batches: usize) -> Totals {
    let tokens = answers.iter().filter(|answer| !answer.masked).map(|answer| answer.log_probs.len()).sum();
    Totals { sequences: answers.len(), tokens, micro_batches }
}

fn policy_batch(
    settings: &PpoSettings,
    controls: &Controls,
    (answers, advantages): (&[Answer], &[Vec<f64>]),
    ranks: [usize; 2],
    text: Option<Share>,
) -> PolicyBatch {
    let samples = answers.iter().zip(advantages).map(|(answer, advantages)| PolicyAnswer {
        example: answer.example.clone(),
        old: answer.log_probs.clone(),
        reference: answer.reference.clone(),
        advantages: advantages.clone(),
        masked: answer.masked,
    });
    let samples: Vec<PolicyAnswer> = samples.collect();
    let tokens = settings.run.memory.micro_batch_tokens;
    let Passes { passes, count } = Passes::new(&samples, |one| &one.example, ranks, tokens);
    PolicyBatch {
        totals: totals(answers, count),
        passes,
        loss: settings.policy_loss(controls.kl_coefficient()),
        ptx: text.map(|share| Ptx { share, coefficient: settings.ptx_coeff }),
    }
}

async fn critic_step<'a, B: Adjoint, S: Store<B>>(
    settings: &PpoSettings,
    critic: &mut TrainedCritic<B, S>,
    samples: impl Iterator<Item = (&'a Answer, &'a Vec<f32>, &'a Vec<f64>)>,
    name: &str,
    rates: &Rates<'_>,
    report: &mut Report,
) -> Result<()> {
    let samples: Vec<CriticAnswer> = samples
        .map(|(answer, old, returns)| CriticAnswer {
            example: answer.example.clone(),
            old: old.clone(),
            returns: returns.clone(),
        })
        .collect();
    let (sequences, tokens) = (samples.len(), samples.iter().map(|one| one.returns.len()).sum());
    let most = settings.run.memory.micro_batch_tokens;
    let place = place(critic.trainer.tape());
    let Passes { passes, count } = Passes::new(&samples, |one| &one.example, place, most);
    let totals = Totals { sequences, tokens, micro_batches: count };
    let batch = CriticBatch { passes, totals, loss: settings.value_loss() };
    let step = rates.critic();
    let done = critic.trainer.step(&batch, &step).await?;
    let CriticStep { value, .. } = critic.trainer.objective().last();
    report.insert(format!("{name}_critic_loss"), done.loss);
    report.insert(format!("{name}_critic_grad_norm"), done.grad_norm);
    report.insert(format!("{name}_critic_lr"), step.learning_rate);
    report.insert(format!("{name}_value"), value);
    Ok(())
}
