//! The commands that train: `paddock sft` and its like.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::rc::Rc;

use clap::{Args, ValueEnum};
use paddock_engine::backend::{Cpu, Device};

use super::console;
use super::device::open_cuda;
use super::given::Given;
use super::interrupt::Interrupt;
use super::run_progress::RunProgress;
use crate::cuda::{self, Cuda, Nccl, has_driver, total_memory};
use crate::ranks::{LAUNCHED, RankAddress, Tcp, ThroughHost, Watch};
use crate::run::memory::Open;
use crate::run::{RunSettings, Settings, SettingsFile};
use crate::training::{self, Kind, Outcome, Resume, Runs};
use crate::{Error, Result};
use paddock_learn::Store;
use paddock_learn::collective::Collective;

/// What a run of the settings `T` takes.
#[derive(Debug, Args)]
pub(super) struct Training<T: Settings> {
    // Before the settings, which take their values out of what was parsed and look whether there is a file.
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    settings: T,
    /// Take the settings that no flag gives from a TOML file, as a run saves them in settings.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Continue from the newest checkpoint in the output folder, with the settings that are saved there
    #[arg(long)]
    resume: bool,
    /// With --resume: go on even where settings or examples are not those of the run so far
    #[arg(long, requires = "resume")]
    allow_changes: bool,
    /// Print the first N examples with what is learned between [[ and ]], and train nothing
    #[arg(long, value_name = "N")]
    show_examples: Option<usize>,
    /// Without a terminal: steps between lines of progress, which also come after 30 seconds
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    log_steps: u64,
    /// Print what happens on standard output, a JSON object a line: begin, step, evaluation, sample, end
    #[arg(long)]
    json: bool,
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

impl<T: Settings> Training<T> {
    /// Refuses flags that make no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.config.is_some() || self.resume { Ok(()) } else { self.settings.check() }
    }

    /// The file that flags stand above: the one that is named, or the one of the run that goes on.
    fn file(&self) -> Result<SettingsFile> {
        let saved = self.settings.run().output.join(training::SETTINGS);
        match &self.config {
            Some(path) => SettingsFile::read::<T>(path),
            None if self.resume && self.given.0.contains("output") && saved.exists() => SettingsFile::read::<T>(&saved),
            None if self.resume && self.given.0.contains("output") && !self.given.0.contains("model") => {
                Err(Error::Request(format!(
                    "{} holds no run to go on with (there is no {}); check --output, or give the run's settings",
                    self.settings.run().output.display(),
                    training::SETTINGS
                )))
            }
            None => Ok(SettingsFile::default()),
        }
    }

    pub fn run<K: Kind<Settings = T>>(&self) -> Result<ExitCode> {
        let interrupt = Interrupt::listen_for_run()?;
        if std::env::var_os(LAUNCHED).is_some() {
            interrupt.stop_with_launcher();
        }
        let file = self.file()?;
        let open = self.given.open(&file);
        let mut settings = file.with_flags(&self.settings, &self.given.0)?;
        if let Some(count) = self.show_examples {
            let (text, left_out) = K::show_examples(&settings, count)?;
            io::stdout().lock().write_all(text.as_bytes())?;
            if let Some(note) = left_out {
                console::note(note);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let place = RankAddress::from_environment()?;
        let device = match self.device {
            TrainingDevice::Cpu => None,
            TrainingDevice::Cuda => Some(self.open_card(settings.run_mut(), open, place.as_ref())?),
            TrainingDevice::Auto if has_driver() => match self.open_card(settings.run_mut(), open, place.as_ref()) {
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
        let leads = place.as_ref().is_none_or(|place| place.rank == 0);
        let bar = RunProgress::new(Some(interrupt), leads, self.log_steps, self.json);
        let Some(place) = place else {
            return match device {
                Some(cuda) => self.train::<K, _>(cuda, None, &settings, bar),
                None => self.train::<K, _>(self.cpu(), None, &settings, bar),
            };
        };
        let identity = training::identity(&settings, if device.is_some() { "cuda" } else { "cpu" }, self.resume)?;
        let note: fn(&str) = |text| console::note(text);
        match device {
            Some(cuda) => {
                // What waits for another rank's GPU cannot be called back.
                let silent: fn(&str) = |sentence| {
                    console::error(format_args!("error: {sentence}"));
                    process::exit(1)
                };
                let ranks = Nccl::join(&place, &identity, Watch { note, silent }, cuda.driver())?;
                self.train::<K, _>(cuda, Some(Rc::new(ranks)), &settings, bar)
            }
            None => {
                let ranks = Tcp::join(&place, &identity, Watch { note, silent: |_| {} })?;
                self.train::<K, _>(self.cpu(), Some(Rc::new(ThroughHost(ranks))), &settings, bar)
            }
        }
    }

    fn cpu(&self) -> Cpu {
        self.threads.map_or_else(Cpu::new, |threads| Cpu::with_threads(threads.into()))
    }

    /// Opens this process's NVIDIA card. Settings that were not given are chosen to fit it, and noted on stderr.
    fn open_card(
        &self,
        settings: &mut RunSettings,
        open: Open,
        place: Option<&RankAddress>,
    ) -> Result<Cuda<cuda::Device>> {
        let mut fitted = settings.clone();
        let ranks = place.map_or(1, |place| place.world_size);
        let (formats, text) = training::fit_card(&mut fitted, open, total_memory()?, ranks)?;
        let cuda = open_cuda(place.map_or(0, |place| place.local_rank), formats)?;
        *settings = fitted;
        if place.is_none_or(|place| place.rank == 0) {
            console::note(format_args!("device: {}", cuda.device().name));
            console::note(text);
        }
        Ok(cuda)
    }

    /// Trains on `backend`, alone or as one of `ranks`, and shows progress on `bar`.
    fn train<K: Kind<Settings = T>, B: Runs + Store<B>>(
        &self,
        backend: B,
        ranks: Option<Rc<dyn Collective<B>>>,
        settings: &T,
        mut bar: RunProgress,
    ) -> Result<ExitCode> {
        let resume = Resume { resume: self.resume, allow_changes: self.allow_changes };
        let outcome = pollster::block_on(training::run::<K, B>(backend, ranks, settings, resume, &mut bar))?;
        bar.end(&settings.run().output, outcome)?;
        let shown = bar.shown;
        drop(bar);
        if shown {
            report(settings.run(), outcome);
        }
        Ok(match outcome {
            Outcome::Finished => ExitCode::SUCCESS,
            Outcome::Stopped(_, signal) => ExitCode::from(signal.exit_code()),
        })
    }
}

/// Notes how a run ended.
fn report(settings: &RunSettings, outcome: Outcome) {
    let output = settings.output.display();
    match outcome {
        Outcome::Finished if settings.memory.adapters.lora.is_some() => {
            console::note(format_args!("{output}: the adapter; paddock merge adds it to the model"));
        }
        Outcome::Finished => console::note(format_args!("{output}: the tuned model")),
        Outcome::Stopped(0, _) => console::note("stopped before the first step"),
        Outcome::Stopped(step, _) => console::note(format_args!("stopped after step {step}; continue with --resume")),
    }
}
