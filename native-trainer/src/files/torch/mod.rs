//! Files of `torch.save`, read without Python: the zip archive of PyTorch 1.6 and later, and the older plain sequence of
//! pickles. A file must be a dictionary of tensors, else it is refused; nothing in it is executed.

mod archive;
mod folder;
mod joined;
mod meta;
mod pickle;
mod tensor;

use std::collections::HashMap;
use std::ops::Range;

use paddock_engine::weights::{Source, check_first_bytes};
use paddock_engine::{Error, Result};

use archive::Archive;
pub use folder::TorchFolder;
use pickle::{Fault, Id, Pickle, Value};
pub use tensor::TorchTensor;

/// Size limit of a description. A tensor takes about 200 bytes; the largest published shard has a few hundred tensors.
const PICKLE_LIMIT: u64 = 8 << 20;
/// Size of the first read of a file without a directory.
const FIRST_READ: u64 = 64 << 10;
/// Enough to know a file by.
const FIRST_BYTES: u64 = 256;
/// `torch.serialization.MAGIC_NUMBER` as the first pickle of an old file writes it.
const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The tensors of `file`, in the order of its dictionary.
///
/// # Errors
/// When the file is not a state dict, is damaged, or refers to anything but tensors; the error names it.
pub async fn read_tensors<S: Source>(source: &S, file: &str) -> Result<Vec<TorchTensor>> {
    let size = source.size(file).await?.ok_or_else(|| Error::Missing {
        file: file.to_string(),
        hint: "the folder is incomplete; download the model again".to_string(),
    })?;
    let start = source.read(file, 0..size.min(FIRST_BYTES)).await?;
    check_first_bytes(file, &start)?;
    if start.starts_with(b"PK") {
        read_archive(source, file, size).await
    } else if start.starts_with(OLD_MAGIC) {
        read_sequence(source, file, size).await
    } else {
        Err(Error::format(file, "expected a file of torch.save, found something else; download the model again"))
    }
}

async fn read_archive<S: Source>(source: &S, file: &str, size: u64) -> Result<Vec<TorchTensor>> {
    let archive = Archive::open(source, file, size).await?;
    if let Some(range) = archive.find(source, file, size, "byteorder").await?
        && range.end - range.start <= 16
        && source.read(file, range).await? == b"big"
    {
        return Err(Error::Unsupported(format!("{file} was written by a big-endian machine; save it again elsewhere")));
    }
    let range = archive.find(source, file, size, "data.pkl").await?;
    let range = range.filter(|range| range.end - range.start <= PICKLE_LIMIT).ok_or_else(|| {
        Error::format(file, "it holds no data.pkl of a plausible size; expected a file of torch.save")
    })?;
    let pickle = pickle::parse(&source.read(file, range).await?).map_err(|fault| fault_in(file, fault))?;
    let mut storages = HashMap::new();
    for key in keys(&pickle) {
        if let Some(range) = archive.find(source, file, size, &format!("data/{key}")).await? {
            storages.insert(key, range);
        }
    }
    tensors(file, &pickle, &storages)
}

/// The older format: magic number, version, facts about the machine, the dictionary, the keys of the storages, and then
/// each storage as its length in values and its bytes (`torch/serialization.py`, `_legacy_save`).
async fn read_sequence<S: Source>(source: &S, file: &str, size: u64) -> Result<Vec<TorchTensor>> {
    let limit = size.min(PICKLE_LIMIT);
    let mut wanted = FIRST_READ.min(limit);
    let (pickles, mut at) = loop {
        match sequence(&source.read(file, 0..wanted).await?) {
            Ok(read) => break read,
            Err(Fault::End) if wanted < limit => wanted = (wanted * 2).min(limit),
            Err(fault) => return Err(fault_in(file, fault)),
        }
    };
    let [_, _, _, pickle, order] = &pickles;
    let kinds = storages_of(pickle);
    let Some(Value::List(order_ids)) = order.values.get(order.top) else {
        return Err(Error::format(file, "it does not list its storages; download it again"));
    };
    let mut storages = HashMap::new();
    for id in order_ids {
        let cut = || Error::format(file, "its storages do not lie within it; the file is truncated, download it again");
        let Some(Value::Text(key)) = order.values.get(*id) else { return Err(cut()) };
        let Some(&value_bytes) = kinds.get(key.as_str()) else { return Err(cut()) };
        let start = at.checked_add(8).filter(|start| *start <= size).ok_or_else(cut)?;
        let count = source.read(file, at..start).await?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let bytes = count.checked_mul(value_bytes).ok_or_else(cut)?;
        at = start.checked_add(bytes).filter(|end| *end <= size).ok_or_else(cut)?;
        storages.insert(key.clone(), start..at);
    }
    tensors(file, pickle, &storages)
}

/// The five pickles at the start of an old file, and where they end.
fn sequence(bytes: &[u8]) -> Result<([Pickle; 5], u64), Fault> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::parse(bytes.get(at..).unwrap_or_default())?;
        at += pickle.bytes;
        Ok(pickle)
    };
    let pickles = [next()?, next()?, next()?, next()?, next()?];
    Ok((pickles, at as u64))
}

fn fault_in(file: &str, fault: Fault) -> Error {
    match fault {
        Fault::End => Error::format(file, "its pickle breaks off; the file is truncated or no state dict"),
        Fault::Refused(problem) => Error::format(file, format!("{problem}; expected a dictionary of tensors")),
    }
}

/// Storages that the pickle refers to, and bytes of a value of each.
fn storages_of(pickle: &Pickle) -> HashMap<&str, u64> {
    let all = pickle.values.iter().filter_map(|value| match value {
        Value::Persistent(id) => storage(pickle, *id).ok(),
        _ => None,
    });
    all.map(|storage| (storage.key, storage.value_bytes)).collect()
}

fn keys(pickle: &Pickle) -> Vec<String> {
    storages_of(pickle).into_keys().map(str::to_string).collect()
}

/// The contents of a persistent id.
struct Storage<'a> {
    key: &'a str,
    dtype: &'static str,
    value_bytes: u64,
}

/// `("storage", type, key, device, values)`; old files add a view, which is `None` since PyTorch 0.4.
fn storage(pickle: &Pickle, id: Id) -> Result<Storage<'_>, String> {
    let value = |id: &Id| pickle.values.get(*id);
    let Some(Value::Tuple(parts)) = value(&id) else { return Err("a storage without a description".to_string()) };
    let [tag, kind, key, _, _, rest @ ..] = parts.as_slice() else {
        return Err("a storage without a type".to_string());
    };
    let (Some(Value::Text(tag)), Some(Value::Global(kind)), Some(Value::Text(key))) =
        (value(tag), value(kind), value(key))
    else {
        return Err("a storage without a type and a key".to_string());
    };
    if tag != "storage" || rest.iter().any(|view| value(view) != Some(&Value::None)) {
        return Err("a storage of a kind that PyTorch no longer writes".to_string());
    }
    match tensor::DTYPES.iter().find(|(name, ..)| name == kind) {
        Some(&(_, dtype, value_bytes)) => Ok(Storage { key, dtype, value_bytes }),
        None => Err(format!("a storage of the unknown type {kind}")),
    }
}

/// The tensors of the top-level dictionary, whose storages are at `storages`.
fn tensors(file: &str, pickle: &Pickle, storages: &HashMap<String, Range<u64>>) -> Result<Vec<TorchTensor>> {
    let Some(Value::Dict(pairs)) = pickle.values.get(pickle.top) else {
        return Err(Error::format(file, "it is not a dictionary of tensors; save the model's state_dict() alone"));
    };
    let mut tensors: Vec<TorchTensor> = Vec::new();
    let mut places = HashMap::new();
    for (key, value) in pairs {
        let Some(Value::Text(name)) = pickle.values.get(*key) else {
            return Err(Error::format(file, "a key of its dictionary is not text; expected names of tensors"));
        };
        let tensor = tensor_at(pickle, name, *value, storages)
            .map_err(|problem| Error::format(file, format!("{name:?} in it is {problem}; expected a tensor")))?;
        // As in Python, a repeated key replaces the first.
        match places.get(name) {
            Some(&place) => tensors[place] = tensor,
            None => {
                places.insert(name.clone(), tensors.len());
                tensors.push(tensor);
            }
        }
    }
    Ok(tensors)
}

fn tensor_at(
    pickle: &Pickle,
    name: &str,
    value: Id,
    storages: &HashMap<String, Range<u64>>,
) -> Result<TorchTensor, String> {
    let parts = match pickle.values.get(value) {
        Some(Value::Tensor(parts)) => parts,
        Some(Value::Dict(_)) => return Err("a dictionary (save the model's state_dict() alone)".to_string()),
        Some(Value::Text(_)) => return Err("a text".to_string()),
        Some(Value::Int(_) | Value::Number | Value::Bool(_)) => return Err("a number".to_string()),
        _ => return Err("something else".to_string()),
    };
    let [stored, offset, shape, strides, ..] = parts.as_slice() else { return Err("an incomplete tensor".to_string()) };
    let Some(Value::Persistent(id)) = pickle.values.get(*stored) else {
        return Err("a tensor without a storage".into());
    };
    let storage = storage(pickle, *id)?;
    let range = storages.get(storage.key).ok_or("a tensor whose bytes are missing from the file")?;
    let number = |id: &Id| match pickle.values.get(*id) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let numbers = |id: &Id| match pickle.values.get(*id) {
        Some(Value::Tuple(ids)) => ids.iter().map(number).collect::<Option<Vec<u64>>>(),
        _ => None,
    };
    let (Some(offset), Some(shape), Some(strides)) = (number(offset), numbers(shape), numbers(strides)) else {
        return Err("a tensor without a shape".to_string());
    };
    let stored = (range.end - range.start) / storage.value_bytes;
    if !tensor::fits(&shape, &strides, offset, stored) {
        return Err(format!("a tensor of shape {shape:?} and strides {strides:?} in a storage of {stored} values"));
    }
    // An empty tensor may start anywhere.
    let offset = range.start + offset.min(stored) * storage.value_bytes;
    let Storage { dtype, value_bytes, .. } = storage;
    Ok(TorchTensor { name: name.to_string(), dtype, shape, strides, value_bytes, offset })
}
