//! The golden fixtures: small models made by PyTorch and transformers in fp32.

use std::path::{Path, PathBuf};

use paddock_engine::weights::MemorySource;
use safetensors::SafeTensors;

/// The folder of fixtures: what `PADDOCK_FIXTURES` names, else the copy in this package.
pub fn fixtures() -> PathBuf {
    std::env::var_os("PADDOCK_FIXTURES").map_or_else(|| package_fixture(""), PathBuf::from)
}

/// The folders in `root`, in order.
pub fn fixture_folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The fixture `name` of this package, for tests that are about it alone.
pub fn package_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The folders in [`fixtures`] that hold all of `files`, this package's where the named one has none.
pub fn fixtures_with(files: &[&str]) -> Vec<PathBuf> {
    let holding = |root: &Path| -> Vec<PathBuf> {
        fixture_folders(root).into_iter().filter(|path| files.iter().all(|file| path.join(file).is_file())).collect()
    };
    let found = holding(&fixtures());
    if found.is_empty() { holding(&package_fixture("")) } else { found }
}

/// The tensor `name` of a fixture's `expected.safetensors`, which is F32.
pub fn expected_tensor(folder: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("the expected tensors");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", folder.display()));
    tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Distance of two vectors, relative to the length of the second.
///
/// # Panics
/// When they are not of one length.
pub fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    length(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / length(&mut expected.iter().copied())
}

/// Infinite when the lengths differ or a number is none.
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    found.iter().zip(expected).fold(0.0, |largest: f32, (a, b)| match (a - b).abs() {
        difference if difference.is_nan() => f32::INFINITY,
        difference => largest.max(difference),
    })
}

/// The files of the fixture `name` of this package, in memory.
pub fn fixture_source(name: &str) -> MemorySource {
    folder_source(&package_fixture(name))
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
