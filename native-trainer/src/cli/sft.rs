//! `paddock sft`: supervised fine-tuning by Alpaca's recipe.

use std::path::PathBuf;
use std::rc::Rc;

use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use paddock_engine::backend::{Cpu, Device};
use paddock_engine::model::LoadProgress;

use super::console;
use super::device::open_cuda;
use super::interrupt::Interrupt;
use super::open::OpenFlags;
use super::progress::{ProgressLine, Steps};
use crate::cuda::{self, Cuda, Nccl, has_driver, total_memory};
use crate::ranks::{RankAddress, Tcp, ThroughHost};
use crate::run::memory::Open;
use crate::run::{Metrics, SftSettings};
use crate::sft::{self, Observer, Outcome};
use crate::{Error, Result};
use paddock_learn::collective::Collective;
use paddock_learn::{Adjoint, Store};

/// Fine-tune a model on examples; the defaults are Stanford Alpaca's
#[derive(Debug, Args)]
pub(super) struct Sft {
    /// Take all settings of the run from a TOML file, as a run saves them in settings.toml
    #[arg(long, value_name = "FILE", conflicts_with_all = SftSettings::flags())]
    config: Option<PathBuf>,
    // Before the settings, which take their values out of what was parsed.
    #[command(flatten)]
    open: OpenFlags,
    #[command(flatten)]
    settings: SftSettings,
    /// Continue from the newest checkpoint in the output folder
    #[arg(long)]
    resume: bool,
    /// Where to train
    #[arg(long, value_enum, default_value = "auto", value_name = "NAME")]
    device: TrainingDevice,
    /// Threads of the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrainingDevice {
    Auto,
    Cpu,
    Cuda,
}

impl Sft {
    /// Refuses flags that make no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.config.is_some() { Ok(()) } else { self.settings.check() }
    }

    pub fn run(&self) -> Result<()> {
        let mut settings = match &self.config {
            Some(path) => SftSettings::read(path)?,
            None => self.settings.clone(),
        };
        let place = RankAddress::from_environment()?;
        let device = match self.device {
            TrainingDevice::Cpu => None,
            TrainingDevice::Cuda => Some(self.open_card(&mut settings, place.as_ref())?),
            TrainingDevice::Auto if has_driver() => match self.open_card(&mut settings, place.as_ref()) {
                Ok(cuda) => Some(cuda),
                Err(error) => {
                    console::note(format_args!("CUDA is not used: {error}"));
                    None
                }
            },
            TrainingDevice::Auto => None,
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.map_or(0, usize::from))
            .build_global()
            .map_err(|error| Error::Request(format!("cannot start threads: {error}")))?;
        let shown = place.as_ref().is_none_or(|place| place.rank == 0);
        match device {
            Some(cuda) => {
                let ranks = place.map(|place| Nccl::join(&place, cuda.driver())).transpose()?;
                self.train(cuda, ranks.map(|ranks| Rc::new(ranks) as _), &settings, shown)
            }
            None => {
                let cpu = self.threads.map_or_else(Cpu::new, |threads| Cpu::with_threads(threads.into()));
                let ranks = place.map(|place| Tcp::join(&place)).transpose()?;
                self.train(cpu, ranks.map(|ranks| Rc::new(ThroughHost(ranks)) as _), &settings, shown)
            }
        }
    }

    /// Opens this process's NVIDIA card. Settings that were not given are chosen to fit it, and noted on stderr.
    fn open_card(&self, settings: &mut SftSettings, place: Option<&RankAddress>) -> Result<Cuda<cuda::Device>> {
        let open = if self.config.is_some() { Open::default() } else { self.open.0 };
        let mut fitted = settings.clone();
        let ranks = place.map_or(1, |place| place.world_size);
        let (formats, text) = sft::fit_card(&mut fitted, open, total_memory()?, ranks)?;
        let cuda = open_cuda(place.map_or(0, |place| place.local_rank), formats)?;
        *settings = fitted;
        if place.is_none_or(|place| place.rank == 0) {
            console::note(format_args!("device: {}", cuda.device().name));
            console::note(text);
        }
        Ok(cuda)
    }

    /// Trains on `backend`, alone or as one of `ranks`; progress is shown if `shown`.
    fn train<B: Adjoint + Store<B>>(
        &self,
        backend: B,
        ranks: Option<Rc<dyn Collective<B>>>,
        settings: &SftSettings,
        shown: bool,
    ) -> Result<()> {
        let interrupt = Interrupt::listen()?;
        interrupt.begin_answer();
        let mut bar = Bar::new(interrupt, shown);
        let outcome = pollster::block_on(sft::run(backend, ranks, settings, self.resume, &mut bar))?;
        drop(bar);
        if shown {
            report(settings, outcome);
        }
        Ok(())
    }
}

/// Notes how a run ended.
fn report(settings: &SftSettings, outcome: Outcome) {
    let output = settings.output.display();
    match outcome {
        Outcome::Finished if settings.memory.adapters.lora.is_some() => {
            console::note(format_args!("{output}: the adapter; paddock merge adds it to the model"));
        }
        Outcome::Finished => console::note(format_args!("{output}: the tuned model")),
        Outcome::Stopped(step) => console::note(format_args!("stopped after step {step}; continue with --resume")),
    }
}

/// The run's progress bar; of several ranks only the first shows one.
struct Bar {
    shown: bool,
    interrupt: Interrupt,
    loading: Option<ProgressLine>,
    steps: Option<Steps>,
}

impl Bar {
    fn new(interrupt: Interrupt, shown: bool) -> Self {
        Self { shown, interrupt, loading: shown.then(|| ProgressLine::new("loading")), steps: None }
    }
}

impl Observer for Bar {
    fn loading(&mut self, progress: LoadProgress) {
        if let Some(line) = &mut self.loading {
            line.update(progress);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.steps {
            Some(steps) => steps.above(|| console::note(text)),
            None if self.shown => console::note(text),
            None => {}
        }
    }

    fn step(&mut self, metrics: &Metrics, total: u64) {
        self.loading = None;
        if !self.shown {
            return;
        }
        let rate = HumanCount(metrics.tokens_per_s.unwrap_or_default() as u64);
        let message = format!("loss {:.4}, {rate} tokens/s", metrics.loss.unwrap_or_default());
        self.steps.get_or_insert_with(Steps::new).update(metrics.step, total, message);
    }

    fn stop(&self) -> bool {
        self.interrupt.requested()
    }
}
