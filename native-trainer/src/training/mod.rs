//! A training run from settings to a folder, whatever is learned: where it begins, its checkpoints, metrics, ranks and
//! signals. What a kind of run has of its own is a [`Task`].

mod fit;
mod health;
mod identity;
mod overview;
mod ranks;
mod start;
mod steps;
mod task;

use std::rc::Rc;

use paddock_engine::backend::DeviceKind;
use paddock_learn::collective::{Collective, Sharding};
use paddock_learn::data::Order;
use paddock_learn::{Adjoint, Offload, Store};

use crate::cuda::Dtype;
use crate::run::checkpoint::{Origin, State, clear_removed};
use crate::run::memory::{Recipe, RunDevice};
use crate::run::{RunSettings, Settings};
use crate::signals::Signal;
use crate::{Error, Result};
use fit::check_memory;
pub use fit::fit_card;
pub use identity::identity;
use identity::read_beside;
pub use overview::{Overview, VERSION};
use ranks::{agree_on_start, first_rank_first};
pub use start::{Resume, SETTINGS};
use steps::Run;
pub use task::{Data, Evaluated, Kind, Observer, Place, Runs, StartModel, Step, Stepped, Task};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were done; the model is in the run's folder.
    Finished,
    /// It was stopped after this many steps by this signal; a checkpoint was saved, if there was any step.
    Stopped(u64, Signal),
}

/// Runs `settings` on `backend`, alone or as one of `ranks`, of which the first writes the run's files; `resume` says
/// whether it continues another.
///
/// # Errors
/// When settings make no sense, the model or the data cannot be read, something is in the way in the run's folder, it
/// holds nothing undamaged to continue, or a run with other settings; when the numbers are no longer finite, the disk
/// refuses, or a rank has ended.
pub async fn run<K: Kind, B: Runs + Store<B>>(
    backend: B,
    ranks: Option<Rc<dyn Collective<B>>>,
    settings: &K::Settings,
    resume: Resume,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    settings.check().map_err(Error::Request)?;
    let memory = &settings.run().memory;
    let sharding = ranks.map(|ranks| Sharding { ranks, stage: memory.zero });
    if memory.offload_optimizer {
        let place = Place { backend, store: Offload::new(), sharding };
        return train::<B, _, K::Task<B, Offload>>(place, settings, resume, observer).await;
    }
    let place = Place { store: backend.clone(), backend, sharding };
    train::<B, _, K::Task<B, B>>(place, settings, resume, observer).await
}

/// [`run`] with the optimiser's state where `place` says.
async fn train<B: Adjoint, S: Store<B>, T: Task<B, S>>(
    place: Place<B, S>,
    settings: &T::Settings,
    resume: Resume,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let run = settings.run();
    let start = agree_on_start(place.sharding.as_ref(), &run.output, resume.resume).await?;
    start.compare_kind(settings)?;
    start.notes.iter().for_each(|note| observer.note(note));
    // Checkpoints of adapters do not contain the model.
    let path = match &start.resumed {
        Some((path, _)) if run.memory.adapters.lora.is_none() => path.clone(),
        _ => run.model.clone(),
    };
    let mut model = StartModel::open(&path, run, observer).await?;
    let data = T::read(settings, &mut model, &place, observer).await?;
    let origin = Origin::new(settings.clone(), data.digest(), read_beside(settings).await?);
    for change in start.compare(&origin, resume.allow_changes)? {
        observer.note(&format!("changed: {change}"));
    }
    let seed = run.shuffle.then_some(run.seed);
    let order = Order { examples: data.len(), batch_size: run.batch_size, seed };
    let total = run.max_steps.unwrap_or(order.steps_per_epoch() * run.epochs);
    if place.leads() && start.resumed.is_some() {
        clear_removed(&run.output)?;
    }
    if start.is_finished(&run.output, total)? {
        observer.note(&format!("all {total} steps are done already"));
        return Ok(Outcome::Finished);
    }
    let folder = place.leads().then(|| start.begin(settings)).transpose()?;
    let recipe = recipe(run, &place, model.context());
    let on_cpu = recipe.device == RunDevice::Cpu;
    if on_cpu || run.memory.offload_optimizer {
        check_memory(&recipe, model.checkpoint.config())?;
    }
    let memory = T::memory(settings, &model, &recipe).map_or(0, |estimate| estimate.total());
    let tokens = data.tokens();
    let mut task = T::load(settings, model, data, place, observer).await?;
    let state = match &start.resumed {
        Some((path, state)) => {
            task.read_state(path).await?;
            observer.note(&format!("continuing after step {} of {}", state.step, path.display()));
            *state
        }
        None => State { step: 0, tokens: 0 },
    };
    if let Some(folder) = folder {
        folder.keep();
    }
    Run { settings, task, origin, order, total, tokens, memory, model: path }.go(state, observer).await
}

/// What the run's memory depends on.
fn recipe<B: Adjoint, S: Store<B>>(run: &RunSettings, place: &Place<B, S>, context: usize) -> Recipe {
    let on_cpu = place.backend.device().kind == DeviceKind::Cpu;
    let device = if on_cpu { RunDevice::Cpu } else { RunDevice::Cuda { gradients: Dtype::F32 } };
    Recipe { device, ranks: place.ranks(), longest: run.max_length.min(context), settings: run.memory.clone() }
}
