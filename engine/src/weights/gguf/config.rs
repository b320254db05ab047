//! The model configuration in a GGUF header (keys: llama.cpp `gguf-py/gguf/constants.py`).

use super::header::{Array, Header, Number, Value};
use crate::config::{Architecture, Head, HeadSpec, RopeScaling};
use crate::{Error, ModelConfig, Result};

/// Reads the configuration, with a sentence about each value that it leaves out and that cannot be inferred; `rope_factors` are
/// left for the caller, who can read tensors.
pub(super) fn config(file: &str, header: &Header) -> Result<(ModelConfig, Vec<String>)> {
    let keys = Keys { file, header };
    let architecture = keys.text("general.architecture")?.unwrap_or_default();
    if architecture != "llama" {
        return Err(Error::Unsupported(format!(
            "{file}: this model is of architecture \"{architecture}\"; Paddock runs the LLaMA architecture (\"llama\")"
        )));
    }
    if keys.size("llama.expert_count")?.unwrap_or(0) > 0 {
        return Err(Error::Unsupported(format!("{file}: a mixture of experts; Paddock runs plain LLaMA models")));
    }
    let hidden_size = keys.required("llama.embedding_length")?;
    let num_attention_heads = keys.required("llama.attention.head_count")?;
    let head_dim = match keys.size("llama.attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
    };
    for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
        if let Some(other) = keys.size(key)?.filter(|other| *other != head_dim) {
            return Err(Error::Unsupported(format!(
                "{file}: \"{key}\" is {other}; Paddock needs it equal to the head width, {head_dim}"
            )));
        }
    }
    let vocab_size = match keys.size("llama.vocab_size")? {
        Some(size) => size,
        None => keys.tokens().len(),
    };
    let has = |name: &str| header.tensors.contains_key(name);
    let mut notes = Vec::new();
    // Files of llama.cpp always have them.
    let mut guessed = |key: &str, value: String, otherwise: &str| {
        notes.push(format!("{file} has no \"{key}\"; {value} is taken, and {otherwise}"));
    };
    let max_position_embeddings = keys.size("llama.context_length")?.unwrap_or_else(|| {
        guessed("llama.context_length", LONGEST.to_string(), "a model that was made for more reads no more");
        LONGEST
    });
    let rms_norm_eps = keys.number("llama.attention.layer_norm_rms_epsilon")?.unwrap_or_else(|| {
        let otherwise =
            "answers suffer if the model was trained with another; convert it again with a current llama.cpp";
        guessed("llama.attention.layer_norm_rms_epsilon", format!("{EPSILON:e}"), otherwise);
        EPSILON
    });
    let model = ModelConfig {
        architecture: Architecture::Llama,
        hidden_size,
        intermediate_size: keys.required("llama.feed_forward_length")?,
        num_hidden_layers: keys.required("llama.block_count")?,
        num_attention_heads,
        num_key_value_heads: keys.size("llama.attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim,
        vocab_size,
        max_position_embeddings,
        rms_norm_eps,
        rope_theta: keys.number("llama.rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: rope_scaling(&keys)?,
        rope_factors: None,
        attention_bias: has("blk.0.attn_q.bias"),
        attention_output_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_gate.bias"),
        head: if has("cls.output.weight") {
            Head::Score(HeadSpec::classifier())
        } else if has("output.weight") {
            Head::Untied
        } else {
            Head::Tied
        },
        bos_token_id: keys.token_id("tokenizer.ggml.bos_token_id")?,
        eos_token_ids: end_of_generation(&keys)?,
    };
    model.validate(file)?;
    Ok((model, notes))
}

/// LLaMA 1's context, the shortest of any.
const LONGEST: usize = 2048;
/// LLaMA 2's and 3's.
const EPSILON: f32 = 1e-5;

fn rope_scaling(keys: &Keys) -> Result<RopeScaling> {
    let file = keys.file;
    let factor = match keys.number("llama.rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.number("llama.rope.scale_linear")?,
    };
    // Zero stands for "not scaled", and a factor without a type for linear, in files of all ages.
    match (keys.text("llama.rope.scaling.type")?.unwrap_or("linear"), factor.filter(|factor| *factor != 0.0)) {
        ("none", _) | ("linear", None) => Ok(RopeScaling::Default),
        ("linear", Some(factor)) if factor > 0.0 && factor.is_finite() => Ok(RopeScaling::Linear { factor }),
        ("linear", Some(factor)) => Err(Error::format(file, format!("rope scaling factor {factor} is not positive"))),
        (other, _) => Err(Error::Unsupported(format!(
            "{file}: rope scaling \"{other}\" is not supported; known are none, linear and a rope_freqs tensor"
        ))),
    }
}

/// The ids named in the header, then those whose text says that an answer is over.
fn end_of_generation(keys: &Keys) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for key in ["eos", "eot", "eom"] {
        ids.extend(keys.token_id(&format!("tokenizer.ggml.{key}_token_id"))?);
    }
    ids.extend(crate::tokenizer::end_of_generation(keys.tokens()));
    let mut unique = Vec::new();
    for id in ids {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    Ok(unique)
}

/// Typed access to metadata; a key of the wrong type is an error, an absent one is `None`.
struct Keys<'a> {
    file: &'a str,
    header: &'a Header,
}

impl<'a> Keys<'a> {
    fn wrong<T>(&self, key: &str, expected: &str, found: &Value) -> Result<T> {
        let found = match found {
            Value::Array(_) => "a list".to_string(),
            other => format!("{other:?}"),
        };
        Err(Error::format(self.file, format!("\"{key}\": expected {expected}, found {found}")))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.header.metadata.get(key)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, "text", other),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(Number::Unsigned(n))) if usize::try_from(*n).is_ok() => Ok(Some(*n as usize)),
            Some(other) => self.wrong(key, "one whole number", other),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| Error::format(self.file, format!("\"{key}\" is missing from its header")))
    }

    fn number(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(Number::Float(value))) => Ok(Some(*value as f32)),
            Some(Value::Number(Number::Unsigned(value))) => Ok(Some(*value as f32)),
            Some(other) => self.wrong(key, "a number", other),
        }
    }

    fn token_id(&self, key: &str) -> Result<Option<u32>> {
        match self.get(key) {
            None => Ok(None),
            // Converters write 2^32 - 1 (or -1) for "none".
            Some(Value::Number(Number::Signed(_))) => Ok(None),
            Some(Value::Number(Number::Unsigned(id))) => {
                let tokens = self.tokens().len();
                let inside = |id: &u32| *id != u32::MAX && (tokens == 0 || (*id as usize) < tokens);
                Ok(u32::try_from(*id).ok().filter(inside))
            }
            Some(other) => self.wrong(key, "a token id", other),
        }
    }

    fn tokens(&self) -> &'a [String] {
        match self.get("tokenizer.ggml.tokens") {
            Some(Value::Array(Array::Texts(tokens))) => tokens,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: Value) -> Header {
        let tokens = Value::Array(Array::Texts(vec!["a".to_string(); 3]));
        let metadata = [(key.to_string(), value), ("tokenizer.ggml.tokens".to_string(), tokens)].into();
        Header { metadata, ..Header::default() }
    }

    #[test]
    fn a_token_id_lies_within_the_vocabulary() {
        for (id, read) in [(2, Some(2)), (3, None), (7, None), (u64::from(u32::MAX), None), (1 << 32, None)] {
            let header = header("id", Value::Number(Number::Unsigned(id)));
            assert_eq!(Keys { file: "m", header: &header }.token_id("id").unwrap(), read, "{id}");
        }
    }

    #[test]
    fn a_rope_factor_is_a_positive_number() {
        let read = |factor: f64| {
            let header = header("llama.rope.scaling.factor", Value::Number(Number::Float(factor)));
            rope_scaling(&Keys { file: "m", header: &header })
        };
        assert_eq!(read(2.0).unwrap(), RopeScaling::Linear { factor: 2.0 });
        assert_eq!(read(0.0).unwrap(), RopeScaling::Default);
        for factor in [-2.0, f64::INFINITY, f64::NAN] {
            assert!(read(factor).is_err(), "{factor}");
        }
    }
}
