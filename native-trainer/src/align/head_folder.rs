//! A head alone on disk: a folder like those of Safe-RLHF's score models, without the trunk.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::ModelConfig;
use paddock_engine::config::{Architecture, TrunkReference};
use serde_json::{Value, json};

use super::reward_head::TrainedHead;
use crate::files::{Dtype, TensorSpec, write_safetensors};
use crate::{Error, Result};

impl TrainedHead {
    /// Writes `config.json` and `model.safetensors` into `folder`. `config` is the trunk's, which `trunk` names.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path, config: &ModelConfig, trunk: &TrunkReference) -> Result<()> {
        let path = folder.join("model.safetensors");
        let mut file = BufWriter::new(File::create_new(&path).map_err(Error::path("create", &path))?);
        let entry = |name: &str, shape: &[usize]| TensorSpec {
            name: name.to_string(),
            shape: shape.to_vec(),
            dtype: Dtype::F32,
        };
        let entries = [
            entry("score_head.weight", &[1, self.weight.len()]),
            entry("score_head.bias", &[1]),
            entry("normalizer.mean", &[1]),
            entry("normalizer.var", &[1]),
        ];
        let values = [self.weight.clone(), vec![self.bias], vec![self.mean], vec![self.var]];
        write_safetensors(&mut file, &entries, |index| Ok(values[index].clone()))?;
        file.flush().map_err(Error::path("write", &path))?;
        let path = folder.join("config.json");
        fs::write(&path, format!("{:#}\n", self.config(config, trunk))).map_err(Error::path("write", &path))
    }

    fn config(&self, config: &ModelConfig, trunk: &TrunkReference) -> Value {
        let (architecture, model_type, intermediate_size) = match config.architecture {
            Architecture::Llama => ("LlamaForScore", "llama", "intermediate_size"),
            Architecture::Opt => ("OPTForScore", "opt", "ffn_dim"),
        };
        json!({
            "architectures": [architecture],
            "model_type": model_type,
            "hidden_size": config.hidden_size,
            intermediate_size: config.intermediate_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_position_embeddings,
            "score_dim": 1,
            "score_bias": true,
            "score_type": "reward",
            "do_normalize": true,
            "normalizer_type": "RunningMeanStd",
            "mean": [self.mean],
            "var": [self.var],
            "trunk": trunk,
        })
    }
}
