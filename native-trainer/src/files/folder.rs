//! A model in a folder, or in a single GGUF file, as a byte source for the engine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use paddock_engine::weights::{Source, check_first_bytes, gguf};
use paddock_engine::{Error, Result};

/// Enough to know a file by.
const FIRST_BYTES: u64 = 256;

/// The files of a folder, or a single file. Files stay open after their first read.
#[derive(Debug)]
pub struct FolderSource {
    root: PathBuf,
    names: Vec<String>,
    open: RefCell<BTreeMap<String, Rc<File>>>,
}

impl FolderSource {
    /// The model at `path`: a Hugging Face folder, a web pack, or a GGUF file, whatever its name; of a split model any
    /// part, beside which the others lie.
    ///
    /// # Errors
    /// When there is nothing at `path`, it cannot be listed, or it is a file of another kind.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let cannot = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => Error::Missing {
                file: shown.clone(),
                hint: "give a model folder or a GGUF file that exists".to_string(),
            },
            _ => Error::Read { file: shown.clone(), problem: error.to_string() },
        };
        if fs::metadata(path).map_err(cannot)?.is_dir() {
            let names = list(path).map_err(cannot)?;
            return Ok(Self { root: path.to_path_buf(), names, open: RefCell::default() });
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(FIRST_BYTES).read_to_end(&mut start)).map_err(cannot)?;
        if !start.starts_with(b"GGUF") {
            check_first_bytes(name, &start)?;
            if !name.to_ascii_lowercase().ends_with(".gguf") {
                return Err(Error::format(
                    shown,
                    "expected a folder or a GGUF file; give the folder that this file is in",
                ));
            }
        }
        // `Path::parent` of a bare name is empty, which is no folder that can be listed.
        let root = path.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        let mut names = vec![name.to_string()];
        if let Some(stem) = gguf::stem(name) {
            names = list(&root).map_err(cannot)?;
            names.retain(|other| gguf::stem(other) == Some(stem));
        }
        Ok(Self { root, names, open: RefCell::default() })
    }

    /// The file behind `name`, opened once; `None` when there is none.
    fn file(&self, name: &str) -> Result<Option<Rc<File>>> {
        if let Some(file) = self.open.borrow().get(name) {
            return Ok(Some(file.clone()));
        }
        let path = Path::new(name);
        // Names can come from an index file, which must not reach outside the folder.
        if name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::format(name, "expected the name of a file within the model's folder"));
        }
        let only_the_root = path.components().count() == 1;
        if only_the_root && !self.names.iter().any(|known| known == name) {
            return Ok(None);
        }
        match File::open(self.root.join(path)) {
            Ok(file) => {
                let file = Rc::new(file);
                self.open.borrow_mut().insert(name.to_string(), file.clone());
                Ok(Some(file))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(name, &error)),
        }
    }
}

impl Source for FolderSource {
    fn list(&self) -> Vec<String> {
        self.names.clone()
    }

    async fn size(&self, file: &str) -> Result<Option<u64>> {
        let Some(opened) = self.file(file)? else { return Ok(None) };
        let metadata = opened.metadata().map_err(|error| unreadable(file, &error))?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    async fn read(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let Some(size) = self.size(file).await? else {
            return Err(Error::Missing {
                file: file.to_string(),
                hint: "check that the folder is complete".to_string(),
            });
        };
        // Checked before the allocation, since a damaged header may ask for any number of bytes.
        if range.end > size || range.start > range.end {
            return Err(Error::Read {
                file: file.to_string(),
                problem: format!("it ends at byte {size}, expected {}; the file is truncated", range.end),
            });
        }
        let length = usize::try_from(range.end - range.start)
            .map_err(|_| Error::format(file, "it asks for more bytes at once than this machine can address"))?;
        let Some(opened) = self.file(file)? else { return Ok(Vec::new()) };
        let mut opened = opened.as_ref();
        let mut bytes = Vec::with_capacity(length);
        opened
            .seek(SeekFrom::Start(range.start))
            .and_then(|_| opened.take(length as u64).read_to_end(&mut bytes))
            .map_err(|error| unreadable(file, &error))?;
        if bytes.len() < length {
            let problem = format!("it ended {} bytes early; it was changed while being read", length - bytes.len());
            return Err(Error::Read { file: file.to_string(), problem });
        }
        Ok(bytes)
    }
}

/// Names of the files in `folder`, in order.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Follows links: a download cache keeps the files elsewhere and links them into the folder.
        let is_file = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A system error as the engine's error.
fn unreadable(file: &str, error: &io::Error) -> Error {
    Error::Read { file: file.to_string(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), b"{}").unwrap();
        fs::write(folder.path().join("model.gguf"), b"0123456789").unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/data"), b"abc").unwrap();
        folder
    }

    #[test]
    fn a_folder_lists_its_files_and_reads_by_range() {
        let folder = folder();
        let source = FolderSource::open(folder.path()).unwrap();
        assert_eq!(source.list(), ["config.json", "model.gguf"]);
        assert_eq!(block_on(source.size("model.gguf")).unwrap(), Some(10));
        assert_eq!(block_on(source.read("model.gguf", 3..6)).unwrap(), b"345");
        assert_eq!(block_on(source.read("model.gguf", 0..10)).unwrap(), b"0123456789");
        assert_eq!(block_on(source.read("model.gguf", 10..10)).unwrap(), b"");
        assert_eq!(block_on(source.read("inner/data", 1..3)).unwrap(), b"bc");
        assert_eq!(block_on(source.size("absent")).unwrap(), None);
        assert_eq!(block_on(source.size("inner/absent")).unwrap(), None);
    }

    #[test]
    fn a_single_file_hides_its_neighbours() {
        let folder = folder();
        let source = FolderSource::open(&folder.path().join("model.gguf")).unwrap();
        assert_eq!(source.list(), ["model.gguf"]);
        assert_eq!(block_on(source.read("model.gguf", 0..2)).unwrap(), b"01");
        assert_eq!(block_on(source.size("config.json")).unwrap(), None);
    }

    #[test]
    fn a_file_is_known_by_its_first_bytes_and_a_part_by_its_name() {
        let folder = folder();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("sha256-0f", b"GGUF\x03\0\0\0");
        write("m-00001-of-00002.gguf", b"GGUF");
        write("m-00002-of-00002.gguf", b"GGUF");
        write("n-00001-of-00002.gguf", b"GGUF");
        write("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n");
        let open = |name: &str| FolderSource::open(&folder.path().join(name));
        assert_eq!(open("sha256-0f").unwrap().list(), ["sha256-0f"]);
        for part in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
            assert_eq!(open(part).unwrap().list(), ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]);
        }
        let error = open("pointer.gguf").unwrap_err().to_string();
        assert!(error.contains("git lfs pull"), "{error}");
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        let folder = folder();
        let inner = FolderSource::open(&folder.path().join("inner")).unwrap();
        for name in ["../config.json", "/etc/hostname", "", "a/../../config.json"] {
            let error = block_on(inner.read(name, 0..1)).unwrap_err().to_string();
            assert!(error.contains("within the model's folder"), "{name}: {error}");
        }
    }

    #[test]
    fn a_range_past_the_end_says_that_the_file_is_truncated() {
        let folder = folder();
        let source = FolderSource::open(folder.path()).unwrap();
        for end in [11, u64::MAX] {
            let error = block_on(source.read("model.gguf", 0..end)).unwrap_err().to_string();
            assert!(error.contains("it ends at byte 10") && error.contains("truncated"), "{error}");
        }
    }

    #[test]
    fn a_missing_path_or_another_file_is_refused_in_words() {
        let folder = folder();
        let missing = FolderSource::open(&folder.path().join("nothing")).unwrap_err().to_string();
        assert!(missing.contains("was not found"), "{missing}");
        let other = FolderSource::open(&folder.path().join("config.json")).unwrap_err().to_string();
        assert!(other.contains("expected a folder or a GGUF file"), "{other}");
    }
}
