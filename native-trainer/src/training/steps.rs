//! The steps of a run, from the first to the last.

use std::path::PathBuf;
use std::time::Instant;

use paddock_engine::backend::DeviceInfo;
use paddock_learn::data::Order;
use paddock_learn::optim::OptimizerStep;
use paddock_learn::{Adjoint, Store};

use super::health::{self, Found};
use super::ranks::agree_on_signal;
use super::{Evaluated, Observer, Outcome, Overview, Step, Stepped, Task};
use crate::Result;
use crate::run::checkpoint::{self, Origin, State};
use crate::run::{Metrics, MetricsFile, Settings, resident_memory};

/// A run whose model is loaded.
pub(super) struct Run<'a, T, Told> {
    pub settings: &'a Told,
    pub task: T,
    pub origin: Origin<Told>,
    pub order: Order,
    /// Steps of the run.
    pub total: u64,
    /// Tokens of its examples.
    pub tokens: u64,
    /// Estimated bytes.
    pub memory: u64,
    /// Where the model was read.
    pub model: PathBuf,
}

impl<T, Told: Settings> Run<'_, T, Told> {
    /// Goes on after `state`.
    pub async fn go<B: Adjoint, S: Store<B>>(mut self, mut state: State, observer: &mut dyn Observer) -> Result<Outcome>
    where
        T: Task<B, S, Settings = Told>,
    {
        let (settings, run, order, total, first) =
            (self.settings, self.settings.run(), self.order, self.total, state.step + 1);
        let leads = self.task.leads();
        let overview = self.overview(state);
        observer.begin(&overview);
        let notes = [("run", overview.to_string()), ("settings", settings.to_toml()?)];
        // Indented, as Markdown wants what is to be shown as it is.
        let notes =
            notes.map(|(title, text)| (title, text.lines().map(|line| format!("    {line}\n")).collect::<String>()));
        let mut file = leads.then(|| MetricsFile::open(&run.output, state.step, &notes)).transpose()?;
        if state.step == 0 {
            self.evaluate(0, file.as_mut(), observer).await?;
        }
        let stop = agree_on_signal(self.task.tape().sharding(), observer.stop()).await?;
        if let Some(signal) = stop.filter(|_| state.step < total) {
            return Ok(Outcome::Stopped(state.step, signal));
        }
        while state.step < total {
            let began = Instant::now();
            let learning_rate = run.optimizer.rate(state.step, total);
            let optimizer = OptimizerStep {
                number: state.step + 1,
                learning_rate,
                adamw: run.optimizer.adamw(),
                max_grad_norm: run.optimizer.max_grad_norm,
                seed: run.seed,
            };
            let step = Step { examples: order.batch(state.step), optimizer, total };
            let Stepped { loss, grad_norm, tokens, values } = self.task.step(&step).await?;
            state = State { step: state.step + 1, tokens: state.tokens + tokens as u64 };
            let metrics = Metrics {
                step: state.step,
                loss,
                grad_norm: Some(grad_norm),
                learning_rate: Some(learning_rate),
                tokens: Some(state.tokens),
                tokens_per_s: Some(tokens as f64 / began.elapsed().as_secs_f64()),
                memory: resident_memory(),
                epoch: Some(state.step as f64 / order.steps_per_epoch().max(1) as f64),
                values: values.into_iter().collect(),
                ..Metrics::default()
            };
            let metrics = finished::<B, S, T>(metrics);
            if let Some(file) = &mut file {
                file.push(&metrics)?;
            }
            observer.step(&metrics, total);
            let found = Found { loss: loss.unwrap_or_default(), grad_norm };
            if !(found.loss.is_finite() && grad_norm.is_finite()) {
                return Err(match state.step == first {
                    true => health::at_the_first_step(&self.model, state.step, &found).await?,
                    false => health::later(&run.output, state.step, &found)?,
                });
            }
            if run.eval_steps.is_some_and(|steps| state.step.is_multiple_of(steps.max(1))) || state.step == total {
                self.evaluate(state.step, file.as_mut(), observer).await?;
            }
            let stop = agree_on_signal(self.task.tape().sharding(), observer.stop()).await?;
            let stop = stop.filter(|_| state.step < total);
            let every = run.save_steps.unwrap_or(order.steps_per_epoch()).max(1);
            if stop.is_some() || state.step.is_multiple_of(every) || state.step == total {
                checkpoint::save(&run.output, &self.task, state, &self.origin).await?;
            }
            if let Some(signal) = stop {
                return Ok(Outcome::Stopped(state.step, signal));
            }
        }
        checkpoint::save_result(&run.output, &self.task).await?;
        Ok(Outcome::Finished)
    }

    /// What the run is about to do.
    fn overview<B: Adjoint, S: Store<B>>(&self, state: State) -> Overview
    where
        T: Task<B, S, Settings = Told>,
    {
        let [parameters, trained] = self.task.parameters();
        let tape = self.task.tape();
        let DeviceInfo { name, .. } = tape.inner().device();
        Overview {
            device: name,
            ranks: tape.sharding().map_or(1, |sharding| sharding.ranks.world_size()),
            parameters,
            trained,
            examples: self.order.examples,
            tokens: self.tokens,
            batch_size: self.order.batch_size,
            steps: self.total,
            done: state.step,
            steps_per_epoch: self.order.steps_per_epoch(),
            memory: self.memory,
        }
    }

    async fn evaluate<B: Adjoint, S: Store<B>>(
        &mut self,
        step: u64,
        file: Option<&mut MetricsFile>,
        observer: &mut dyn Observer,
    ) -> Result<()>
    where
        T: Task<B, S, Settings = Told>,
    {
        let Some(Evaluated { loss, values }) = self.task.evaluate(step, observer).await? else { return Ok(()) };
        let values = values.into_iter().map(|(name, value)| (format!("eval_{name}"), value)).collect();
        let metrics = finished::<B, S, T>(Metrics { step, eval_loss: Some(loss), values, ..Metrics::default() });
        if let Some(file) = file {
            file.push(&metrics)?;
        }
        observer.evaluated(&metrics);
        Ok(())
    }
}

/// A line of metrics with what follows from the rest.
fn finished<B: Adjoint, S: Store<B>, T: Task<B, S>>(metrics: Metrics) -> Metrics {
    if T::LOSS_IS_NLL { metrics.with_perplexity().stamped() } else { metrics.stamped() }
}
