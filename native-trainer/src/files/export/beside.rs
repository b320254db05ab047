//! The files beside the weights of an exported folder: configuration and tokenizer.

use paddock_engine::Error as EngineError;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::{Checkpoint, Encoding, Source};
use serde_json::{Value, json};

use super::super::{ModelSource, config_json::config_json};
use crate::{Error, Result};

/// Size limit, larger than any published file of these kinds.
const LIMIT: u64 = 128 << 20;
pub const TOKENIZER: &str = "tokenizer.json";
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// How a model answers by default: where it stops, how it samples.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Files that are copied unchanged, along with [`TOKENIZER`].
const KEPT: [&str; 6] = [
    GENERATION_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    TOKENIZER_CONFIG,
];

/// The files of a folder other than its weights.
#[derive(Debug)]
pub struct Beside {
    /// By name; `config.json` comes last.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is missing, as a note for the user.
    pub note: Option<String>,
}

/// The files to write beside weights that are mostly stored as `encoding`. Configuration and tokenizer come from the model
/// in `source`, which `checkpoint` has opened.
///
/// # Errors
/// When the model cannot be described in Hugging Face's terms, or its tokenizer is damaged.
pub fn beside(source: &ModelSource, checkpoint: &mut Checkpoint<ModelSource>, encoding: Encoding) -> Result<Beside> {
    let own = match pollster::block_on(source.read_all("config.json", LIMIT))? {
        Some(bytes) => Some(
            paddock_engine::json::parse(&bytes)
                .map_err(|error| EngineError::format("config.json", format!("it is not valid JSON: {error}")))?,
        ),
        None => None,
    };
    let mut config = config_json(own, checkpoint.config())?;
    config["vocab_size"] = checkpoint.config().vocab_size.into();
    let mut files = kept_files(source)?;
    let mut note = None;
    if !files.iter().any(|(name, _)| name == TOKENIZER) {
        match pollster::block_on(checkpoint.tokenizer_files()) {
            Ok(found) => {
                describe_tokenizer(&mut files, &Tokenizer::from_files(&found)?)?;
            }
            Err(EngineError::Missing { .. }) => {
                note =
                    Some("the model comes without a tokenizer; copy its tokenizer.model beside it to chat".to_string());
            }
            Err(error) => return Err(Error::Engine(error)),
        }
    }
    files.push(config_file(config, encoding));
    Ok(Beside { files, note })
}

/// Puts a `tokenizer.json` among the `files` of a model that came without one, and says so in its `tokenizer_config.json`,
/// which keeps what else it says: the padding token and side, the longest text, ….
///
/// # Errors
/// When the vocabulary cannot be written as JSON.
pub fn describe_tokenizer(files: &mut Vec<(String, Vec<u8>)>, tokenizer: &Tokenizer) -> Result<()> {
    // These are for the classes that read tokenizer.model.
    const OF_OTHER_CLASSES: [&str; 4] = ["legacy", "sp_model_kwargs", "use_default_system_prompt", "use_fast"];
    let own = files.iter().position(|(name, _)| name == TOKENIZER_CONFIG).map(|at| files.remove(at).1);
    let mut config: Value = own.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| json!({}));
    if let (Some(config), Value::Object(ours)) = (config.as_object_mut(), tokenizer.to_config()) {
        config.retain(|key, _| !OF_OTHER_CLASSES.contains(&key.as_str()));
        config.extend(ours);
    }
    files.push((TOKENIZER.to_string(), tokenizer.to_json()?.into_bytes()));
    files.push((TOKENIZER_CONFIG.to_string(), format!("{config:#}\n").into_bytes()));
    Ok(())
}

/// The files in `source` that are copied unchanged: tokenizer, template, generation settings.
///
/// # Errors
/// When they cannot be read.
pub fn kept_files(source: &impl Source) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for name in KEPT.into_iter().chain([TOKENIZER]) {
        let bytes = pollster::block_on(source.read_all(name, LIMIT))?;
        files.extend(bytes.map(|bytes| (name.to_string(), bytes)));
    }
    Ok(files)
}

/// `config.json` of a model that is stored mostly as `encoding`.
pub fn config_file(mut config: Value, encoding: Encoding) -> (String, Vec<u8>) {
    let dtype = match encoding {
        Encoding::F16 => "float16",
        Encoding::BF16 => "bfloat16",
        _ => "float32",
    };
    // Transformers 5 reads the first, transformers 4 the second.
    config["dtype"] = dtype.into();
    config["torch_dtype"] = dtype.into();
    ("config.json".to_string(), format!("{config:#}\n").into_bytes())
}
