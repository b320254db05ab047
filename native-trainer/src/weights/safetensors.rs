//! Safetensors files, written tensor by tensor.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::Result;

/// A tensor to be written, in f32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
}

/// Writes `entries` with the values that `values` gives for each index. No more than one tensor is in memory.
///
/// # Errors
/// When the file does not take the bytes, or `values` fails.
pub fn write_safetensors(
    file: &mut impl Write,
    entries: &[Entry],
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_string(), json!({ "format": "pt" }));
    let mut offset = 0;
    for Entry { name, shape } in entries {
        let end = offset + 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for index in 0..entries.len() {
        let bytes: Vec<u8> = values(index)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes)?;
    }
    Ok(())
}
