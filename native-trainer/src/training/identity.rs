//! What the ranks of a run must have alike.

use std::collections::BTreeMap;
use std::path::Path;

use paddock_engine::weights::{Checkpoint, hexadecimal};
use paddock_learn::lora::ADAPTER_CONFIG;
use pollster::block_on;
use sha2::{Digest, Sha256};

use crate::files::{ADAPTER_WEIGHTS, ModelSource, SCORE_MODEL, file_sha256};
use crate::ranks::Identity;
use crate::run::Settings;
use crate::{Error, Result};

/// Settings of every run that name files and folders, which machines may keep at different places.
const PATHS: [&str; 4] = ["model", "data", "output", "eval-data"];
/// Files that say what an adapter is.
const ADAPTER: [&str; 4] = [ADAPTER_CONFIG, ADAPTER_WEIGHTS, "adapter_model.bin", SCORE_MODEL];

/// The identity of a run on `device`, "cpu" or "cuda": all settings but paths, and digests of models and data.
///
/// # Errors
/// When a model or a file cannot be read.
pub fn identity<T: Settings>(settings: &T, device: &str, resume: bool) -> Result<Identity> {
    let table = toml::Table::try_from(settings).map_err(|error| Error::Request(error.to_string()))?;
    let mut identity = Identity::default();
    let is_path = |name: &str| PATHS.contains(&name) || T::PATHS.contains(&name);
    for (name, value) in table.into_iter().filter(|(name, _)| !is_path(name)) {
        identity.values.insert(name, value.to_string());
    }
    let mut say = |name: &str, value: String| identity.values.insert(name.to_string(), value);
    say("command", T::COMMAND.to_string());
    say("device", device.to_string());
    say("resume", resume.to_string());
    say("paddock", env!("CARGO_PKG_VERSION").to_string());
    let mut digest = |name: &str, digest: String| identity.digests.insert(name.to_string(), digest);
    for (name, model) in settings.models() {
        digest(name, block_on(model_digest(model))?);
    }
    for (name, file) in settings.files() {
        digest(name, file_sha256(file)?);
    }
    Ok(identity)
}

/// Digests of what a run reads and its checkpoints do not hold: the base of adapters, models that only judge, what roles begin
/// with, and files that are learned from besides the examples.
///
/// # Errors
/// When one cannot be read.
pub(super) async fn read_beside<T: Settings>(settings: &T) -> Result<BTreeMap<String, String>> {
    let held = settings.run().memory.adapters.lora.is_none();
    let mut digests = BTreeMap::new();
    for (name, model) in settings.models().into_iter().filter(|(name, _)| *name != "model" || !held) {
        digests.insert(name.to_string(), model_digest(model).await?);
    }
    for (name, file) in settings.files_beside() {
        digests.insert(name.to_string(), file_sha256(file)?);
    }
    Ok(digests)
}

/// A digest of a model's architecture, tensors and tokenizer, or of an adapter's files. Of every tensor the first row counts:
/// enough to tell one tuned model from another, and quickly read.
async fn model_digest(model: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    if model.join(ADAPTER_CONFIG).exists() {
        for name in ADAPTER.into_iter().filter(|name| model.join(name).exists()) {
            hasher.update(format!("{name} {}\n", file_sha256(&model.join(name))?));
        }
        return Ok(hexadecimal(&hasher.finalize()));
    }
    let mut checkpoint = Checkpoint::open(ModelSource::open(model)?).await?;
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(format!("{:?}", checkpoint.config()).as_bytes());
    let names: Vec<String> = checkpoint.config().params().into_iter().map(|param| param.name).collect();
    for name in names {
        add(name.as_bytes());
        add(&checkpoint.read_rows(&name, 0..1).await?);
    }
    // A head alone has the tokenizer of the trunk that it is put on.
    if checkpoint.config().score_head().is_none_or(|head| head.trunk.is_none()) {
        add(format!("{:?}", checkpoint.tokenizer_files().await?).as_bytes());
    }
    Ok(hexadecimal(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunSettings, SftSettings};

    #[test]
    fn paths_do_not_count_and_settings_do() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sft");
        let run = RunSettings { data: fixture.join("data.json"), model: fixture, ..RunSettings::default() };
        let with = |run| SftSettings { run, ..SftSettings::default() };
        let settings = with(run.clone());
        let own = identity(&settings, "cpu", false).unwrap();
        let elsewhere = with(RunSettings { output: "elsewhere".into(), ..run.clone() });
        assert_eq!(identity(&elsewhere, "cpu", false).unwrap(), own);
        let other = with(RunSettings { batch_size: 8, seed: 1, ..run.clone() });
        let other = identity(&other, "cpu", true).unwrap();
        assert_eq!(other.digests, own.digests);
        let differ = |name: &str| own.values[name] != other.values[name];
        assert!(["batch-size", "seed", "resume"].into_iter().all(differ));
        assert!(!["zero", "device", "learning-rate"].into_iter().any(differ));
        let other = with(RunSettings { data: run.model.join("config.json"), ..run });
        assert_ne!(identity(&other, "cpu", false).unwrap().digests, own.digests);
    }
}
