//! Runs of `paddock sft` on the fixture of that name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use paddock::run::Metrics;

use crate::package_fixture;
use crate::program::run;

/// The fixture's run: the one that PyTorch's curve is of.
pub fn arguments(output: &Path) -> Vec<OsString> {
    arguments_for(&package_fixture("sft"), output)
}

/// The run of a fixture of this kind.
pub fn arguments_for(fixture: &Path, output: &Path) -> Vec<OsString> {
    let recipe = "--max-length 256 --batch-size 4 --max-steps 20 --learning-rate 1e-3 --warmup-ratio 0.1 --no-shuffle \
                  --dtype f32 --device cpu";
    let mut arguments: Vec<OsString> = vec!["sft".into(), "--model".into(), fixture.into()];
    arguments.extend(["--data".into(), fixture.join("data.json").into(), "--output".into(), output.into()]);
    arguments.extend(recipe.split_whitespace().map(OsString::from));
    arguments
}

/// The fixture's run with further arguments. An option that the run has already takes the new value.
pub fn sft(output: &Path, further: &[&str]) {
    let mut arguments = arguments(output);
    for option in further.iter().filter(|argument| argument.starts_with("--")) {
        if let Some(own) = arguments.iter().position(|argument| argument == option) {
            arguments.drain(own..own + 2);
        }
    }
    arguments.extend(further.iter().map(OsString::from));
    run(&arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>).collect::<Vec<_>>());
}

/// What a run noted of its steps.
pub fn metrics(output: &Path) -> Vec<Metrics> {
    let text = fs::read_to_string(output.join("metrics.jsonl")).expect("the run's metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of metrics")).collect()
}

/// The losses of a run's steps.
pub fn losses(output: &Path) -> Vec<f64> {
    metrics(output).iter().filter_map(|metrics| metrics.loss).collect()
}

/// Little-endian f32.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}
