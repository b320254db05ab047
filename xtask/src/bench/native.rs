//! `paddock generate` against llama.cpp.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xtask::{Result, process};

use super::{Comparison, RUNS, Speed, TOKENS};

/// Runs both programs in turn, each confined to `threads` processors.
pub fn compare(paddock: &Path, folder: &Path, model: &Path, threads: usize) -> Result<Comparison> {
    let prompt = folder.join("prompt.txt");
    let text =
        std::fs::read_to_string(&prompt).map_err(|error| format!("cannot read {}: {error}", prompt.display()))?;
    let what = format!("native, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let mut comparison = Comparison { what, peer: "llama.cpp", paddock: vec![], other: vec![] };
    for _ in 0..RUNS {
        let mut command = confined(threads, paddock);
        command.args(["generate", "--json", "--device", "cpu", "--template", "none", "--temperature", "0"]);
        command.args(["--max-tokens", &TOKENS.to_string(), "--prompt", text.trim_end()]).arg("--model").arg(model);
        comparison.paddock.push(speed(&json(&mut command)?["timings"])?);

        let mut command = confined(threads, Path::new("node"));
        command.current_dir(folder).arg("llama_cpp.mjs").arg(model);
        command.args([&threads.to_string(), &TOKENS.to_string()]).arg(&prompt);
        comparison.other.push(speed(&json(&mut command)?)?);
        comparison.show();
    }
    Ok(comparison)
}

/// `program` on the first `threads` processors: both programs take as many threads as they see.
fn confined(threads: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &format!("0-{}", threads - 1)]).arg(program);
    command
}

fn json(command: &mut Command) -> Result<Value> {
    let text = process::output(command)?;
    serde_json::from_str(text.trim()).map_err(|error| format!("expected one JSON object ({error}), found: {text}"))
}

fn speed(value: &Value) -> Result<Speed> {
    let number = |name: &str| value[name].as_f64().ok_or_else(|| format!("{name} is missing in {value}"));
    Ok(Speed { prefill: number("prefill_tokens_per_s")?, decode: number("decode_tokens_per_s")? })
}
