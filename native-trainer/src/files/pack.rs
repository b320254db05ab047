//! Web packs on disk: a folder that is complete or does not exist.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::manifest::{MANIFEST, Manifest};
use paddock_engine::weights::pack::{self, PackOptions, PackPlan, PackSink, Quantize};

use super::{AtomicFolder, open_model};
use crate::{Error, Result};

/// A written pack.
#[derive(Debug)]
pub struct Packed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What could not be stored as requested, a sentence each.
    pub notes: Vec<String>,
}

/// Packs the model at `model` (a folder or a GGUF file), with `adapter` added to its weights, into the folder `output`, replacing an older pack there.
///
/// # Errors
/// When the model is damaged, `output` holds anything but a pack, or the disk refuses; `output` is then unchanged.
pub fn pack(
    model: &Path,
    adapter: Option<&Path>,
    output: &Path,
    options: &PackOptions,
    quantize: Quantize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Packed> {
    check_output(output)?;
    pollster::block_on(async {
        let mut checkpoint = open_model(model, adapter)?;
        let tokenizer = match checkpoint.config().is_head_alone() {
            true => None,
            false => Some(Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?),
        };
        let plan = PackPlan::new(&checkpoint, quantize)?;
        let folder = AtomicFolder::create(output)?;
        let mut sink = FolderSink { folder: folder.path(), bytes: 0, file: None };
        let total = plan.bytes();
        let mut progress = |bytes| progress(LoadProgress { bytes, total });
        let manifest =
            pack::pack(&mut checkpoint, tokenizer.as_ref(), options, &plan, &mut sink, &mut progress).await?;
        let bytes = sink.bytes;
        folder.commit()?;
        let own = tokenizer.iter().flat_map(Tokenizer::notes);
        let notes = checkpoint.notes().iter().chain(own).cloned().chain(plan.notes).collect();
        Ok(Packed { manifest, bytes, notes })
    })
}

/// Allows an existing folder to be replaced only when it holds nothing but a pack.
fn check_output(output: &Path) -> Result<()> {
    if !output.exists() {
        return Ok(());
    }
    let refuse = |problem: String| Err(Error::Request(format!("{} {problem}; name another output", output.display())));
    if !output.is_dir() {
        return refuse("is a file".to_string());
    }
    let entries = fs::read_dir(output).map_err(Error::path("read", output))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(Error::path("read", output))?;
    if names.is_empty() || (names.iter().any(|name| name == MANIFEST) && names.iter().all(|name| belongs_to_pack(name)))
    {
        return Ok(());
    }
    refuse("holds files that are not a pack's".to_string())
}

fn belongs_to_pack(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let shard = name.starts_with("shard-") && name.ends_with(".safetensors");
    shard || [MANIFEST, "tokenizer.json", "tokenizer_config.json"].contains(&name.as_ref())
}

/// Writes the files of a pack into a folder.
struct FolderSink<'a> {
    folder: &'a Path,
    bytes: u64,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl FolderSink<'_> {
    fn with_file(
        &mut self,
        action: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> paddock_engine::Result<()> {
        match &mut self.file {
            Some((path, file)) => action(file).map_err(|error| refused("write", path, error)),
            None => Ok(()),
        }
    }
}

impl PackSink for FolderSink<'_> {
    async fn create(&mut self, name: &str) -> paddock_engine::Result<()> {
        let path = self.folder.join(name);
        let file = File::create_new(&path).map_err(|error| refused("create", &path, error))?;
        self.file = Some((path, BufWriter::new(file)));
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> paddock_engine::Result<()> {
        self.bytes += bytes.len() as u64;
        self.with_file(|file| file.write_all(bytes))
    }

    async fn finish(&mut self) -> paddock_engine::Result<()> {
        self.with_file(BufWriter::flush)?;
        self.file = None;
        Ok(())
    }
}

/// A system error as an error of the engine, which knows no files.
fn refused(action: &'static str, path: &Path, error: std::io::Error) -> paddock_engine::Error {
    paddock_engine::Error::Request(Error::path(action, path)(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama-mha")
    }

    fn options() -> PackOptions {
        PackOptions { name: "tiny".to_string(), ..PackOptions::default() }
    }

    #[test]
    fn a_pack_is_replaced_and_says_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("pack");
        let mut last = 0;
        let kept = pack(&fixture(), None, &output, &options(), Quantize::Keep, &mut |at| last = at.bytes).unwrap();
        assert_eq!(last, 166_208 * 4);
        let smaller = pack(&fixture(), None, &output, &options(), Quantize::F16, &mut |_| {}).unwrap();
        assert!(smaller.bytes < kept.bytes);
        let on_disk: u64 = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(on_disk, smaller.bytes);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        fs::write(folder.path().join("diary.txt"), "dear").unwrap();
        let error =
            pack(&fixture(), None, folder.path(), &options(), Quantize::Keep, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("not a pack's"), "{error}");
        assert_eq!(fs::read(folder.path().join("diary.txt")).unwrap(), b"dear");
    }

    #[test]
    fn a_damaged_model_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        for entry in fs::read_dir(fixture()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
        }
        let weights = model.join("model.safetensors");
        let bytes = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
        assert!(pack(&model, None, &folder.path().join("pack"), &options(), Quantize::Keep, &mut |_| {}).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
