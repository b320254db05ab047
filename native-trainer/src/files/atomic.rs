//! Files and folders that appear whole or not at all. They are written under a temporary name beside the target, synced
//! and renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file being written. Dropped without [`AtomicFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
}

impl AtomicFile {
    /// Starts a file that will be `target`.
    ///
    /// # Errors
    /// When its folder does not exist or may not be written to.
    pub fn create(target: &Path) -> Result<Self> {
        let temporary = temporary_name(target)?;
        let file = File::create_new(&temporary).map_err(Error::path("create", &temporary))?;
        Ok(Self { target: target.to_path_buf(), temporary, file: Some(file) })
    }

    /// Syncs the file and moves it into place, replacing an older one.
    ///
    /// # Errors
    /// When the bytes cannot be synced or the file cannot be renamed; the older file is then untouched.
    pub fn commit(mut self) -> Result<()> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(Error::path("write", &self.target))?;
        }
        fs::rename(&self.temporary, &self.target).map_err(Error::path("write", &self.target))?;
        self.file = None;
        sync_parent(&self.target)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // Closed first: some systems do not remove an open file.
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A folder being filled. Dropped without [`AtomicFolder::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

impl AtomicFolder {
    /// Starts a folder that will be `target`, and creates its parents.
    ///
    /// # Errors
    /// When they cannot be created.
    pub fn create(target: &Path) -> Result<Self> {
        let temporary = temporary_name(target)?;
        if let Some(parent) = temporary.parent() {
            fs::create_dir_all(parent).map_err(Error::path("create", parent))?;
        }
        fs::create_dir(&temporary).map_err(Error::path("create", &temporary))?;
        Ok(Self { target: target.to_path_buf(), temporary, committed: false })
    }

    /// Where the folder is while it is being filled.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs the folder and moves it into place. An existing folder of that name is replaced; callers check beforehand
    /// that they may do that.
    ///
    /// # Errors
    /// When a file cannot be synced or a folder cannot be renamed; the older folder is then untouched.
    pub fn commit(mut self) -> Result<()> {
        self.sync()?;
        if self.target.exists() {
            let old = temporary_name(&self.target)?;
            fs::rename(&self.target, &old).map_err(Error::path("replace", &self.target))?;
            if let Err(error) = fs::rename(&self.temporary, &self.target) {
                let _ = fs::rename(&old, &self.target);
                return Err(Error::path("write", &self.target)(error));
            }
            self.committed = true;
            fs::remove_dir_all(&old).map_err(Error::path("remove", &old))?;
        } else {
            fs::rename(&self.temporary, &self.target).map_err(Error::path("write", &self.target))?;
            self.committed = true;
        }
        sync_parent(&self.target)
    }

    /// Syncs the folder and moves its files one by one into `folder`, which may hold more: `config.json` last, because a
    /// folder without it is not a model. Weights that a model there had under other names are removed.
    ///
    /// # Errors
    /// When a file cannot be synced, moved or removed.
    pub fn commit_into(self, folder: &Path) -> Result<()> {
        let mut names = self.sync()?;
        names.sort_by_key(|name| name == "config.json");
        for name in &names {
            fs::rename(self.temporary.join(name), folder.join(name))
                .map_err(Error::path("write", &folder.join(name)))?;
        }
        for entry in fs::read_dir(folder).map_err(Error::path("read", folder))? {
            let entry = entry.map_err(Error::path("read", folder))?;
            if is_weights(&entry.file_name().to_string_lossy()) && !names.contains(&entry.file_name()) {
                fs::remove_file(entry.path()).map_err(Error::path("remove", &entry.path()))?;
            }
        }
        sync_parent(&folder.join("config.json"))
    }

    /// Syncs every file to the disk. Returns their names.
    fn sync(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.temporary).map_err(Error::path("read", &self.temporary))? {
            let entry = entry.map_err(Error::path("read", &self.temporary))?;
            let path = entry.path();
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::path("write", &path))?;
            names.push(entry.file_name());
        }
        Ok(names)
    }
}

/// Whether a Hugging Face folder's weights, or their index, have this name.
fn is_weights(name: &str) -> bool {
    name == "model.safetensors.index.json" || (name.starts_with("model") && name.ends_with(".safetensors"))
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Removes what killed runs left half-written in `folder`.
///
/// # Errors
/// When the folder cannot be read or a leftover cannot be removed.
pub fn remove_partial(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::path("read", folder))? {
        let path = entry.map_err(Error::path("read", folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".partial") {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::path("remove", &path))?;
        }
    }
    Ok(())
}

/// An unused name in the folder of `target`, because a rename within one folder never crosses file systems.
fn temporary_name(target: &Path) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::Request(format!("{} does not name a file or a folder to write", target.display())))?;
    for attempt in 0..u32::MAX {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}.partial", std::process::id()));
        let candidate = target.with_file_name(hidden);
        if !candidate.exists() {
            return Ok(candidate);
        }
    }
    Err(Error::Request(format!("there is no free temporary name beside {}", target.display())))
}

/// Syncs the rename itself.
pub(super) fn sync_parent(target: &Path) -> Result<()> {
    // On other systems a folder cannot be opened as a file, and a rename is durable by itself.
    if cfg!(unix) {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(Error::path("write", parent))?;
    }
    Ok(())
}

/// Writes a file of text whole or not at all.
pub(crate) fn write_file(path: &Path, contents: &str) -> Result<()> {
    write_bytes(path, contents.as_bytes())
}

/// Writes a file whole or not at all.
pub(crate) fn write_bytes(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(contents).map_err(Error::path("write", path))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_at_commit_and_replaces_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, b"old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn an_abandoned_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&folder.path().join("a")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_folder_appears_at_commit_and_replaces_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/pack");
        for content in ["one", "two"] {
            let pack = AtomicFolder::create(&target).unwrap();
            fs::write(pack.path().join(content), content).unwrap();
            pack.commit().unwrap();
            assert_eq!(names(&target), [content]);
        }
        assert_eq!(names(&folder.path().join("deep")), ["pack"]);
    }

    #[test]
    fn a_model_takes_the_place_of_one_in_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        for name in ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "metrics.jsonl"]
        {
            fs::write(run.join(name), "old").unwrap();
        }
        let model = AtomicFolder::create(&run.join("model")).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::write(model.path().join(name), "new").unwrap();
        }
        model.commit_into(&run).unwrap();
        assert_eq!(names(&run), ["config.json", "metrics.jsonl", "model.safetensors"]);
        assert_eq!(fs::read(run.join("config.json")).unwrap(), b"new");
    }

    #[test]
    fn an_abandoned_folder_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pack = AtomicFolder::create(&folder.path().join("pack")).unwrap();
        fs::write(pack.path().join("half"), b"").unwrap();
        drop(pack);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failed_commit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("taken");
        fs::create_dir(&target).unwrap();
        let file = AtomicFile::create(&target).unwrap();
        let error = file.commit().unwrap_err().to_string();
        assert!(error.starts_with("cannot write"), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
