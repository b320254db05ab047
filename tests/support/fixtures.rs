//! The golden fixtures: small models made by PyTorch and transformers in fp32.

use std::path::{Path, PathBuf};

use paddock_engine::weights::MemorySource;

/// The folder of fixtures: what `PADDOCK_FIXTURES` names, else the copy in this package.
pub fn fixtures() -> PathBuf {
    std::env::var_os("PADDOCK_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from)
}

/// The files of the fixture `name` of this package, in memory.
pub fn fixture_source(name: &str) -> MemorySource {
    folder_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name))
}

/// The files of a small folder, in memory.
pub fn folder_source(folder: &Path) -> MemorySource {
    let mut source = MemorySource::default();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_file() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            source.files.insert(name, std::fs::read(&path).expect("a readable file"));
        }
    }
    source
}
