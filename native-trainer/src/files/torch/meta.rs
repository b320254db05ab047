//! Meta's own files of LLaMA 1 and 2: `params.json` and `consolidated.NN.pth`, one for each GPU that it was split over
//! (facebookresearch/llama `llama/model.py`; transformers `convert_llama_weights_to_hf.py`).

use std::collections::HashMap;

use paddock_engine::weights::Source;
use paddock_engine::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::joined::{Join, Joined};
use super::{TorchTensor, read_tensors};

const PARAMS: &str = "params.json";
const PARAMS_LIMIT: u64 = 1 << 20;
/// `ModelArgs.norm_eps` in Meta's own code, for files without one.
const NORM_EPS: f64 = 1e-5;
const MAX_SHARDS: usize = 8;

/// `params.json`.
#[derive(Deserialize)]
struct Params {
    dim: u64,
    n_layers: u64,
    n_heads: u64,
    n_kv_heads: Option<u64>,
    norm_eps: Option<f64>,
    vocab_size: Option<i64>,
    rope_theta: Option<f64>,
    #[serde(default)]
    use_scaled_rope: bool,
}

/// What Meta's files leave to their reader. As in llama.cpp's and transformers' converters, the generation follows from the
/// base of the rotary frequencies and from the epsilon of the norms. `max_seq_len`, where it is there, is what somebody once
/// ran the model with.
struct Generation {
    context: u64,
    bos: u32,
    eos: &'static [u32],
}

fn generation(rope_theta: f64, norm_eps: f64) -> Generation {
    match (rope_theta, norm_eps) {
        // Llama 3: <|begin_of_text|>, <|end_of_text|> and <|eot_id|>.
        (500_000.0, _) => Generation { context: 8192, bos: 128_000, eos: &[128_001, 128_009] },
        // Code Llama.
        (1_000_000.0, _) => Generation { context: 16_384, bos: 1, eos: &[2] },
        // Llama 2.
        (_, 1e-5) => Generation { context: 4096, bos: 1, eos: &[2] },
        _ => Generation { context: 2048, bos: 1, eos: &[2] },
    }
}

/// The name of shard `index`, from 0.
pub(super) fn shard_name(index: usize) -> String {
    format!("consolidated.{index:02}.pth")
}

/// Whether `name` is that of a shard.
pub(super) fn is_shard(name: &str) -> bool {
    name.starts_with("consolidated.") && name.ends_with(".pth")
}

/// A `config.json` for the model, and its tensors by Hugging Face's names.
pub(super) async fn open<S: Source>(source: &S) -> Result<(Value, Vec<Joined>)> {
    let bytes = source.read_all(PARAMS, PARAMS_LIMIT).await?.ok_or_else(|| Error::Missing {
        file: PARAMS.to_string(),
        hint: "Meta's folder holds it beside consolidated.00.pth; copy it there".to_string(),
    })?;
    let params: Params = serde_json::from_slice(&bytes).map_err(|error| Error::format(PARAMS, error.to_string()))?;
    if params.use_scaled_rope {
        return Err(Error::Unsupported(format!(
            "{PARAMS}: this is Llama 3.1 or later; use its folder in Hugging Face's format instead"
        )));
    }
    let (heads, kv_heads) = (params.n_heads, params.n_kv_heads.unwrap_or(params.n_heads));
    let head_dim = params.dim.checked_div(heads).filter(|head| *head > 0 && params.n_layers <= 4096 && kv_heads > 0);
    let head_dim = head_dim.ok_or_else(|| Error::format(PARAMS, "\"dim\", \"n_heads\" or \"n_layers\" is absurd"))?;
    let mut shards = Vec::new();
    while let Some(name) = Some(shard_name(shards.len())).filter(|_| shards.len() <= MAX_SHARDS) {
        if source.size(&name).await?.is_none() {
            break;
        }
        let tensors = read_tensors(source, &name).await?;
        shards.push((name, tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()));
    }
    check_shards(source, &shards, params.dim)?;
    let mut model = Model { shards, tensors: Vec::new(), dim: params.dim };
    let [vocab_size, _] = model.take("tok_embeddings.weight", "model.embed_tokens.weight", Wide::Dim, None)?;
    let mut intermediate_size = 0;
    for layer in 0..params.n_layers {
        let name = |meta: &str, own: &str| {
            (format!("layers.{layer}.{meta}.weight"), format!("model.layers.{layer}.{own}.weight"))
        };
        for (meta, own, wide, heads) in LAYER {
            let (meta, own) = name(meta, own);
            let [rows, _] = model.take(&meta, &own, wide, heads.then_some(head_dim))?;
            if own.ends_with("gate_proj.weight") {
                intermediate_size = rows;
            }
        }
    }
    model.take("norm.weight", "model.norm.weight", Wide::Vector, None)?;
    model.take("output.weight", "lm_head.weight", Wide::Dim, None)?;
    model.refuse_others()?;
    if params.vocab_size.is_some_and(|size| size > 0 && size.cast_unsigned() != vocab_size) {
        return Err(Error::format(
            PARAMS,
            format!("\"vocab_size\" is {:?}, but the embedding has {vocab_size} rows", params.vocab_size),
        ));
    }
    let (rope_theta, norm_eps) = (params.rope_theta.unwrap_or(10_000.0), params.norm_eps.unwrap_or(NORM_EPS));
    let generation = generation(rope_theta, norm_eps);
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": params.dim,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": params.n_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab_size,
        "max_position_embeddings": generation.context,
        "rms_norm_eps": norm_eps,
        "rope_theta": rope_theta,
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": generation.bos,
        "eos_token_id": generation.eos,
    });
    Ok((config, model.tensors))
}

type Shard = (String, HashMap<String, TorchTensor>);

/// Counts the shards, which are numbered without gaps; no published model has more than eight. Each holds its share of the
/// rows of the first q, of which all shards together have `dim`.
fn check_shards<S: Source>(source: &S, shards: &[Shard], dim: u64) -> Result<()> {
    if shards.len() > MAX_SHARDS {
        return Err(Error::Unsupported(format!(
            "more than {MAX_SHARDS} consolidated.*.pth files; no published LLaMA is split that way"
        )));
    }
    let listed = source.list();
    if let Some(other) = listed.iter().find(|name| is_shard(name) && shards.iter().all(|(shard, _)| shard != *name)) {
        return Err(Error::Missing {
            file: shard_name(shards.len()),
            hint: format!("{other} is there, so a shard is missing; download the model again"),
        });
    }
    let query = shards.first().and_then(|(_, tensors)| tensors.get("layers.0.attention.wq.weight"));
    match query.map(|query| query.shape.as_slice()) {
        Some(&[rows, columns]) if columns == dim && rows > 0 && rows * (shards.len() as u64) < dim => {
            Err(Error::Missing {
                file: shard_name(shards.len()),
                hint: format!("the model is split over {} files; download the others, too", dim / rows),
            })
        }
        _ => Ok(()),
    }
}

/// How a tensor was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    /// A whole row has `dim` columns.
    Dim,
    /// A whole column has `dim` rows.
    Tall,
    /// Not split.
    Vector,
}

/// Meta's and Hugging Face's names in a layer, how the tensor was split, and whether its rows are rotary.
const LAYER: [(&str, &str, Wide, bool); 9] = [
    ("attention_norm", "input_layernorm", Wide::Vector, false),
    ("attention.wq", "self_attn.q_proj", Wide::Dim, true),
    ("attention.wk", "self_attn.k_proj", Wide::Dim, true),
    ("attention.wv", "self_attn.v_proj", Wide::Dim, false),
    ("attention.wo", "self_attn.o_proj", Wide::Tall, false),
    ("ffn_norm", "post_attention_layernorm", Wide::Vector, false),
    ("feed_forward.w1", "mlp.gate_proj", Wide::Dim, false),
    ("feed_forward.w3", "mlp.up_proj", Wide::Dim, false),
    ("feed_forward.w2", "mlp.down_proj", Wide::Tall, false),
];

struct Model {
    shards: Vec<Shard>,
    tensors: Vec<Joined>,
    dim: u64,
}

impl Model {
    /// Joins the parts of `meta` as the tensor `own` and returns its rows and columns.
    fn take(&mut self, meta: &str, own: &str, wide: Wide, interleaved_heads: Option<u64>) -> Result<[u64; 2]> {
        let mut parts = Vec::with_capacity(self.shards.len());
        for (file, tensors) in &mut self.shards {
            let part = tensors.remove(meta).ok_or_else(|| {
                Error::format(&*file, format!("it lacks the tensor {meta}; the download is incomplete"))
            })?;
            parts.push((file.clone(), part));
        }
        let shape = parts.first().map(|(_, part)| (part.dtype, part.shape.clone())).unwrap_or_default();
        if let Some((file, other)) = parts.iter().find(|(_, part)| (part.dtype, &part.shape) != (shape.0, &shape.1)) {
            let problem = format!(
                "{meta} is {:?} here and {:?} in the first shard; they are of different models",
                other.shape, shape.1
            );
            return Err(Error::format(file, problem));
        }
        let (dim, count) = (self.dim, parts.len() as u64);
        let (join, size) = match (wide, shape.1.as_slice()) {
            (Wide::Vector, &[size]) if size == dim => {
                parts.truncate(1);
                (Join::Rows, [1, size])
            }
            (Wide::Dim, &[rows, columns]) if columns == dim => (Join::Rows, [rows * count, columns]),
            // Embeddings of LLaMA 1 and 2.
            (Wide::Dim, &[rows, columns]) if columns.checked_mul(count) == Some(dim) => (Join::Columns, [rows, dim]),
            (Wide::Tall, &[rows, columns]) if rows == dim => (Join::Columns, [rows, columns * count]),
            (_, shape) => {
                let problem =
                    format!("{meta} has the shape {shape:?}; expected one of a model {dim} wide in {count} shards");
                return Err(Error::format(parts.first().map_or(PARAMS, |(file, _)| file), problem));
            }
        };
        if let Some(head) = interleaved_heads.filter(|head| !size[0].is_multiple_of(*head) || !head.is_multiple_of(2)) {
            return Err(Error::format(PARAMS, format!("{meta} has {} rows, which are not heads of {head}", size[0])));
        }
        self.tensors.push(Joined { name: own.to_string(), join, parts, interleaved_heads });
        Ok(size)
    }

    /// Checks that every tensor has been taken, except tables that are computed.
    fn refuse_others(&self) -> Result<()> {
        for (file, tensors) in &self.shards {
            if let Some(name) = tensors.keys().filter(|name| !name.ends_with("rope.freqs")).min() {
                return Err(Error::format(
                    file,
                    format!("it holds {name}, which is no tensor of this LLaMA; is params.json its own?"),
                ));
            }
        }
        Ok(())
    }
}
