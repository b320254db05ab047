//! GGUF files of architecture `llama` (format: llama.cpp's `gguf.md`, versions 2 and 3), whole or split into parts.
//!
//! They differ from Hugging Face folders in their names, in the order of dimensions, and in the rows of q and k: each
//! head is interleaved for rotary embedding (`LlamaModel.permute` in llama.cpp's converter); [`Checkpoint::read_rows`]
//! gives Hugging Face's order again.
//!
//! [`Checkpoint::read_rows`]: super::Checkpoint::read_rows

mod config;
mod files;
mod header;
mod names;
mod vocabulary;

use std::collections::BTreeSet;

pub(super) use files::files;
pub use files::stem;
pub use header::{Array, Header, Number, Parsed, TensorEntry, Value, parse};
pub use names::{ggml_type, gguf_name};

use super::Encoding;
use super::first_bytes::{FIRST_BYTES, check_first_bytes};
use super::foreign::foreign_tensor;
use super::layout::{LocatedTensor, TensorPiece, TensorTable, check_shape, mismatch};
use super::quant::dequantize;
use super::source::Source;
use crate::config::Param;
use crate::tokenizer::GgufVocabulary;
use crate::{Error, ModelConfig, Result};

/// First read; holds the whole header of most models.
const FIRST_READ: u64 = 4 << 20;
/// No published vocabulary makes a header a quarter of this.
const HEADER_LIMIT: u64 = 128 << 20;

/// Opens the model in the GGUF files `files`: one, or all parts of a split model in order.
pub(super) async fn open<S: Source>(source: &S, files: Vec<String>) -> Result<(TensorTable, GgufVocabulary)> {
    let first = files.first().map_or("", String::as_str);
    let mut header = read_header(source, first).await?;
    join_parts(source, &mut header, &files).await?;
    let (mut config, mut notes) = config::config(first, &header)?;
    config.rope_factors = rope_factors(source, &files, &header, &config).await?;
    let params = config.params();
    notes.extend(check_tensors(first, &header, &config, &params)?);
    let tensors = params.iter().map(|param| locate(&header, &config, param)).collect::<Result<_>>()?;
    let vocabulary = vocabulary::vocabulary(first, header.metadata)?;
    Ok((TensorTable { config, files, tensors, weight_diff: None, notes }, vocabulary))
}

/// Adds the tensors of the further parts of a split model to the first part's `header`, which has all metadata.
async fn join_parts<S: Source>(source: &S, header: &mut Header, files: &[String]) -> Result<()> {
    let split = |header: &Header, key: &str| match header.metadata.get(&format!("split.{key}")) {
        Some(Value::Number(Number::Unsigned(number))) => Some(*number),
        _ => None,
    };
    let count = split(header, "count").unwrap_or(1);
    for (number, file) in (0..).zip(files) {
        let part = if number == 0 { None } else { Some(read_header(source, file).await?) };
        let read = part.as_ref().unwrap_or(header);
        let (its_number, its_count) = (split(read, "no").unwrap_or(0), split(read, "count").unwrap_or(1));
        if (its_number, its_count) != (number, files.len() as u64) {
            return Err(Error::format(
                file,
                format!(
                    "it says that it is part {} of {its_count}; give its parts the names that gguf-split gave them, all in \
                     one folder",
                    its_number + 1
                ),
            ));
        }
        for (name, tensor) in part.into_iter().flat_map(|part| part.tensors) {
            let tensor = TensorEntry { part: number as usize, ..tensor };
            if header.tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::format(
                    file,
                    format!("tensor {name} is in another part, too; the parts are of different models"),
                ));
            }
        }
    }
    match split(header, "tensors.count") {
        Some(promised) if count > 1 && promised != header.tensors.len() as u64 => Err(Error::format(
            files.first().map_or("", String::as_str),
            format!(
                "its parts hold {} tensors, expected {promised}; they are of different models",
                header.tensors.len()
            ),
        )),
        _ => Ok(()),
    }
}

/// Reads as much from the start of `file` as the header takes.
async fn read_header<S: Source>(source: &S, file: &str) -> Result<Header> {
    let size = source
        .size(file)
        .await?
        .ok_or_else(|| Error::Missing { file: file.to_string(), hint: "check the path of the model".to_string() })?;
    check_first_bytes(file, &source.read(file, 0..size.min(FIRST_BYTES)).await?)?;
    let limit = size.min(HEADER_LIMIT);
    let mut bytes = Vec::new();
    let mut wanted = FIRST_READ.min(limit);
    loop {
        bytes.extend(source.read(file, bytes.len() as u64..wanted).await?);
        match parse(file, &bytes, size)? {
            Parsed::Complete(header) => return Ok(header),
            Parsed::Incomplete if wanted < limit => wanted = (wanted * 2).min(limit),
            Parsed::Incomplete => {
                return Err(Error::format(
                    file,
                    format!("its header does not end within {limit} bytes; the file is truncated or damaged"),
                ));
            }
        }
    }
}

/// Refuses tensors that LLaMA does not have: without them the model would say something else. Returns a sentence where blocks are
/// left out.
fn check_tensors(file: &str, header: &Header, config: &ModelConfig, params: &[Param]) -> Result<Option<String>> {
    let own: BTreeSet<String> = params.iter().filter_map(|param| gguf_name(&param.name)).collect();
    let block = |name: &str| name.strip_prefix("blk.")?.split_once('.')?.0.parse::<usize>().ok();
    let beyond = |name: &str| block(name).is_some_and(|block| block >= config.num_hidden_layers);
    let names = || header.tensors.keys().map(String::as_str);
    let scores = config.score_head().is_some();
    let foreign = names().filter(|name| {
        let known = own.contains(*name) || (scores && *name == "output.weight");
        !known && !beyond(name) && !is_unused(name)
    });
    if let Some(name) = foreign.min() {
        return Err(foreign_tensor(&format!("{file} holds"), name));
    }
    let count = config.num_hidden_layers;
    Ok(names().any(beyond).then(|| {
        format!("{file} holds more blocks than the {count} of \"llama.block_count\"; the others are left out")
    }))
}

/// What llama.cpp does not compute with either, or what [`rope_factors`] reads.
fn is_unused(name: &str) -> bool {
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"].contains(&name)
        || [".attn_rot_embd", ".rope_freqs.weight"].iter().any(|part| name.contains(part))
}

/// Finds `param` in the file and checks its shape and encoding.
fn locate(header: &Header, config: &ModelConfig, param: &Param) -> Result<LocatedTensor> {
    let name = gguf_name(&param.name)
        .ok_or_else(|| Error::Unsupported(format!("tensor {} has no name in GGUF files", param.name)))?;
    let tensor =
        header.tensors.get(&name).ok_or_else(|| mismatch(param, format!("nothing: the file has no tensor {name}")))?;
    let encoding = names::encoding(tensor.kind).ok_or_else(|| {
        Error::Unsupported(format!(
            "tensor {name} is stored as {}, which Paddock does not read; known are F32, F16, BF16, Q8_0, Q4_0, Q4_1, \
             Q5_0, Q5_1, Q4_K, Q5_K and Q6_K",
            names::type_name(tensor.kind)
        ))
    })?;
    let shape: Vec<u64> = tensor.dimensions.iter().rev().copied().collect();
    let info = check_shape(param, &shape, encoding)?;
    let rotary = param.name.contains(".q_proj.") || param.name.contains(".k_proj.");
    let interleaved_heads = rotary.then_some(config.head_dim);
    if interleaved_heads.is_some() && info.shape[0] == 1 && encoding.is_quantized() {
        return Err(mismatch(param, format!("{encoding:?}; a bias must be stored as F32, F16 or BF16")));
    }
    let rows = 0..info.shape[0];
    let pieces = vec![TensorPiece { file: tensor.part, offset: tensor.offset, rows }];
    Ok(LocatedTensor { info, pieces, interleaved_heads })
}

/// The divisors of the rotary frequencies that Llama 3.1 files carry as a tensor.
async fn rope_factors<S: Source>(
    source: &S,
    files: &[String],
    header: &Header,
    config: &ModelConfig,
) -> Result<Option<Vec<f32>>> {
    const NAME: &str = "rope_freqs.weight";
    let Some(tensor) = header.tensors.get(NAME) else { return Ok(None) };
    let half = config.head_dim / 2;
    if tensor.dimensions != [half as u64] || names::encoding(tensor.kind) != Some(Encoding::F32) {
        return Err(Error::Tensor {
            name: NAME.to_string(),
            expected: vec![half],
            found: format!("{:?} in {}", tensor.dimensions, names::type_name(tensor.kind)),
        });
    }
    let file = files.get(tensor.part).map_or("", String::as_str);
    let bytes = source.read(file, tensor.offset..tensor.offset + half as u64 * 4).await?;
    let mut factors = vec![0.0; half];
    dequantize(Encoding::F32, &bytes, &mut factors)?;
    if factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) {
        Ok(Some(factors))
    } else {
        Err(Error::format(file, format!("{NAME} holds a divisor that is not a positive number")))
    }
}

#[cfg(test)]
mod tests;
