//! `cargo xtask demo-align`: a reward model and a cost model from rules, PPO-Lagrangian on both, the same without its
//! multiplier, and what came of it, written to docs/alignment.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::{Result, default_model, process, workspace};

use crate::demo_head::pairs::{self, Pair, Task};

mod costs;
mod report;

/// Every fifth task is held out.
const HELD_OUT: usize = 5;

/// Tokens of a prompt and its answer for the score models: longer answers are cut there, as sampled ones are, so that an answer
/// without an end is nothing new to them.
const SCORED: &str = "96";

/// Words of answers that are not cut there.
const WHOLE: usize = 30;

/// What to train from, and for how long.
#[derive(clap::Args)]
pub struct Options {
    /// Self-Instruct's seed_tasks.jsonl
    #[arg(long, value_name = "PATH")]
    seed_tasks: PathBuf,
    /// Iterations of each of the two runs
    #[arg(long, default_value_t = 16, value_name = "N")]
    iterations: usize,
    /// Steps of the reward and of the cost model, at most
    #[arg(long, default_value_t = 40, value_name = "N")]
    score_steps: usize,
    /// Answers of an iteration
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch_size: usize,
    /// Prompts of the comparison at the end
    #[arg(long, default_value_t = 24, value_name = "N")]
    contest: usize,
}

/// Trains, compares and reports.
pub fn run(options: &Options) -> Result<()> {
    let read = fs::read_to_string(&options.seed_tasks);
    let tasks = pairs::tasks(&read.map_err(|error| cannot("read", &options.seed_tasks, error))?)?;
    let demo = Demo { model: default_model::ensure()?, paddock: workspace::paddock(true)?, folder: folder()? };
    let is_held_out = |task: usize| task.is_multiple_of(HELD_OUT);
    // What an answer is worth is not to depend on its length, nor on whether it ends: its own words in another order, or
    // another answer, of which neither is cut.
    let is_fair = |pair: &Pair| pair.kind == "shuffled" || (pair.kind == "another" && pair.words() <= WHOLE);
    let rewards: Vec<Pair> = pairs::derive(&tasks).into_iter().filter(is_fair).collect();
    let (held_out, train): (Vec<&Pair>, Vec<&Pair>) = rewards.iter().partition(|pair| is_held_out(pair.task));
    demo.write("reward.jsonl", train.iter().map(|pair| pair.row()))?;
    demo.write("reward-eval.jsonl", held_out.iter().map(|pair| pair.row()))?;
    let costs = costs::derive(&tasks);
    let rows = |held_out: bool| costs.iter().filter(move |(task, _)| is_held_out(*task) == held_out);
    demo.write("cost.jsonl", rows(false).map(|(_, row)| row.clone()))?;
    demo.write("cost-eval.jsonl", rows(true).map(|(_, row)| row.clone()))?;
    let prompts = |held_out: bool| {
        let wanted = move |(index, _): &(usize, &Task)| is_held_out(*index) == held_out;
        tasks.iter().enumerate().filter(wanted).filter(|(_, task)| task.prompt().len() < 300)
    };
    // Whole batches: an iteration of fewer answers would only be noise in the curves.
    let whole = prompts(false).count() / options.batch_size.max(1) * options.batch_size;
    let row = |(_, task): (usize, &Task)| serde_json::json!({ "prompt": task.prompt() });
    demo.write("prompts.jsonl", prompts(false).take(whole).map(row))?;
    demo.write("prompts-eval.jsonl", prompts(true).map(row))?;

    demo.score_model("reward", options.score_steps)?;
    demo.score_model("cost", options.score_steps)?;
    demo.align("ppo-lag", options, &["--lambda-init", "0.5", "--lambda-lr", "0.05", "--lambda-max", "5"])?;
    demo.align("without", options, &["--lambda-init", "1e-6", "--lambda-lr", "0"])?;
    demo.contest(options.contest)?;
    let runs = [demo.metrics("ppo-lag")?, demo.metrics("without")?];
    let results = demo.folder.join("arena/report.json");
    let text = fs::read(&results).map_err(|error| cannot("read", &results, error))?;
    let results: Value = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", results.display()))?;
    let images = workspace::root().join("docs/images");
    fs::create_dir_all(&images).map_err(|error| cannot("create", &images, error))?;
    let image = images.join("demo-align.svg");
    fs::write(&image, report::curves(&runs)).map_err(|error| cannot("write", &image, error))?;
    let path = workspace::root().join("docs/alignment.md");
    let document = fs::read_to_string(&path).map_err(|error| cannot("read", &path, error))?;
    let document = report::inserted(&document, &report::section(&runs, &results, options.iterations));
    fs::write(&path, document).map_err(|error| cannot("write", &path, error))?;
    println!("docs/alignment.md and docs/images/demo-align.svg are written; the runs are in {}", demo.folder.display());
    Ok(())
}

/// A new folder for what is made.
fn folder() -> Result<PathBuf> {
    let folder = workspace::target().join("demo-align");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| cannot("remove", &folder, error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, error))?;
    Ok(folder)
}

struct Demo {
    model: PathBuf,
    paddock: PathBuf,
    folder: PathBuf,
}

impl Demo {
    fn write(&self, name: &str, rows: impl Iterator<Item = Value>) -> Result<()> {
        let path = self.folder.join(name);
        let text: String = rows.map(|row| format!("{row}\n")).collect();
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.paddock);
        command.arg(subcommand).current_dir(&self.folder);
        command
    }

    /// `paddock reward` or `paddock cost`: an adapter and a head on the model.
    fn score_model(&self, kind: &str, steps: usize) -> Result<()> {
        let mut command = self.command(kind);
        command.arg("--model").arg(&self.model).args(["--data", &format!("{kind}.jsonl"), "--output", kind]);
        command.args(["--eval-data", &format!("{kind}-eval.jsonl"), "--max-steps", &steps.to_string()]);
        command.args(["--batch-size", "8", "--max-length", SCORED, "--learning-rate", "5e-4", "--device", "cpu"]);
        process::run(command.args(["--lora-rank", "8", "--lora-targets", "all-linear"]))
    }

    fn align(&self, output: &str, options: &Options, further: &[&str]) -> Result<()> {
        let mut command = self.command("ppo");
        command.arg("--model").arg(&self.model).args(["--data", "prompts.jsonl", "--output", output]);
        command.args(["--reward-model", "reward", "--cost-model", "cost", "--threshold", "0", "--device", "cpu"]);
        command.args(["--lora-rank", "8", "--lora-targets", "all-linear", "--max-new-tokens", "48"]);
        command.args(["--learning-rate", "1e-3", "--critic-lr", "1e-3", "--kl-coeff", "0.02", "--save-steps", "5"]);
        command.args(["--mini-batch-size", "4"]);
        command.args(["--batch-size", &options.batch_size.to_string(), "--max-steps", &options.iterations.to_string()]);
        command.args(["--episode-cost-window-size", &(2 * options.batch_size).to_string()]);
        process::run(command.args(further))
    }

    fn contest(&self, prompts: usize) -> Result<()> {
        let mut command = self.command("arena");
        command.arg("--red").arg(&self.model).arg("--blue").arg(&self.model);
        command.args(["--blue-adapter", "ppo-lag", "--prompts", "prompts-eval.jsonl", "--output", "arena"]);
        command.args(["--reward-model", "reward", "--cost-model", "cost", "--max-new-tokens", "48"]);
        process::run(command.args(["--limit", &prompts.to_string(), "--device", "cpu"]))
    }

    fn metrics(&self, run: &str) -> Result<Vec<Value>> {
        let path = self.folder.join(run).join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, error))?;
        let parse = |line: &str| serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()));
        text.lines().map(parse).collect()
    }
}

fn cannot(act: &str, path: &Path, error: std::io::Error) -> String {
    format!("cannot {act} {}: {error}", path.display())
}
