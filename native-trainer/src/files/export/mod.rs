//! Models written as Hugging Face folders, tensor by tensor. It takes a few megabytes of memory, uses several threads,
//! writes files of at most 5 GB, and continues an interrupted run. The folder appears whole or not at all.

mod beside;
mod dtype;
mod layout;
mod partial;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

pub use beside::{Beside, beside};
pub(super) use beside::{GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, config_file, describe_tokenizer, kept_files};
pub use dtype::DtypeChoice;
pub use layout::Stored;
pub(super) use layout::{SHARD_BYTES, ShardFile, ShardLayout};
use paddock_engine::model::LoadProgress;
use partial::{Done, PartialFolder};
use serde_json::Value;

use crate::{Error, Result};

/// The source of an export's rows. Each thread has its own.
pub trait Rows {
    /// Some rows of tensor `tensor`, encoded as they will be stored. All rows of a tensor are requested, in order.
    ///
    /// # Errors
    /// What their source reports.
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>>;

    /// Called when all rows of `tensor` have been read. The returned value ends up in [`Exported::records`].
    ///
    /// # Errors
    /// When the tensor is not what it should be; everything written so far is then removed.
    fn finish(&mut self, tensor: usize) -> Result<Value>;
}

/// A folder to be written.
#[derive(Debug)]
pub struct Export {
    /// The folder, which must not exist.
    pub output: PathBuf,
    /// Its tensors, in order.
    pub tensors: Vec<Stored>,
    /// Everything that the content depends on, in one line. A run with the same key continues an interrupted one.
    pub key: String,
    /// How many threads to use.
    pub threads: usize,
}

/// An export whose tensors are all written; [`Exported::commit`] must follow.
#[derive(Debug)]
pub struct Exported {
    folder: PartialFolder,
    index: Option<Value>,
    /// What [`Rows::finish`] returned for each tensor, in order.
    pub records: Vec<Value>,
}

/// A message from a worker to the thread that keeps the journal.
enum Message {
    Bytes(u64),
    Done(usize, Done),
    Failed(usize, Error),
}

impl Export {
    /// Writes all tensors. `open` is called once in each thread; `progress` receives the bytes written and the total.
    ///
    /// # Errors
    /// The error of the first tensor that failed. After an error in reading or writing, finished tensors are kept for the
    /// next run; after any other error they are removed.
    pub fn run<R: Rows>(
        &self,
        open: &(impl Fn() -> Result<R> + Sync),
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Exported> {
        keep_freed_memory();
        let layout = ShardLayout::new(&self.tensors, SHARD_BYTES)?;
        let (mut folder, done) = PartialFolder::open(&self.output, &self.key)?;
        match self.write(&layout, &mut folder, &done, open, progress) {
            Ok(records) => Ok(Exported { folder, index: layout.index, records }),
            Err(error) => {
                if !matches!(error, Error::Path { .. } | Error::Engine(paddock_engine::Error::Read { .. })) {
                    folder.abandon();
                }
                Err(error)
            }
        }
    }

    fn write<R: Rows>(
        &self,
        layout: &ShardLayout,
        folder: &mut PartialFolder,
        done: &HashMap<String, Done>,
        open: &(impl Fn() -> Result<R> + Sync),
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Value>> {
        for file in &layout.files {
            let path = folder.path().join(&file.name);
            let mut opened = open_file(&path)?;
            opened
                .set_len(file.bytes)
                .and_then(|()| opened.write_all(&file.header))
                .map_err(Error::path("write", &path))?;
        }
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let mut records: Vec<Option<Value>> = vec![None; self.tensors.len()];
        let path = folder.path().to_path_buf();
        let shared = Shared { export: self, layout, folder: &path, done, next: &next, failed: &failed };
        let result = thread::scope(|scope| {
            let (shared, (sender, receiver), (made, to_sync)) = (&shared, mpsc::channel(), mpsc::channel());
            for _ in 0..self.threads.clamp(1, self.tensors.len().max(1)) {
                let (made, sender) = (made.clone(), sender.clone());
                scope.spawn(move || shared.work(open, &made, &sender));
            }
            drop(made);
            scope.spawn(move || shared.sync(&to_sync, &sender));
            self.listen(&receiver, folder, &failed, &mut records, progress)
        });
        result.and_then(|()| {
            let missing = || Error::Request("a thread ended early; run the command again".to_string());
            records.into_iter().collect::<Option<Vec<_>>>().ok_or_else(missing)
        })
    }

    /// Writes the journal until all threads have ended.
    fn listen(
        &self,
        receiver: &Receiver<Message>,
        folder: &mut PartialFolder,
        failed: &AtomicUsize,
        records: &mut [Option<Value>],
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let mut state = LoadProgress { bytes: 0, total: self.tensors.iter().map(Stored::bytes).sum() };
        let mut first: Option<(usize, Error)> = None;
        let mut note = |tensor: usize, error| {
            failed.fetch_min(tensor, Ordering::SeqCst);
            if first.as_ref().is_none_or(|(other, _)| tensor < *other) {
                first = Some((tensor, error));
            }
        };
        for message in receiver {
            match message {
                Message::Bytes(bytes) => {
                    state.bytes += bytes;
                    progress(state);
                }
                Message::Done(tensor, done) => {
                    if let Err(error) = folder.note(&done) {
                        note(tensor, error);
                    }
                    if let Some(record) = records.get_mut(tensor) {
                        *record = Some(done.record);
                    }
                }
                Message::Failed(tensor, error) => note(tensor, error),
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl Exported {
    /// Adds the files other than weights and moves the folder into place.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn commit(self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let index =
            self.index.iter().map(|index| ("model.safetensors.index.json", format!("{index:#}\n").into_bytes()));
        for (name, bytes) in index.chain(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()))) {
            let path = self.folder.path().join(name);
            fs::write(&path, bytes).map_err(Error::path("write", &path))?;
        }
        self.folder.commit()
    }

    /// Removes what was written, because it is wrong.
    pub fn abandon(self) {
        self.folder.abandon();
    }
}

/// What the threads share.
struct Shared<'a> {
    export: &'a Export,
    layout: &'a ShardLayout,
    folder: &'a Path,
    done: &'a HashMap<String, Done>,
    /// The first tensor that no thread has taken.
    next: &'a AtomicUsize,
    /// The first tensor that failed.
    failed: &'a AtomicUsize,
}

impl Shared<'_> {
    /// Writes tensors until none are left. Tensors before a failed one are still written, so that the reported error is
    /// always that of the first.
    fn work<R: Rows>(&self, open: &impl Fn() -> Result<R>, done: &Sender<(usize, Done)>, sender: &Sender<Message>) {
        let mut rows = None;
        loop {
            let tensor = self.next.fetch_add(1, Ordering::SeqCst);
            if tensor >= self.export.tensors.len() || tensor > self.failed.load(Ordering::SeqCst) {
                return;
            }
            let made = self.verify(tensor, sender).and_then(|found| match (found, &mut rows) {
                (Some(found), _) => Ok(Some(found)),
                (None, Some(rows)) => self.make(tensor, rows, sender),
                (None, none) => self.make(tensor, none.insert(open()?), sender),
            });
            let heard = match made {
                Ok(Some(made)) => done.send((tensor, made)).is_ok(),
                Ok(None) => false,
                Err(error) => sender.send(Message::Failed(tensor, error)).is_ok(),
            };
            if !heard {
                return;
            }
        }
    }

    /// Syncs tensors to the disk while other threads compute, and only then reports them, so that the journal lists nothing
    /// that a power failure could undo.
    fn sync(&self, written: &Receiver<(usize, Done)>, sender: &Sender<Message>) {
        while let Ok(first) = written.recv() {
            let tensors: Vec<(usize, Done)> = std::iter::once(first).chain(written.try_iter()).collect();
            let place = |tensor: usize| self.layout.places.get(tensor).map(|place| place.file);
            // One sync a file is enough, whichever of its tensors asks for it.
            let files: BTreeMap<_, usize> = tensors.iter().map(|(tensor, _)| (place(*tensor), *tensor)).collect();
            let synced: Result<()> = files.into_values().try_for_each(|tensor| {
                let (path, file, _) = self.open(tensor)?;
                file.sync_data().map_err(Error::path("write", &path))
            });
            let messages: Vec<Message> = match synced {
                Ok(()) => tensors.into_iter().map(|(tensor, done)| Message::Done(tensor, done)).collect(),
                Err(error) => tensors.first().map(|(tensor, _)| Message::Failed(*tensor, error)).into_iter().collect(),
            };
            if messages.into_iter().any(|message| sender.send(message).is_err()) {
                return;
            }
        }
    }

    /// Whether `tensor`'s bytes in its file match the journal.
    fn verify(&self, tensor: usize, sender: &Sender<Message>) -> Result<Option<Done>> {
        let Some(done) = self.export.tensors.get(tensor).and_then(|stored| self.done.get(&stored.param.name)) else {
            return Ok(None);
        };
        let (path, mut file, stored) = self.open(tensor)?;
        let mut checksum = Checksum::default();
        let per_chunk = stored.chunk_rows() * stored.row_bytes();
        let mut buffer = vec![0; per_chunk];
        let mut left = stored.bytes();
        while left > 0 {
            let part = buffer.split_at_mut(left.min(per_chunk as u64) as usize).0;
            file.read_exact(part).map_err(Error::path("read", &path))?;
            checksum.add(part);
            left -= part.len() as u64;
        }
        if checksum.0 != done.checksum {
            return Ok(None);
        }
        let _ = sender.send(Message::Bytes(stored.bytes()));
        Ok(Some(done.clone()))
    }

    /// Writes `tensor`. Returns `None` when an earlier tensor has failed in the meantime.
    fn make<R: Rows>(&self, tensor: usize, source: &mut R, sender: &Sender<Message>) -> Result<Option<Done>> {
        let (path, mut file, stored) = self.open(tensor)?;
        let per_chunk = stored.chunk_rows();
        let (mut row, all) = (0, stored.param.shape[0]);
        let mut checksum = Checksum::default();
        while row < all {
            if tensor > self.failed.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let end = all.min(row + per_chunk);
            let bytes = source.rows(tensor, row..end)?;
            if bytes.len() != (end - row) * stored.row_bytes() {
                return Err(Error::Request(format!("{}: its rows have the wrong length", stored.param.name)));
            }
            checksum.add(&bytes);
            file.write_all(&bytes).map_err(Error::path("write", &path))?;
            let _ = sender.send(Message::Bytes(bytes.len() as u64));
            row = end;
        }
        let record = source.finish(tensor)?;
        Ok(Some(Done { tensor: stored.param.name.clone(), checksum: checksum.0, record }))
    }

    /// The file of `tensor`, at its first byte.
    fn open(&self, tensor: usize) -> Result<(PathBuf, File, &Stored)> {
        let parts = self.layout.places.get(tensor).zip(self.export.tensors.get(tensor));
        let found = parts.and_then(|(place, stored)| Some((place, self.layout.files.get(place.file)?, stored)));
        let (place, file, stored) = found.ok_or_else(|| Error::Request(format!("there is no tensor {tensor}")))?;
        let path = self.folder.join(&file.name);
        let mut opened = open_file(&path)?;
        opened.seek(SeekFrom::Start(place.offset)).map_err(Error::path("write", &path))?;
        Ok((path, opened, stored))
    }
}

/// glibc returns freed blocks of a chunk's size to the system at once, so that every chunk causes new page faults. Once a
/// larger block has been freed, it keeps all blocks below that size (its dynamic `M_MMAP_THRESHOLD`, mallopt(3)).
fn keep_freed_memory() {
    const LARGER: usize = 16 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGER)));
}

/// Opens a file without truncating it, or creates it.
fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(Error::path("open", path))
}

/// A checksum that detects writes that never reached the disk. It does not protect against tampering; digests do that.
/// A tensor is always hashed in the same chunks.
#[derive(Debug, Default)]
struct Checksum(u64);

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        // 2^64 divided by the golden ratio, rounded to an odd number.
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
        }
        for byte in rest {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(FACTOR);
        }
    }
}

#[cfg(test)]
mod tests;
