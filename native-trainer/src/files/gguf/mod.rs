//! Models as GGUF files for llama.cpp, with the keys and the order of rows of its converter (`convert_hf_to_gguf.py`).

mod header;
mod vocabulary;

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use header::{Header, Meta};
use paddock_engine::ModelConfig;
use paddock_engine::config::{Architecture, Head, LM_HEAD, RopeScaling};
use paddock_engine::model::LoadProgress;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::gguf::gguf_name;
use paddock_engine::weights::{Checkpoint, Encoding, Source, TensorInfo, recode};

use super::{AtomicFile, Written, open_model};
use crate::{Error, Result};

/// Most bytes of a tensor that are in memory at a time, in f32.
const CHUNK_BYTES: usize = 8 << 20;

/// How the matrices of a GGUF file are stored. Vectors are always F32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GgufType {
    /// As the model has them.
    #[default]
    Keep,
    /// All in this encoding; the table that gives the logits is Q8_0 where the others are Q4_0.
    To(Encoding),
}

impl GgufType {
    /// How a tensor is stored, and whether that is what was asked for: rows that are no whole blocks stay F16.
    fn encoding(self, info: &TensorInfo, config: &ModelConfig) -> (Encoding, bool) {
        let gives_logits = match config.head {
            Head::Tied => info.name == config.embedding(),
            Head::Untied | Head::Score(_) => info.name == LM_HEAD,
        };
        let wanted = match self {
            _ if info.shape[0] == 1 => Encoding::F32,
            Self::Keep => info.encoding,
            Self::To(Encoding::Q4_0) if gives_logits => Encoding::Q8_0,
            Self::To(encoding) => encoding,
        };
        let fits = wanted.row_bytes(info.shape[1]).is_some();
        (if fits { wanted } else { Encoding::F16 }, fits)
    }

    /// `general.file_type` (llama.cpp `llama_ftype`).
    fn file_type(self, mostly: Encoding) -> u32 {
        match mostly {
            Encoding::F32 => 0,
            Encoding::F16 => 1,
            Encoding::Q4_0 => 2,
            Encoding::Q4_1 => 3,
            Encoding::Q8_0 => 7,
            Encoding::Q5_0 => 8,
            Encoding::Q5_1 => 9,
            Encoding::Q4_K => 15,
            Encoding::Q5_K => 17,
            Encoding::Q6_K => 18,
            Encoding::BF16 => 32,
        }
    }
}

impl FromStr for GgufType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "keep" => Self::Keep,
            "f32" => Self::To(Encoding::F32),
            "f16" => Self::To(Encoding::F16),
            "bf16" => Self::To(Encoding::BF16),
            "q8_0" => Self::To(Encoding::Q8_0),
            "q4_0" => Self::To(Encoding::Q4_0),
            _ => return Err("expected keep, f32, f16, bf16, q8_0 or q4_0".to_string()),
        })
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => formatter.write_str("keep"),
            Self::To(encoding) => write!(formatter, "{}", format!("{encoding:?}").to_ascii_lowercase()),
        }
    }
}

/// Writes the model at `from` as the GGUF file `output`, under the name `name`.
///
/// # Errors
/// When the model is damaged or is none that llama.cpp runs as LLaMA, `output` exists, or the disk refuses.
pub fn convert_to_gguf(
    from: &Path,
    output: &Path,
    name: &str,
    kind: GgufType,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Written> {
    if output.exists() {
        return Err(Error::Request(format!("{} is there already; name another output", output.display())));
    }
    pollster::block_on(async {
        let mut checkpoint = open_model(from, None)?;
        let config = checkpoint.config().clone();
        let mut notes = checkpoint.notes().to_vec();
        let tokenizer = match checkpoint.tokenizer_files().await {
            Ok(files) => Some(Tokenizer::from_files(&files)?),
            Err(paddock_engine::Error::Missing { .. }) => {
                notes.push("the model comes without a tokenizer, so the file cannot read or write texts".to_string());
                None
            }
            Err(error) => return Err(Error::Engine(error)),
        };
        let mut tensors = Vec::new();
        for info in checkpoint.tensors() {
            let (encoding, as_asked) = kind.encoding(info, &config);
            if !as_asked {
                notes.push(format!("{} stays F16: its {} columns are no whole blocks", info.name, info.shape[1]));
            }
            tensors.push(TensorInfo { encoding, ..info.clone() });
        }
        let mut header = describe(&config, name, kind.file_type(mostly(&tensors)))?;
        match &tokenizer {
            Some(tokenizer) => vocabulary::describe(tokenizer, &config, &mut header)?,
            None => header.set("tokenizer.ggml.model", Meta::Text("no_vocab".to_string())),
        }
        let factors = rope_factors(&config);
        for info in &tensors {
            let own = gguf_name(&info.name);
            let own = own.ok_or_else(|| Error::Request(format!("GGUF files of LLaMA have no tensor {}", info.name)))?;
            header.tensor(&own, info.shape, info.encoding, info.bytes()?);
        }
        if let Some(factors) = &factors {
            header.tensor("rope_freqs.weight", [1, factors.len()], Encoding::F32, 4 * factors.len() as u64);
        }
        let mut file = std::io::BufWriter::new(AtomicFile::create(output)?);
        file.write_all(&header.bytes())?;
        let total = tensors.iter().map(|info| info.bytes().unwrap_or(0)).sum();
        let mut written = 0;
        for info in &tensors {
            let mut update = |bytes: usize| {
                written += bytes as u64;
                progress(LoadProgress { bytes: written, total });
            };
            write_tensor(&mut checkpoint, info, config.head_dim, &mut file, &mut update).await?;
        }
        for factor in factors.iter().flatten() {
            file.write_all(&factor.to_le_bytes())?;
        }
        checkpoint.finish().await?;
        file.into_inner().map_err(|error| Error::Output(error.into_error()))?.commit()?;
        Ok(Written { bytes: total, notes })
    })
}

/// Writes one tensor and its padding. The rows of each head of q and k are interleaved, as llama.cpp rotates them.
async fn write_tensor<S: Source>(
    checkpoint: &mut Checkpoint<S>,
    info: &TensorInfo,
    head_dim: usize,
    file: &mut impl Write,
    update: &mut impl FnMut(usize),
) -> Result<()> {
    let [rows, columns] = info.shape;
    let stored = checkpoint.tensor(&info.name).map_or(info.encoding, |info| info.encoding);
    let rotary = info.name.contains(".q_proj.") || info.name.contains(".k_proj.");
    // Whole heads at a time.
    let unit = if rotary && rows > 1 { head_dim } else { 1 };
    let step = (CHUNK_BYTES / (4 * columns) / unit).max(1) * unit;
    let mut length = 0;
    for first in (0..rows).step_by(step) {
        let bytes = checkpoint.read_rows(&info.name, first..rows.min(first + step)).await?;
        let bytes =
            recode(bytes, stored, info.encoding).map_err(|error| Error::Request(format!("{}: {error}", info.name)))?;
        let bytes = match (rotary, rows) {
            (false, _) => bytes,
            (true, 1) => interleaved(&bytes, info.encoding.block_bytes(), head_dim),
            (true, _) => interleaved(&bytes, info.row_bytes()?, head_dim),
        };
        file.write_all(&bytes)?;
        update(bytes.len());
        length += bytes.len();
    }
    file.write_all(&vec![0; length.next_multiple_of(header::ALIGNMENT) - length])?;
    Ok(())
}

/// The rows of whole heads in llama.cpp's order: of a head's rows, number `i` of the first half before number `i` of the
/// second (`LlamaModel.permute`).
fn interleaved(rows: &[u8], row_bytes: usize, head_dim: usize) -> Vec<u8> {
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks(row_bytes * head_dim) {
        for row in 0..head_dim {
            let from = (row % 2 * half + row / 2) * row_bytes;
            out.extend_from_slice(head.get(from..from + row_bytes).unwrap_or_default());
        }
    }
    out
}

/// The encoding of most numbers.
fn mostly(tensors: &[TensorInfo]) -> Encoding {
    let numbers = |encoding: Encoding| -> usize {
        tensors.iter().filter(|info| info.encoding == encoding).map(|info| info.shape[0] * info.shape[1]).sum()
    };
    tensors.iter().map(|info| info.encoding).max_by_key(|encoding| numbers(*encoding)).unwrap_or(Encoding::F32)
}

/// The keys that describe the model.
fn describe(config: &ModelConfig, name: &str, file_type: u32) -> Result<Header> {
    if config.architecture != Architecture::Llama {
        return Err(Error::Request(
            "llama.cpp runs no OPT; only LLaMA's architecture can be written as GGUF".to_string(),
        ));
    }
    if config.score_head().is_some() {
        return Err(Error::Request("a score model cannot be written as GGUF; keep its folder".to_string()));
    }
    let mut header = Header::default();
    header.set("general.architecture", Meta::Text("llama".to_string()));
    header.set("general.name", Meta::Text(name.to_string()));
    header.set("general.file_type", Meta::U32(file_type));
    header.set("general.quantization_version", Meta::U32(2));
    for (key, size) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ] {
        header.set(&format!("llama.{key}"), Meta::U32(u32::try_from(size).unwrap_or(u32::MAX)));
    }
    header.set("llama.attention.layer_norm_rms_epsilon", Meta::F32(config.rms_norm_eps));
    header.set("llama.rope.freq_base", Meta::F32(config.rope_theta));
    if let (RopeScaling::Linear { factor }, None) = (config.rope_scaling, &config.rope_factors) {
        header.set("llama.rope.scaling.type", Meta::Text("linear".to_string()));
        header.set("llama.rope.scaling.factor", Meta::F32(factor));
    }
    Ok(header)
}

/// The divisors of the rotary frequencies, which llama.cpp reads as a tensor.
fn rope_factors(config: &ModelConfig) -> Option<Vec<f32>> {
    if config.rope_factors.is_some() || !matches!(config.rope_scaling, RopeScaling::Llama3 { .. }) {
        return config.rope_factors.clone();
    }
    let plain = ModelConfig { rope_scaling: RopeScaling::Default, ..config.clone() }.inverse_frequencies();
    Some(plain.iter().zip(config.inverse_frequencies()).map(|(plain, scaled)| plain / scaled).collect())
}

#[cfg(test)]
mod tests {
    use paddock_engine::weights::half_split;

    use super::*;

    #[test]
    fn rows_are_interleaved_as_they_are_split_again() {
        let rows: Vec<u8> = (0..48).collect();
        let there = interleaved(&rows, 3, 8);
        assert_eq!(there[..9], [0, 1, 2, 12, 13, 14, 3, 4, 5]);
        assert_eq!(half_split(&there, 3, 8, 0..16), rows);
    }

    #[test]
    fn types_have_names() {
        for name in ["keep", "f32", "f16", "bf16", "q8_0", "q4_0"] {
            assert_eq!(name.parse::<GgufType>().unwrap().to_string(), name);
        }
        assert!("q2_k".parse::<GgufType>().unwrap_err().contains("q8_0"));
    }
}
