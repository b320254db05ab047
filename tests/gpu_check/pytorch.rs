//! Fine-tuning and attention beside PyTorch's, on the same machine, model and data.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use paddock::Result;
use paddock_engine::backend::HeadLayout;
use paddock_engine::weights::Checkpoint;
use paddock_learn::data::{Example, Share};
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::optim::{AdamW, OptimizerStep};
use paddock_learn::{Adjoint, Store, TapeOptions};
use paddock_tests::block_on;
use serde_json::{Value, json};

use super::benchmarks::attention_speed;
use super::child;
use super::machine::Machine;
use super::sizes::Training;
use super::synthetic::Synthetic;

/// Their side.
const SCRIPT: &str = include_str!("../../xtask/bench/pytorch_gpu.py");
/// First target and length of Alpaca's prompts on Self-Instruct's seed tasks, in SmolLM2's tokens: a real instruction
/// set's lengths.
const LENGTHS: &str = include_str!("../../xtask/bench/lengths.json");
/// Names the Python that has torch, where it is not python3.
const VARIABLE: &str = "PADDOCK_PYTHON";
/// Largest distance of two losses, relative: those of around 10 are right to two places in bf16.
const LOSS_TOLERANCE: f64 = 2e-2;

/// What one side achieved.
struct Run {
    losses: Vec<f64>,
    tokens_per_s: f64,
}

/// This part of the report, and whether the losses agree. PyTorch may take `limit`.
///
/// # Errors
/// When our side fails.
pub fn report<B: Adjoint + Store<B>>(
    training: &Training,
    machine: &Machine<B>,
    limit: Duration,
) -> Result<(String, bool)> {
    let examples = examples(training)?;
    let theirs = match theirs(training, &examples, limit) {
        Ok(theirs) => theirs,
        Err(problem) => return Ok((format!("Not run: {problem}."), true)),
    };
    let formats = machine.lean(training.packed_tokens).formats();
    let mine = train(training, &examples, machine)?;
    let mut text = format!("PyTorch {}.\n\n", theirs[0]["torch"].as_str().unwrap_or("of no version"));
    let of = |name: &str| theirs.iter().filter(move |line| line["name"] == name).collect::<Vec<_>>();
    text += "| attention | forward, TFLOP/s | PyTorch | ratio | backward, TFLOP/s | PyTorch | ratio |\n\
             |---|---:|---:|---:|---:|---:|---:|\n";
    for (shape, line) in training.attention.iter().zip(of("attention")) {
        let [heads, kv_heads, head_dim] = *shape;
        let layout = HeadLayout { heads, kv_heads, head_dim };
        let own = attention_speed(
            &(machine.open)(formats)?,
            machine.wait,
            layout,
            training.attention_length,
            training.attention_documents,
        )?;
        text += &format!("| {heads} heads of {head_dim}, {kv_heads} for keys ");
        for (own, theirs) in [(own.forward, &line["forward"]), (own.backward, &line["backward"])] {
            text += &match theirs.as_f64() {
                Some(theirs) => format!("| {own:.3} | {theirs:.3} | {:.2} ", own / theirs),
                None => format!("| {own:.3} | {} | ", problem(line)),
            };
        }
        text += "|\n";
    }
    text += &format!(
        "\n{}: {} steps of {} examples with the lengths of Self-Instruct's seed tasks, the first {} to warm up.\n\n| | \
         tokens/s | Paddock against it | asked | largest distance of a loss |\n|---|---:|---:|---:|---:|\n| Paddock, \
         packed | {:.0} | | | |\n",
        training.name, training.steps, training.batch, training.warm, mine.tokens_per_s
    );
    let mut holds = true;
    let mut curves = vec![("Paddock".to_string(), mine.losses.clone())];
    for (name, asked) in [("padded", 3.0), ("packed", 1.1)] {
        for line in of(name) {
            let title = match line["attention"].as_str() {
                Some(attention) => {
                    let compiled = if line["compiled"] == true { "compiled" } else { "not compiled" };
                    format!("PyTorch, packed, {attention}, {compiled}")
                }
                None => "PyTorch, padded by fours".to_string(),
            };
            let Some(run) = run_of(line) else {
                text += &format!("| PyTorch, {name} | {} | | {asked} | |\n", problem(line));
                continue;
            };
            let distance = distance(&mine.losses, &run.losses);
            // Weights in bf16 that are rounded to nearest lose small steps: only the f32 curve has to be ours.
            let same = name != "padded" || distance <= LOSS_TOLERANCE;
            holds &= same;
            let verdict = if same { "" } else { ": FAILS" };
            let ratio = mine.tokens_per_s / run.tokens_per_s;
            text += &format!(
                "| {title} | {:.0} | {ratio:.2} × | {asked} × | {:.2} %{verdict} |\n",
                run.tokens_per_s,
                100.0 * distance
            );
            curves.push((title, run.losses));
        }
    }
    text += "\nLosses step by step:\n\n";
    for (title, losses) in curves {
        let losses: Vec<String> = losses.iter().map(|loss| format!("{loss:.4}")).collect();
        text += &format!("- {title}: {}\n", losses.join(", "));
    }
    Ok((text, holds))
}

/// What a line that is no measurement says.
fn problem(line: &Value) -> String {
    format!("failed: {}", line["error"].as_str().unwrap_or("it says nothing"))
}

fn run_of(line: &Value) -> Option<Run> {
    let losses = line["losses"].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    Some(Run { losses, tokens_per_s: line["tokens_per_s"].as_f64()? })
}

/// Largest relative distance; infinite where there are more of one or a number is none.
fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
    if ours.len() != theirs.len() {
        return f64::INFINITY;
    }
    ours.iter().zip(theirs).fold(0.0, |largest: f64, (a, b)| match (a - b).abs() / b.abs() {
        distance if distance.is_nan() => f64::INFINITY,
        distance => largest.max(distance),
    })
}

/// Examples of real lengths: ids that can be learned to predict, and the first that has to be.
fn examples(training: &Training) -> Result<Vec<(Vec<u32>, usize)>> {
    let lengths: Vec<[usize; 2]> = serde_json::from_str(LENGTHS)
        .map_err(|error| paddock::Error::Request(format!("the lengths are not pairs of numbers ({error})")))?;
    let vocab = training.vocab();
    let ids =
        |document: usize, length: usize| (0..length).map(|i| ((31 * i + 977 * document) % vocab) as u32).collect();
    let lengths = lengths.iter().map(|pair| pair.map(|length| length.div_ceil(training.shorter)));
    Ok(lengths.enumerate().map(|(document, [first, length])| (ids(document, length), first.min(length - 1))).collect())
}

/// Which examples are in each step, in the set's order.
fn steps(training: &Training, count: usize) -> Vec<Vec<usize>> {
    let step = |step: usize| (0..training.batch).map(|i| (step * training.batch + i) % count).collect();
    (0..training.steps).map(step).collect()
}

fn train<B: Adjoint + Store<B>>(
    training: &Training,
    examples: &[(Vec<u32>, usize)],
    machine: &Machine<B>,
) -> Result<Run> {
    let recipe = machine.lean(training.packed_tokens);
    let Machine { open, wait, .. } = *machine;
    let mut checkpoint = block_on(Checkpoint::open(Synthetic::new(&training.model)?))?;
    let tape = TapeOptions {
        precision: recipe.settings.precision(),
        moments: recipe.settings.moments,
        ..TapeOptions::default()
    };
    let options = SftOptions { tape, ..SftOptions::default() };
    let backend = open(recipe.formats())?;
    let mut trainer = block_on(Sft::load(backend.clone(), backend, None, &mut checkpoint, options, &mut |_| {}))?;
    let examples: Vec<Example> = examples
        .iter()
        .map(|(ids, first)| Example { ids: ids.clone(), targets: (*first..ids.len()).collect() })
        .collect();
    let (mut losses, mut tokens, mut began) = (Vec::new(), 0, Instant::now());
    for (number, step) in steps(training, examples.len()).iter().enumerate() {
        let batch: Vec<&Example> = step.iter().map(|&index| &examples[index]).collect();
        let share = Share::whole(&batch, training.packed_tokens);
        let adamw = AdamW { weight_decay: 0.0, ..AdamW::default() };
        let learning_rate = training.learning_rate;
        let settings = OptimizerStep { number: number as u64 + 1, learning_rate, adamw, max_grad_norm: 1.0, seed: 1 };
        if number == training.warm {
            wait(trainer.tape().inner())?;
            (tokens, began) = (0, Instant::now());
        }
        let report = block_on(trainer.step(&share, &settings))?;
        tokens += share.tokens;
        losses.push(report.loss);
    }
    wait(trainer.tape().inner())?;
    Ok(Run { losses, tokens_per_s: tokens as f64 / began.elapsed().as_secs_f64() })
}

/// The lines of their side: first the version, then what was done.
fn theirs(training: &Training, examples: &[(Vec<u32>, usize)], limit: Duration) -> Result<Vec<Value>, String> {
    let folder = tempfile::TempDir::new().map_err(|error| error.to_string())?;
    prepare(folder.path(), training, examples).map_err(|error| format!("the model cannot be written ({error})"))?;
    let python = std::env::var_os(VARIABLE).unwrap_or_else(|| "python3".into());
    let name = Path::new(&python).display().to_string();
    let mut command = Command::new(&python);
    command.arg(folder.path().join("pytorch_gpu.py")).arg(folder.path());
    let (text, status) = child::run(&mut command, limit)
        .map_err(|error| format!("there is no {name} ({error}); {VARIABLE} names a Python that has torch"))?;
    // What was done before a failure counts.
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if let Some(missing) = lines.first().and_then(|line| line["missing"].as_str()) {
        return Err(format!("{missing}; {VARIABLE} names another"));
    }
    match (lines.len(), status) {
        (0 | 1, Some(status)) => Err(format!("{name} ended with {status} before anything was measured")),
        (0 | 1, None) => Err(format!("{name} measured nothing within {} s", limit.as_secs())),
        _ => Ok(lines),
    }
}

/// What the script reads, and the script.
fn prepare(
    folder: &Path,
    training: &Training,
    examples: &[(Vec<u32>, usize)],
) -> Result<(), Box<dyn std::error::Error>> {
    Synthetic::new(&training.model)?.write(&folder.join("model.safetensors"))?;
    let job = json!({
        "device": training.device, "examples": examples, "steps": steps(training, examples.len()),
        "warm": training.warm, "learning_rate": training.learning_rate, "packed_tokens": training.packed_tokens,
        "attention": training.attention, "attention_length": training.attention_length,
        "attention_documents": training.attention_documents,
    });
    std::fs::write(folder.join("config.json"), training.model.to_string())?;
    std::fs::write(folder.join("job.json"), job.to_string())?;
    std::fs::write(folder.join("pytorch_gpu.py"), SCRIPT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sizes::Sizes;
    use super::*;

    #[test]
    fn examples_have_real_lengths_and_something_to_learn() {
        let training = Sizes::full().training;
        let examples = examples(&training).unwrap();
        assert_eq!(examples.len(), 174);
        assert!(examples.iter().all(|(ids, first)| *first > 0 && *first < ids.len() && ids.len() <= 512));
        let tokens: usize = examples.iter().map(|(ids, _)| ids.len()).sum();
        assert_eq!(tokens, 25_504);
        assert!(examples.iter().flat_map(|(ids, _)| ids).all(|id| (*id as usize) < training.vocab()));
        assert_eq!(steps(&training, 174)[2][..2], [2 * training.batch % 174, (2 * training.batch + 1) % 174]);
    }

    #[test]
    fn curves_apart_are_noticed() {
        assert_eq!(distance(&[2.0, 1.0], &[2.0, 1.25]), 0.2);
        assert_eq!(distance(&[2.0], &[2.0, 1.0]), f64::INFINITY);
        assert_eq!(distance(&[f64::NAN], &[2.0]), f64::INFINITY);
        assert!(run_of(&json!({ "error": "no memory" })).is_none());
    }
}
