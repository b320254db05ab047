//! A folder that is being filled. A journal in it lists what is done, so that an interrupted run can continue.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::atomic::sync_parent;
use crate::{Error, Result};

const JOURNAL: &str = "journal.jsonl";

/// A tensor that is completely written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub tensor: String,
    /// Checksum of its bytes in the file.
    pub checksum: u64,
    /// What [`Rows::finish`](super::Rows::finish) returned for it.
    pub record: Value,
}

#[derive(Debug)]
pub(super) struct PartialFolder {
    target: PathBuf,
    path: PathBuf,
    journal: File,
}

impl PartialFolder {
    /// Begins the folder that will be `target`, or continues one that an interrupted run with the same `key` left behind.
    /// Returns what is already done.
    ///
    /// # Errors
    /// When `target` exists, another process is writing it, or the disk refuses.
    pub fn open(target: &Path, key: &str) -> Result<(Self, HashMap<String, Done>)> {
        let name = target.file_name().filter(|_| !is_taken(target)).ok_or_else(|| {
            Error::Request(format!("{} is there already or names no folder; name another output", target.display()))
        })?;
        let path = target.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        fs::create_dir_all(&path).map_err(Error::path("create", &path))?;
        let file = path.join(JOURNAL);
        let journal = OpenOptions::new().read(true).append(true).create(true).open(&file);
        let mut journal = journal.map_err(Error::path("open", &file))?;
        if journal.try_lock().is_err() {
            return Err(Error::Request(format!("another paddock is writing {}; wait for it", target.display())));
        }
        let mut lines = BufReader::new(&journal).lines().map_while(Result::ok);
        let mut done = HashMap::new();
        if lines.next().is_some_and(|line| line == key) {
            // A line that was cut short by a kill does not count.
            let entries = lines.filter_map(|line| serde_json::from_str::<Done>(&line).ok());
            done.extend(entries.map(|entry| (entry.tensor.clone(), entry)));
            // The next entry starts on a line of its own.
            writeln!(journal).map_err(Error::path("write", &file))?;
        } else {
            journal.set_len(0).map_err(Error::path("write", &file))?;
            for entry in fs::read_dir(&path).map_err(Error::path("read", &path))? {
                let entry = entry.map_err(Error::path("read", &path))?.path();
                if entry != file {
                    fs::remove_file(&entry).map_err(Error::path("remove", &entry))?;
                }
            }
            writeln!(journal, "{key}").map_err(Error::path("write", &file))?;
        }
        Ok((Self { target: target.to_path_buf(), path, journal }, done))
    }

    /// Where the folder is while it is being filled.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a finished tensor to the journal.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note(&mut self, done: &Done) -> Result<()> {
        let line = serde_json::to_string(done).map_err(|error| Error::Request(error.to_string()))?;
        self.journal
            .seek(SeekFrom::End(0))
            .and_then(|_| writeln!(self.journal, "{line}"))
            .map_err(Error::path("write", &self.path))
    }

    /// Puts the folder in its place.
    ///
    /// # Errors
    /// When the disk refuses; a later run can then continue.
    pub fn commit(self) -> Result<()> {
        let journal = self.path.join(JOURNAL);
        for entry in fs::read_dir(&self.path).map_err(Error::path("read", &self.path))? {
            let path = entry.map_err(Error::path("read", &self.path))?.path();
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::path("write", &path))?;
        }
        fs::remove_file(&journal).map_err(Error::path("remove", &journal))?;
        fs::rename(&self.path, &self.target).map_err(Error::path("write", &self.target))?;
        sync_parent(&self.target)
    }

    /// Removes the folder, when its contents are of no use to a later run.
    pub fn abandon(self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// An empty folder may be replaced.
fn is_taken(target: &Path) -> bool {
    match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::symlink_metadata(target).is_ok(),
    }
}
