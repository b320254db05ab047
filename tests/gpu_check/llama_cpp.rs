//! llama.cpp on the same machine and the same weights, where its `llama-bench` is at hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child;
use super::sizes::Sizes;
use super::synthetic::Synthetic;

/// Names llama-bench where it is not on the PATH.
const VARIABLE: &str = "PADDOCK_LLAMA_BENCH";

/// This part of the report, within `limit` for each model.
pub fn report(sizes: &Sizes, limit: Duration) -> String {
    let program = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(|| xtask::process::find("llama-bench"));
    let Some(program) = program else {
        return format!("Not run: there is no llama-bench on the PATH, and {VARIABLE} does not name one.");
    };
    let mut text = String::from("The very weights that wgpu was given, as a file.\n\n| | |\n|---|---:|\n");
    for (name, config) in &sizes.decoded {
        let found = bench(&program, config, sizes, limit).unwrap_or_else(|problem| format!("failed: {problem}"));
        text += &format!("| {name} at 4 bits | {found} |\n");
    }
    text
}

fn bench(program: &Path, config: &Value, sizes: &Sizes, limit: Duration) -> Result<String, String> {
    let folder = tempfile::TempDir::new().map_err(|error| error.to_string())?;
    let model = folder.path().join("model.gguf");
    let synthetic = Synthetic::at_4_bits(config).map_err(|error| error.to_string())?;
    synthetic.write(&model).map_err(|error| format!("the model cannot be written ({error})"))?;
    let mut command = Command::new(program);
    command.args(["--output", "json", "--repetitions", "3", "--n-gpu-layers", "99", "--model"]).arg(&model);
    command.args(["--n-prompt", &sizes.prompt.to_string(), "--n-gen", &sizes.answer.to_string()]);
    let (text, status) = child::run(&mut command, limit).map_err(|error| error.to_string())?;
    match status {
        Some(status) if status.success() => {}
        Some(status) => return Err(format!("llama-bench ended with {status}")),
        None => return Err(format!("llama-bench took more than {} s", limit.as_secs())),
    }
    sentence(&text).ok_or_else(|| "llama-bench printed something else than its runs in JSON".into())
}

/// What its two runs, a prompt and an answer, say.
fn sentence(json: &str) -> Option<String> {
    let runs: Value = serde_json::from_str(json.trim()).ok()?;
    let runs = runs.as_array()?;
    let speed = |what: &str| runs.iter().find(|run| run[what].as_u64() > Some(0))?["avg_ts"].as_f64();
    let backends = runs.first()?["backends"].as_str().unwrap_or("unknown").to_string();
    let build = runs.first()?["build_commit"].as_str().unwrap_or("unknown");
    let (reads, writes) = (speed("n_prompt")?, speed("n_gen")?);
    Some(format!("reads {reads:.0}, writes {writes:.1} tokens/s ({backends}, build {build})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runs_are_found() {
        let json = r#"[
            { "build_commit": "bd5a1b2", "backends": "CUDA", "n_prompt": 512, "n_gen": 0, "avg_ts": 3010.6 },
            { "build_commit": "bd5a1b2", "backends": "CUDA", "n_prompt": 0, "n_gen": 128, "avg_ts": 121.25 }
        ]"#;
        let expected = "reads 3011, writes 121.2 tokens/s (CUDA, build bd5a1b2)";
        assert_eq!(sentence(json).unwrap(), expected);
        assert_eq!(sentence("error: no model"), None);
    }
}
