//! Hugging Face folders: `config.json`, `generation_config.json`, safetensors (single or sharded), tokenizer files.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::diff::{WEIGHT_DIFF, WEIGHT_DIFF_LIMIT, WeightDiff};
use super::foreign::{check_blocks, check_quantization};
use super::layout::TensorTable;
use super::safetensors::read_header;
use super::source::Source;
use super::stored::StoredTensors;
use crate::{Error, ModelConfig, Result};

pub(super) const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A configuration is some kilobytes; more is not one.
pub(super) const CONFIG_LIMIT: u64 = 16 << 20;
/// An index lists each tensor once, in about 100 bytes.
const INDEX_LIMIT: u64 = 64 << 20;

/// The safetensors files of a folder.
pub(super) struct WeightFiles {
    names: Vec<String>,
    /// Which of them holds which tensor, where an index says so.
    index: Option<Index>,
}

/// The weights of a Hugging Face folder; `None` when `source` is none. As in transformers, a single file goes before an
/// index, which may be left over from the model that the file was made from. Parts without an index are all read.
pub(super) async fn weight_files<S: Source>(source: &S) -> Result<Option<WeightFiles>> {
    if source.size(SINGLE).await?.is_some() {
        return Ok(Some(WeightFiles { names: vec![SINGLE.to_string()], index: None }));
    }
    if let Some(index) = read_index(source).await? {
        let names: BTreeSet<String> = index.weight_map.values().cloned().collect();
        return Ok(Some(WeightFiles { names: names.into_iter().collect(), index: Some(index) }));
    }
    let listed = source.list();
    Ok(parts(&listed, "model", "safetensors")?.map(|names| WeightFiles { names, index: None }))
}

/// The files `STEM-00001-of-0000N.KIND` among `listed`, in order; `None` when there are none.
///
/// # Errors
/// [`Error::Missing`] when one is absent.
pub fn parts(listed: &[String], stem: &str, kind: &str) -> Result<Option<Vec<String>>> {
    let count = listed.iter().find_map(|name| {
        let part = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(kind)?.strip_suffix('.')?;
        let (number, count) = part.split_once("-of-")?;
        (number.len() == 5 && count.len() == 5 && number.parse::<u32>().is_ok()).then(|| count.parse::<u32>().ok())?
    });
    let Some(count) = count else { return Ok(None) };
    let mut names = Vec::new();
    for number in 1..=count {
        let name = format!("{stem}-{number:05}-of-{count:05}.{kind}");
        if !listed.contains(&name) {
            let hint = format!("it is one of the {count} parts of the model; put all parts into one folder");
            return Err(Error::Missing { file: name, hint });
        }
        names.push(name);
    }
    Ok(Some(names))
}

/// Reads the configuration and the headers of all weight files.
pub(super) async fn open<S: Source>(source: &S, weights: WeightFiles) -> Result<TensorTable> {
    let json = read_json(source, CONFIG, CONFIG_LIMIT).await?.ok_or_else(|| Error::Missing {
        file: CONFIG.to_string(),
        hint: "a model folder holds it beside the weights; download the model again".to_string(),
    })?;
    let generation = read_json(source, "generation_config.json", CONFIG_LIMIT).await?;
    let mut config = ModelConfig::from_json(&json, generation.as_ref())?;
    let WeightFiles { names: files, index } = weights;
    let mut found = HashMap::new();
    for (number, file) in files.iter().enumerate() {
        for entry in read_header(source, file).await? {
            if index.as_ref().is_none_or(|index| index.weight_map.get(&entry.name) == Some(file)) {
                found.insert(entry.name.clone(), (number, entry));
            }
        }
    }
    let stored = StoredTensors::new(found, config.architecture);
    check_quantization(&json, &stored)?;
    let mut notes = ModelConfig::contradictions(&json);
    notes.extend(stored.overrule(&mut config, &json, source, &files).await?);
    let params = config.params();
    check_blocks(&config, &params, &stored)?;
    let tensors = params.iter().map(|param| stored.locate(&config, param)).collect::<Result<_>>()?;
    let weight_diff = match source.read_all(WEIGHT_DIFF, WEIGHT_DIFF_LIMIT).await? {
        Some(bytes) => Some(WeightDiff::parse(&bytes)?),
        None => None,
    };
    Ok(TensorTable { config, files, tensors, weight_diff, notes })
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Index {
    /// Tensor name to file name.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Parses the index and checks that it names files of its own folder only.
    ///
    /// # Errors
    /// When it is not such JSON, or a file lies elsewhere.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::format(INDEX, format!("expected an object with \"weight_map\": {error}")))?;
        for file in index.weight_map.values() {
            if !is_plain_name(file) {
                return Err(Error::format(INDEX, format!("it names {file:?}, which is not a file of this folder")));
            }
        }
        Ok(index)
    }
}

/// Whether `name` names a file directly in the model's folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

async fn read_index<S: Source>(source: &S) -> Result<Option<Index>> {
    source.read_all(INDEX, INDEX_LIMIT).await?.map(|bytes| Index::parse(&bytes)).transpose()
}

pub(super) async fn read_json<S: Source>(source: &S, file: &str, limit: u64) -> Result<Option<Value>> {
    let Some(bytes) = source.read_all(file, limit).await? else { return Ok(None) };
    let value = crate::json::parse(&bytes)
        .map_err(|error| Error::format(file, format!("it is not valid JSON: {error}; download it again")))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_of_a_part_have_five_digits() {
        let found = |name: &str| parts(&[name.to_string()], "model", "safetensors").unwrap();
        assert!(found("model-00001-of-00001.safetensors").is_some());
        for name in ["model-00001-of-1.safetensors", "model-1-of-00001.safetensors", "model-first-of-00001.safetensors"]
        {
            assert_eq!(found(name), None, "{name}");
        }
    }
}
