//! The `config.json` of a folder that is written: the model's own, corrected where its checkpoint was believed instead, or
//! one made from a configuration that came without.

use paddock_engine::ModelConfig;
use paddock_engine::config::{Architecture, Head, HeadSpec, Normalization, RopeScaling, ScoreFamily};
use serde_json::{Value, json};

use super::rope_factors::llama3_scaling;
use crate::{Error, Result};

/// The configuration to write for the model `config`, which came with `own` or without a `config.json`. Transformers reads
/// the folder as Paddock does.
///
/// # Errors
/// When the model cannot be described in Hugging Face's terms.
pub(super) fn config_json(own: Option<Value>, config: &ModelConfig) -> Result<Value> {
    let Some(mut own) = own else { return described(config) };
    match config.head {
        Head::Tied => own["tie_word_embeddings"] = true.into(),
        Head::Untied => own["tie_word_embeddings"] = false.into(),
        Head::Score(ref head) => put_score_class(&mut own, head),
    }
    let biases = |config: &ModelConfig| (config.attention_bias, config.attention_output_bias, config.mlp_bias);
    let read = ModelConfig::from_json(&own, None).ok();
    if config.architecture == Architecture::Llama && read.is_none_or(|read| biases(&read) != biases(config)) {
        set_biases(&mut own, config)?;
    }
    // The weights that are written are plain numbers.
    if let Some(own) = own.as_object_mut() {
        own.remove("quantization_config");
    }
    Ok(own)
}

/// Describes a head that an adapter put in the place of a chat model's.
fn put_score_class(json: &mut Value, head: &HeadSpec) {
    let class = json["architectures"][0].as_str().unwrap_or("LlamaForCausalLM");
    let Some(model) = class.strip_suffix("ForCausalLM") else { return };
    let score = head.family == ScoreFamily::SafeRlhf;
    json["architectures"] = json!([format!("{model}{}", if score { "ForScore" } else { "ForSequenceClassification" })]);
    if head.append_eos {
        json["append_eos"] = true.into();
    }
    if !score {
        json["id2label"] = json!({ "0": "LABEL_0" });
        json["label2id"] = json!({ "LABEL_0": 0 });
        return;
    }
    json["score_dim"] = head.score_dim.into();
    json["score_bias"] = head.bias.into();
    json["score_type"] = match head.normalization {
        Normalization::Affine => "reward",
        Normalization::Scale => "cost",
        Normalization::Identity => "critic",
    }
    .into();
    json["do_normalize"] = head.do_normalize.into();
    json["mean"] = json!(head.mean);
    json["var"] = json!(head.var);
}

/// Describes the biases of `config`. Transformers has one flag for those of q, k, v and o in LLaMA; Qwen 2 has the first
/// three.
fn set_biases(json: &mut Value, config: &ModelConfig) -> Result<()> {
    let (model_type, class) = match (config.attention_bias, config.attention_output_bias, config.mlp_bias) {
        (true, false, false) => ("qwen2", "Qwen2"),
        (first, last, _) if first == last => ("llama", "Llama"),
        _ => {
            let problem = "no Hugging Face model has the biases of this one; it cannot be written as a folder";
            return Err(Error::Request(problem.to_string()));
        }
    };
    let task = match config.head {
        Head::Score(_) => "ForSequenceClassification",
        Head::Tied | Head::Untied => "ForCausalLM",
    };
    json["model_type"] = model_type.into();
    json["architectures"] = json!([format!("{class}{task}")]);
    json["attention_bias"] = config.attention_bias.into();
    json["mlp_bias"] = config.mlp_bias.into();
    Ok(())
}

/// A `config.json` for a model that came without one.
fn described(config: &ModelConfig) -> Result<Value> {
    let unsupported = |what: &str| {
        Err(Error::Request(format!("a model with {what} cannot be written as a Hugging Face folder; train from one")))
    };
    if config.architecture != Architecture::Llama {
        return unsupported("this architecture");
    }
    let scaling = match llama3_scaling(config) {
        Some(scaling) => scaling,
        None => return unsupported("rotary factors that are not Llama 3's"),
    };
    let tied = match config.head {
        Head::Tied => true,
        Head::Untied => false,
        Head::Score(_) => return unsupported("a score head from a GGUF file"),
    };
    let theta = config.rope_theta;
    let (mut rope, scaling) = match scaling {
        RopeScaling::Default => (json!({ "rope_type": "default" }), Value::Null),
        RopeScaling::Linear { factor } => {
            let rope = json!({ "rope_type": "linear", "factor": factor });
            (rope.clone(), rope)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let rope = json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": plain(original_max_position_embeddings),
            });
            (rope.clone(), rope)
        }
    };
    rope["rope_theta"] = theta.into();
    let mut described = json!({
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": tied,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
    });
    set_biases(&mut described, config)?;
    Ok(described)
}

/// A whole number as one.
fn plain(number: f32) -> Value {
    if number.fract() == 0.0 { (number as u64).into() } else { number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(further: &Value) -> ModelConfig {
        let mut json = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 99, "tie_word_embeddings": true,
            "bos_token_id": 1, "eos_token_id": [2, 3], "rms_norm_eps": 1e-5, "rope_theta": 50000.0,
        });
        json.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        ModelConfig::from_json(&json, None).unwrap()
    }

    fn written(config: &ModelConfig) -> ModelConfig {
        let mut json = config_json(None, config).unwrap();
        json["vocab_size"] = config.vocab_size.into();
        ModelConfig::from_json(&json, None).unwrap()
    }

    #[test]
    fn a_described_model_reads_back_as_itself() {
        let scaling = json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 512 } });
        for further in
            [json!({}), scaling, json!({ "model_type": "qwen2" }), json!({ "attention_bias": true, "mlp_bias": true })]
        {
            let config = llama(&further);
            assert_eq!(written(&config), config, "{further}");
        }
    }

    #[test]
    fn what_the_checkpoint_decided_is_written() {
        let mut config = llama(&json!({}));
        config.head = Head::Untied;
        (config.attention_bias, config.attention_output_bias) = (true, false);
        let own = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true,
            "quantization_config": { "quant_method": "gptq" }, "hidden_size": 64, "kept": 7,
        });
        let json = config_json(Some(own), &config).unwrap();
        assert_eq!(json["tie_word_embeddings"], false);
        assert_eq!((&json["model_type"], &json["architectures"][0]), (&json!("qwen2"), &json!("Qwen2ForCausalLM")));
        assert_eq!((&json["kept"], json.get("quantization_config")), (&json!(7), None));
        config.mlp_bias = true;
        assert!(config_json(None, &config).unwrap_err().to_string().contains("biases"));
    }
}
