//! The journal of a run: every answer, a line each, on the disk before anything else is asked. A run that was killed reads
//! its journal instead of asking again, and a journal alone gives the same data.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Ask, Completion, Usage};
use crate::{Error, Result};

/// The file's name in the folder of a run.
pub const JOURNAL: &str = "journal.jsonl";

/// Answers so far, and the file that they are added to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: BTreeMap<Place, Entry>,
}

/// Which answer: the number of the request, and which of its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The request, from 0 on.
    pub request: usize,
    /// Its turn, from 0 on; methods that ask again about an answer have several.
    pub turn: usize,
}

/// A line.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    place: Place,
    /// Digest of what was asked.
    asked: String,
    /// Seconds until the answer was there.
    seconds: f64,
    #[serde(flatten)]
    completion: Completion,
}

impl Journal {
    /// Opens the journal of the run in `folder`, or begins one. A line that was being written when the program was killed
    /// is cut off.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a line before the last is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(JOURNAL);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::path("open", &path))?;
        let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut entries = BTreeMap::new();
        for (index, line) in
            bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
        {
            let entry: Entry = serde_json::from_slice(line).map_err(|error| {
                Error::Request(format!(
                    "{}, line {}: it is damaged ({error}); remove the line to have it asked again",
                    path.display(),
                    index + 1
                ))
            })?;
            entries.insert(entry.place, entry);
        }
        file.set_len(whole as u64).map_err(Error::path("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::path("write", &path))?;
        Ok(Self { path, file, entries })
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What all answers took.
    pub fn usage(&self) -> Usage {
        let usages = self.entries.values().filter_map(|entry| entry.completion.usage);
        usages.fold(Usage::default(), Usage::plus)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The answer at `place`, if it is there.
    ///
    /// # Errors
    /// When it answers something else than `ask`.
    pub fn answer(&self, place: Place, ask: &Ask) -> Result<Option<&Completion>> {
        let Some(entry) = self.entries.get(&place) else { return Ok(None) };
        if entry.asked != digest(ask) {
            return Err(Error::Request(format!(
                "{}: request {} was another one when it was answered, so the settings, the seeds or the version have changed; \
                 go on with the old ones, or choose another --output",
                self.path.display(),
                place.request
            )));
        }
        Ok(Some(&entry.completion))
    }

    /// Adds the answer to `ask`; it is on the disk afterwards.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, place: Place, ask: &Ask, completion: Completion, seconds: f64) -> Result<()> {
        let entry = Entry { place, asked: digest(ask), seconds, completion };
        let line = serde_json::to_string(&entry).map_err(std::io::Error::from)? + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(Error::path("write", &self.path))?;
        self.entries.insert(place, entry);
        Ok(())
    }
}

fn digest(ask: &Ask) -> String {
    let bytes = serde_json::to_vec(ask).unwrap_or_default();
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
