//! `paddock instruct generate`: instruction data from a teacher.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::HumanCount;
use paddock_engine::backend::Backend;
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::{Checkpoint, folder_tokenizer_files};
use serde_json::Value;

use super::super::console;
use super::super::device::{DeviceOptions, OpenDevice};
use super::super::interrupt::Interrupt;
use super::super::options::{ModelOptions, model_name, not_negative, probability_above_zero};
use super::super::progress::Counter;
use super::super::teacher::{Asked, ServerFlags};
use super::dropped_lines;
use crate::files::ModelSource;
use crate::instruct::teacher::{Local, Server, Teacher, turn};
use crate::instruct::{
    Ended, Journal, Limits, Method, Outcome, Plan, Row, Wording, generate, keep_settings, read_rows, write_rows,
};
use crate::{Error, Result};

/// What a run made, as Alpaca's data and as JSON lines.
const DATA: [&str; 2] = ["data.json", "data.jsonl"];

/// Have a model make instructions and their answers
#[derive(Debug, Args)]
pub(in super::super) struct Generate {
    /// Tasks written by people: Self-Instruct's seed_tasks.jsonl, or any file of instructions; magpie needs none
    #[arg(long, value_name = "FILE")]
    seeds: Option<PathBuf>,
    /// Who makes the data: local:PATH is a model folder or file of this machine, an address such as http://localhost:8080 a
    /// server that speaks OpenAI's protocol
    #[arg(long, value_name = "local:PATH|URL")]
    teacher: String,
    /// How: alpaca continues lists of tasks, magpie has the teacher write users' turns, evolve rewrites the seeds
    #[arg(long, value_enum, default_value_t = Method::Alpaca, value_name = "NAME")]
    method: Method,
    /// Instructions to make
    #[arg(long, value_name = "N")]
    count: usize,
    /// The folder of the run; a run that was stopped is continued
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Wording of Alpaca's request: as its data was made, or with its numbering and spelling mended
    #[arg(long, value_enum, default_value_t = Wording::AlpacaReleased, value_name = "NAME")]
    prompt: Wording,
    /// Randomness of the instructions; answers of magpie and evolve are the most probable ones
    #[arg(long, default_value_t = 1.0, value_name = "T", value_parser = not_negative)]
    temperature: f32,
    /// Choose among the most probable tokens that together reach this probability
    #[arg(long, default_value_t = 1.0, value_name = "P", value_parser = probability_above_zero)]
    top_p: f32,
    /// Most tokens of an answer that magpie and evolve ask for
    #[arg(long, default_value_t = 512, value_name = "N")]
    max_tokens: usize,
    /// Seed of all choices
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u32,
    /// Prompts that are answered at a time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// The server's model [default: the first that it offers]
    #[arg(long, value_name = "NAME")]
    teacher_model: Option<String>,
    /// A folder with the server model's tokenizer and chat template, for magpie
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    server: ServerFlags,
    /// How messages become a prompt of a local teacher: auto (its own chat template, if any), none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Most tokens of a prompt and its answer, of a local teacher [default: the model's own, at most 4096]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    #[command(flatten)]
    device: DeviceOptions,
}

impl Generate {
    pub fn run(&self) -> Result<ExitCode> {
        let plan = self.plan()?;
        fs::create_dir_all(&self.output).map_err(Error::path("create", &self.output))?;
        self.keep_settings(&plan)?;
        let journal = Journal::open(&self.output)?;
        if !journal.is_empty() {
            console::note(format_args!("going on after {} answers in the journal", HumanCount(journal.len() as u64)));
        }
        match self.teacher.strip_prefix("local:") {
            Some(path) => self.ask_model(Path::new(path), &plan, journal),
            None => {
                let mut server = self.server()?;
                self.generate(&plan, journal, &mut server)
            }
        }
    }

    fn plan(&self) -> Result<Plan> {
        let seeds: Vec<Row> = match &self.seeds {
            Some(path) => {
                let (rows, note) = read_rows(path)?;
                note.iter().for_each(console::note);
                rows.into_iter().map(|row| row.row).collect()
            }
            None => Vec::new(),
        };
        let least = match self.method {
            Method::Alpaca => 3,
            Method::Evolve => 1,
            Method::Magpie => 0,
        };
        if seeds.len() < least {
            return Err(Error::Request(format!(
                "this method needs at least {least} seed tasks, found {}; name a file that has them with --seeds",
                seeds.len()
            )));
        }
        Ok(Plan {
            method: self.method,
            wording: self.prompt,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens.max(1),
            seed: self.seed,
            seeds,
        })
    }

    /// Writes the settings of a new run; those of one that goes on must be the same.
    fn keep_settings(&self, plan: &Plan) -> Result<()> {
        let mut settings = serde_json::to_value(plan).map_err(io::Error::from)?;
        settings["teacher"] = Value::from(self.teacher.clone());
        settings["teacher_model"] = self.teacher_model.clone().into();
        keep_settings(&self.output, &settings)
    }

    fn server(&self) -> Result<Server> {
        let turn = match &self.tokenizer {
            Some(path) => {
                let (tokenizer, template) = pollster::block_on(tokenizer(path))?;
                let text = turn(&Template::new(self.template.or(template), &tokenizer)?)?;
                Some((tokenizer.encode(&text, false)?, text))
            }
            None => None,
        };
        self.server.connect(Asked {
            role: "teacher",
            address: &self.teacher,
            model: self.teacher_model.as_deref(),
            concurrency: self.concurrency,
            turn,
        })
    }

    fn ask_model(&self, path: &Path, plan: &Plan, journal: Journal) -> Result<ExitCode> {
        match self.device.open()? {
            OpenDevice::Cpu(cpu) => self.ask_model_on(&cpu, path, plan, journal),
            OpenDevice::Wgpu(gpu) => self.ask_model_on(&gpu, path, plan, journal),
            OpenDevice::Cuda(cuda) => self.ask_model_on(&cuda, path, plan, journal),
        }
    }

    fn ask_model_on<B: Backend>(&self, backend: &B, path: &Path, plan: &Plan, journal: Journal) -> Result<ExitCode> {
        let options =
            ModelOptions { model: path.to_path_buf(), adapter: None, context: self.context, device: self.device };
        let chat = pollster::block_on(options.load(backend))?;
        let name = model_name(path, None)?;
        let mut teacher = Local::new(chat, self.template, name, self.concurrency.into())?;
        self.generate(plan, journal, &mut teacher)
    }

    fn generate(&self, plan: &Plan, mut journal: Journal, teacher: &mut dyn Teacher) -> Result<ExitCode> {
        let limits = Limits { count: self.count, budget: self.server.budget() };
        let interrupt = Interrupt::listen_for_run()?;
        interrupt.begin_run("stopping; what is under way is still kept (Ctrl-C again ends at once)");
        let outcome = {
            let mut counter = Counter::new("keeping", "instructions", self.count);
            generate(plan, &mut journal, teacher, limits, &|| interrupt.requested().is_some(), &mut |progress| {
                counter.update(progress.kept);
            })?
        };
        self.write(&outcome)?;
        console::note(self.report(&outcome, limits));
        if outcome.ended == Ended::Fruitless {
            return Err(Error::Request(
                "twenty requests in a row gave nothing that was kept; the teacher may not be able to do this, or has said \
                 what it can: try another --method, --temperature or teacher"
                    .to_string(),
            ));
        }
        interrupt.end_answer();
        Ok(interrupt.requested().map_or(ExitCode::SUCCESS, |signal| ExitCode::from(signal.exit_code())))
    }

    fn write(&self, outcome: &Outcome) -> Result<()> {
        let rows = outcome.kept.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(io::Error::from)?;
        DATA.iter().try_for_each(|name| write_rows(&self.output.join(name), &rows))
    }

    fn report(&self, outcome: &Outcome, limits: Limits) -> String {
        let why = match outcome.ended {
            Ended::Complete => "",
            Ended::Stopped => " (stopped; the same command goes on)",
            Ended::Cost => " (stopped at --max-cost; the same command with a higher one goes on)",
            Ended::Fruitless => " (stopped: nothing new comes)",
        };
        let count = |count: usize| HumanCount(count as u64);
        let usage = outcome.usage;
        let cost = match limits.budget.prices {
            [0.0, 0.0] => String::new(),
            _ => format!(", {:.4} spent", limits.budget.cost(usage)),
        };
        format!(
            "kept {} instructions of {} requests{why}; {}{} tokens read and {} written{cost}; in {}\nleft out {}:{}",
            count(outcome.kept.len()),
            count(outcome.requests),
            if usage.estimated { "about " } else { "" },
            HumanCount(usage.prompt_tokens),
            HumanCount(usage.completion_tokens),
            self.output.join(DATA[0]).display(),
            count(outcome.dropped.total()),
            dropped_lines(&outcome.dropped)
        )
    }
}

/// The tokenizer and the template of a model, or of a folder that has its tokenizer alone.
async fn tokenizer(path: &Path) -> Result<(Tokenizer, TemplateKind)> {
    let (files, template) = match Checkpoint::open(ModelSource::open(path)?).await {
        Ok(mut checkpoint) => (checkpoint.tokenizer_files().await?, checkpoint.template()),
        Err(problem) => match folder_tokenizer_files(&ModelSource::open(path)?).await {
            Ok(files) => (files, TemplateKind::Auto),
            Err(_) => return Err(problem.into()),
        },
    };
    Ok((Tokenizer::from_files(&files)?, template))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_have_the_tokenizer_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(pollster::block_on(tokenizer(folder.path())).is_err());
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama-mha");
        fs::copy(model.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        let (alone, _) = pollster::block_on(tokenizer(folder.path())).unwrap();
        let (whole, _) = pollster::block_on(tokenizer(&model)).unwrap();
        assert_eq!(alone.encode("Hello there", false).unwrap(), whole.encode("Hello there", false).unwrap());
    }
}
