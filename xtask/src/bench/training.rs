//! `cargo xtask bench-training`: fine-tuning on the processor against PyTorch and transformers; writes its part of
//! docs/benchmarks.md.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::{Result, default_model, process, workspace};

use super::report;

/// How often each program runs.
const ROUNDS: usize = 2;
/// Steps of a run; the last one is counted.
const STEPS: usize = 1;
/// Examples of a step: enough of them for their lengths to be those of the whole file, whose micro-batches of 4 are 1.67
/// times as long padded as they are.
const BATCH_SIZE: usize = 64;
/// Threads of both.
const THREADS: usize = 2;

/// What to train on, and with what.
#[derive(clap::Args)]
pub struct Options {
    /// Self-Instruct's seed_tasks.jsonl.
    #[arg(long, value_name = "PATH")]
    seed_tasks: PathBuf,
    /// A Python that has torch and transformers.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

/// A step of one of the programs.
struct Step {
    loss: f64,
    grad_norm: f64,
    tokens_per_s: f64,
}

/// Measures both in turn on the default model. Needs a machine with nothing else to do.
pub fn run(options: &Options) -> Result<()> {
    let paddock = workspace::paddock(true)?;
    let folder = workspace::target().join("bench-training");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    // What transformers reads: the default model in f32.
    let model = folder.join("model");
    train(&paddock, &default_model::ensure()?, options, &model, 0)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let output = folder.join(format!("round-{round}"));
        train(&paddock, &model, options, &output, STEPS)?;
        ours.push(metrics(&output)?);
        theirs.push(pytorch(options, &model)?);
    }
    let text = markdown(&ours, &theirs);
    println!("{text}");
    report::write("bench-training", &text)
}

fn train(paddock: &Path, model: &Path, options: &Options, output: &Path, steps: usize) -> Result<()> {
    let mut command = Command::new(paddock);
    command.arg("sft").arg("--model").arg(model).arg("--data").arg(&options.seed_tasks).arg("--output").arg(output);
    command.args(["--no-shuffle", "--schedule", "constant", "--warmup-ratio", "0", "--device", "cpu"]);
    command.args(["--max-steps", &steps.to_string(), "--batch-size", &BATCH_SIZE.to_string()]);
    process::run(command.args(["--threads", &THREADS.to_string()]))
}

fn metrics(output: &Path) -> Result<Vec<Step>> {
    let path = output.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    steps(&text, |line| line["tokens_per_s"].as_f64())
}

fn pytorch(options: &Options, model: &Path) -> Result<Vec<Step>> {
    let mut command = Command::new(&options.python);
    command.arg(workspace::root().join("xtask/bench/pytorch_sft.py")).arg(model).arg(&options.seed_tasks);
    command.args([STEPS, BATCH_SIZE, THREADS].map(|number| number.to_string()));
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start {}: {error}", options.python.display()))?;
    if !output.status.success() {
        return Err("PyTorch's run failed; it needs a Python with torch and transformers (--python)".to_string());
    }
    steps(&String::from_utf8_lossy(&output.stdout), |line| Some(line["tokens"].as_f64()? / line["seconds"].as_f64()?))
}

fn steps(text: &str, tokens_per_s: impl Fn(&Value) -> Option<f64>) -> Result<Vec<Step>> {
    let step = |line: &str| -> Option<Step> {
        let line: Value = serde_json::from_str(line).ok()?;
        let (loss, grad_norm) = (line["loss"].as_f64()?, line["grad_norm"].as_f64()?);
        Some(Step { loss, grad_norm, tokens_per_s: tokens_per_s(&line)? })
    };
    let steps: Vec<Step> = text.lines().filter_map(step).collect();
    if steps.len() == STEPS { Ok(steps) } else { Err(format!("expected {STEPS} steps, found {}", steps.len())) }
}

fn markdown(ours: &[Vec<Step>], theirs: &[Vec<Step>]) -> String {
    let speed = |rounds: &[Vec<Step>], round: usize| rounds[round].last().map_or(f64::NAN, |step| step.tokens_per_s);
    let mut text = format!(
        "{}, {THREADS} threads each, {BATCH_SIZE} examples a step in the file's order, of at most 512 tokens. The two \
         programs ran in turn; tokens that are no padding, a second:\n\n| round | Paddock, packed | \
         PyTorch, padded | ratio |\n|---:|---:|---:|---:|\n",
        report::machine()
    );
    for round in 0..ours.len() {
        let (ours, theirs) = (speed(ours, round), speed(theirs, round));
        text.push_str(&format!("| {} | {ours:.1} | {theirs:.1} | {:.2} × |\n", round + 1, ours / theirs));
    }
    let (ours, theirs) = (&ours[0], &theirs[0]);
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        text.push_str(&format!(
            "\nStep {}: loss {:.4} and {:.4}, gradient norm {:.4} and {:.4}.",
            index + 1,
            ours.loss,
            theirs.loss,
            ours.grad_norm,
            theirs.grad_norm
        ));
    }
    text.push('\n');
    text
}
