//! Learning from rewards: PPO, PPO-Lagrangian and their relatives without critics.

mod alarms;
mod exchange;
mod experience;
mod judge;
mod models;
mod ptx;
mod record;
mod reward_command;
mod roles;
mod rollout;
mod sample;
mod settings;
mod state;
mod together;
mod update;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use paddock_engine::backend::DeviceKind;
use paddock_engine::prompt::TemplateKind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::{Adjoint, Store, Tape};

use crate::files::Description;
use crate::run::checkpoint::{Kept, count_parameters};
use crate::run::memory::{MemoryEstimate, Recipe, RolePlan};
use crate::training::{Evaluated, Kind, Observer, Place, Runs, StartModel, Step, Stepped, Task};
use crate::{Error, Result};
use alarms::{Signs, alarms};
use experience::Answer;
pub(crate) use judge::end_scores;
use ptx::PtxExamples;
use record::Iteration;
use roles::Roles;
pub(crate) use rollout::Prompt;
use rollout::Source;
pub use rollout::{Finish, PpoData, Rollout};
use sample::share;
pub(crate) use sample::{Sampled, Sampler};
pub use settings::{Advantage, LossType, Placement, PpoSettings, Preset};
use update::Controls;

/// Sequences that are sampled side by side.
const SLOTS: usize = 64;

/// `paddock ppo`.
#[derive(Debug)]
pub struct Ppo;

impl Kind for Ppo {
    type Settings = PpoSettings;
    type Task<B: Runs, S: Store<B>> = PpoTask<B, S>;

    fn show_examples(settings: &PpoSettings, count: usize) -> Result<(String, Option<String>)> {
        models::show_prompts(settings, count)
    }
}

/// A run on its way.
pub struct PpoTask<B: Adjoint, S: Store<B>> {
    settings: PpoSettings,
    roles: Roles<B, S>,
    controls: Controls,
    tokenizer: Tokenizer,
    description: Description,
    data: PpoData,
    ptx: Option<PtxExamples>,
    sampler: Sampler,
    on_cpu: bool,
    /// Iterations of the run, once a step has told.
    total: u64,
    notes: Vec<String>,
}

impl<B: Adjoint, S: Store<B>> Kept for PpoTask<B, S> {
    fn leads(&self) -> bool {
        self.roles.actor.leads()
    }

    async fn write_model(&self, folder: Option<&Path>) -> Result<()> {
        models::write_actor(folder, &self.settings, &self.roles, &self.description)
    }

    async fn write_state(&self, folder: Option<&Path>) -> Result<()> {
        state::write(folder, &self.roles, &self.controls)
    }

    async fn read_state(&mut self, folder: &Path) -> Result<()> {
        self.controls = state::read(folder, &self.roles, &self.settings).await?;
        Ok(())
    }
}

impl<B: Runs, S: Store<B>> Task<B, S> for PpoTask<B, S> {
    type Settings = PpoSettings;
    type Data = PpoData;

    async fn read(
        settings: &PpoSettings,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<PpoData> {
        let vocab_size = model.checkpoint.config().vocab_size;
        place
            .first_rank_first(|| PpoData::read(settings, &model.tokenizer, model.context(), vocab_size, observer))
            .await
    }

    fn memory(settings: &PpoSettings, model: &StartModel, recipe: &Recipe) -> Result<MemoryEstimate> {
        let config = model.checkpoint.config();
        let mut estimate = MemoryEstimate::new(config, recipe)?;
        let sequences = (settings.run.batch_size * settings.num_generations).min(SLOTS);
        let plan = RolePlan {
            judges: usize::from(settings.reward_model.is_some()) + usize::from(settings.cost_model.is_some()),
            critics: match settings.advantage {
                Advantage::Gae => 1 + usize::from(settings.has_constraint()),
                _ => 0,
            },
            sequences,
            tokens: recipe.longest,
        };
        estimate.weights += plan.bytes(config, recipe)?.iter().map(|(_, bytes)| bytes).sum::<u64>();
        Ok(estimate)
    }

    async fn load(
        settings: &PpoSettings,
        mut model: StartModel,
        data: PpoData,
        place: Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let context = model.context();
        let ptx = PtxExamples::read(settings, &model.tokenizer, context, observer)?;
        let on_cpu = place.backend.device().kind == DeviceKind::Cpu;
        let mut progress = |at| observer.loading(at);
        let roles = roles::load(settings, &mut model.checkpoint, &model.tokenizer, &place, &mut progress).await?;
        let ends = model.checkpoint.config().eos_token_ids.iter().copied().chain(model.tokenizer.eos()).collect();
        let sampler = Sampler { ends, max_new_tokens: settings.max_new_tokens, seed: settings.run.seed, slots: SLOTS };
        if settings.run.template != TemplateKind::Auto {
            let begins = model.tokenizer.encode("", true)?.first().copied();
            let begins = begins.is_some() && begins == model.tokenizer.bos();
            if let Some(template) = settings.run.template.jinja(begins) {
                model.description.set_chat_template(&template);
            }
        }
        Ok(Self {
            controls: Controls::new(settings),
            settings: settings.clone(),
            roles,
            tokenizer: model.tokenizer,
            description: model.description,
            data,
            ptx,
            sampler,
            on_cpu,
            total: 0,
            notes: Vec::new(),
        })
    }

    fn tape(&self) -> &Tape<B, S> {
        self.roles.actor.tape()
    }

    fn parameters(&self) -> [u64; 2] {
        let model = count_parameters(self.roles.actor.objective().model().config());
        let trained: usize = self.tape().parameters().iter().filter(|info| info.trained).map(|info| info.len()).sum();
        let adapters = if self.settings.run.memory.adapters.lora.is_some() { trained as u64 } else { 0 };
        [model + adapters, trained as u64]
    }

    async fn step(&mut self, step: &Step) -> Result<Stepped> {
        let iteration = step.optimizer.number;
        self.total = step.total;
        let digest = record::digest(&self.roles).await?;
        let began = Instant::now();
        let (asked, sampled) = self.sample(&step.examples, iteration).await?;
        let given = matches!(self.data.source, Source::Given(_));
        let generated = began.elapsed().as_secs_f64();
        let kl_coefficient = self.controls.kl_coefficient();
        let (settings, roles, answers) = (&self.settings, &self.roles, (&asked[..], sampled));
        let answers = experience::score(settings, roles, &self.tokenizer, answers, given, kl_coefficient).await?;
        let scored = began.elapsed().as_secs_f64() - generated;
        if let Some(lagrange) = &mut self.controls.lagrange {
            lagrange.observe(&answers.iter().filter_map(|answer| Some(answer.cost? as f32)).collect::<Vec<f32>>());
        }
        let total = self.settings.schedule_steps.unwrap_or_else(|| self.updates(answers.len()) * step.total);
        let ptx = self.ptx.as_ref().filter(|_| self.settings.ptx_coeff != 0.0);
        let mut updates =
            update::update(&self.settings, &mut self.roles, &mut self.controls, &answers, ptx, total).await?;
        let trained = began.elapsed().as_secs_f64() - generated - scored;
        self.assert_exact(iteration, &updates)?;
        let summary = summary(&answers);
        updates.iter_mut().for_each(|report| report.extend(summary.clone()));
        let advantages = update::advantages(&self.settings, &answers, self.controls.lagrange.as_ref());
        let iteration = Iteration {
            number: iteration,
            answers: &answers,
            advantages: &advantages,
            updates: &updates,
            tokenizer: &self.tokenizer,
            digest: &digest,
            given,
        };
        iteration.write(&self.settings.run.output, &self.roles)?;
        let mut values = updates.pop().unwrap_or_default();
        if let Some(adaptive) = self.settings.adaptive_kl() {
            let next = adaptive.next(kl_coefficient, values["kl_divergence"], answers.len());
            self.controls.set_kl_coefficient(next);
        }
        values.insert("kl_coeff".into(), kl_coefficient);
        let phases = [("generation", generated), ("scoring", scored), ("training", trained)];
        values.extend(phases.map(|(phase, seconds)| (format!("seconds_{phase}"), seconds)));
        self.sound_alarms(&answers, &values)?;
        let tokens = answers.iter().map(|answer| answer.example.ids.len()).sum();
        Ok(Stepped {
            loss: values.get("actor_loss").copied(),
            grad_norm: values.get("actor_grad_norm").copied().unwrap_or_default(),
            tokens,
            values: values.into_iter().collect(),
        })
    }

    /// Says what alarms there were, and at the end writes the critics.
    async fn evaluate(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Option<Evaluated>> {
        self.notes.drain(..).for_each(|note| observer.note(&note));
        if step > 0 && step == self.total {
            models::write_critics(&self.settings, &self.roles)?;
        }
        Ok(None)
    }
}

impl<B: Runs, S: Store<B>> PpoTask<B, S> {
    /// What is asked in an iteration, an entry for each answer, and this rank's share of the answers.
    async fn sample(&self, prompts: &[usize], iteration: u64) -> Result<(Vec<Prompt>, Vec<Sampled>)> {
        let ranks = self.roles.place();
        match &self.data.source {
            Source::Given(iterations) => {
                let all = &iterations[(iteration as usize - 1) % iterations.len()];
                let prompt = |one: &Rollout| Prompt { text: one.prompt.clone(), ids: one.prompt_ids.clone() };
                let sampled = |index: usize| Sampled { rollout: all[index].clone(), log_probs: Vec::new() };
                Ok((all.iter().map(prompt).collect(), share(all.len(), ranks).map(sampled).collect()))
            }
            Source::Prompts(all) => {
                let prompts: Vec<_> = prompts.iter().filter_map(|&index| all.get(index)).collect();
                let model = self.roles.actor.objective().model();
                let copies = self.settings.num_generations;
                let (pause, whole) = (model.backend().pause(), model.backend().keep_whole()?);
                let sampled = self.sampler.answers(model, &prompts, copies, iteration, ranks).await;
                drop((pause, whole));
                let asked = prompts.iter().flat_map(|prompt| std::iter::repeat_n(*prompt, copies).cloned());
                Ok((asked.collect(), sampled?))
            }
        }
    }

    /// Updates of an iteration of `answers` answers.
    fn updates(&self, answers: usize) -> u64 {
        let mini = if self.settings.mini_batch_size == 0 { answers } else { self.settings.mini_batch_size };
        (self.settings.update_iters * answers.div_ceil(mini.max(1))) as u64
    }

    /// On the CPU, what samples is what is trained, to the bit: the first ratios are 1.
    fn assert_exact(&self, iteration: u64, updates: &[update::Report]) -> Result<()> {
        let deviation = updates.first().and_then(|report| report.get("ratio_deviation")).copied().unwrap_or_default();
        if !self.on_cpu || deviation == 0.0 {
            return Ok(());
        }
        Err(Error::Request(format!(
            "iteration {iteration}: the probability of an answer is not what it was drawn with (a ratio is off by \
             {deviation:.1e}, expected exactly 1); this is a fault of Paddock, please report it"
        )))
    }

    fn sound_alarms(&mut self, answers: &[Answer], values: &BTreeMap<String, f64>) -> Result<()> {
        let value = |name: &str| values.get(name).copied().unwrap_or_default();
        let cut = answers.iter().filter(|answer| answer.rollout.finish == Finish::Length).count();
        let signs = Signs {
            entropy: value("entropy"),
            length: value("mean_generated_length"),
            reward: value("reward"),
            cost: value("cost"),
            value_loss: value("reward_critic_loss"),
            kl: value("kl_divergence"),
            cut: cut as f64 / answers.len().max(1) as f64,
            equal_rewards: answers.len() > 1 && answers.iter().all(|answer| answer.score == answers[0].score),
        };
        let first = self.controls.first(signs.compared());
        let found = alarms(&self.settings, &signs, first);
        if self.settings.halt_on_alarm && !found.is_empty() {
            return Err(Error::Request(format!(
                "stopped by an alarm: {}; the newest checkpoint is from before, go on from it with --resume",
                found.join("; ")
            )));
        }
        self.notes.extend(found.into_iter().map(|alarm| format!("alarm: {alarm}")));
        Ok(())
    }
}

/// What the answers of an iteration were like, by Safe-RLHF's names.
fn summary(answers: &[Answer]) -> BTreeMap<String, f64> {
    let count = answers.len().max(1) as f64;
    let mean = |value: &dyn Fn(&Answer) -> f64| answers.iter().map(value).sum::<f64>() / count;
    let inner = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let length = |answer: &Answer| answer.log_probs.len() as f64;
    let mut summary = BTreeMap::from([
        ("reward".to_string(), mean(&|answer| answer.reward)),
        ("kl_divergence".to_string(), mean(&Answer::kl)),
        (
            "entropy".to_string(),
            mean(&|answer| {
                -answer.log_probs.iter().map(|value| f64::from(*value)).sum::<f64>() / length(answer).max(1.0)
            }),
        ),
        ("mean_generated_length".to_string(), mean(&length)),
        ("max_generated_length".to_string(), answers.iter().map(length).fold(0.0, f64::max)),
        ("eos_rate".to_string(), mean(&|answer| f64::from(u8::from(answer.rollout.finish == Finish::Eos)))),
        ("reward_with_kl_penalty".to_string(), mean(&|answer| answer.token_rewards.iter().sum())),
        ("reward_advantage".to_string(), mean(&|answer| inner(&answer.reward_estimate.advantages))),
    ]);
    if answers.iter().any(|answer| answer.score != answer.reward) {
        summary.insert("shaped_reward".to_string(), mean(&|answer| answer.score));
    }
    if answers.iter().any(|answer| !answer.reward_values.is_empty()) {
        summary.insert("reward_return".to_string(), mean(&|answer| inner(&answer.reward_estimate.returns)));
    }
    if answers.iter().any(|answer| answer.cost.is_some()) {
        summary.insert("cost".to_string(), mean(&|answer| answer.cost.unwrap_or_default()));
    }
    if answers.iter().any(|answer| !answer.cost_values.is_empty()) {
        summary.insert("cost_with_kl_penalty".to_string(), mean(&|answer| answer.token_costs.iter().sum()));
        summary.insert("cost_advantage".to_string(), mean(&|answer| inner(&answer.cost_estimate.advantages)));
        summary.insert("cost_return".to_string(), mean(&|answer| inner(&answer.cost_estimate.returns)));
    }
    summary
}
