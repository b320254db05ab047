//! The tokenizer's files of a Hugging Face folder.

use serde_json::Value;

use super::folder::{CONFIG, CONFIG_LIMIT, read_json};
use super::source::Source;
use crate::tokenizer::{Beside, TokenizerFiles};
use crate::{Error, Result};

/// The largest published `tokenizer.json` has 33 MB.
pub(super) const TOKENIZER_LIMIT: u64 = 128 << 20;

/// `tokenizer.json` when there is one, else `tokenizer.model`, else `vocab.json` and `merges.txt`, with what lies beside.
///
/// # Errors
/// When there are none, or they cannot be read.
pub async fn folder_tokenizer_files<S: Source>(source: &S) -> Result<TokenizerFiles> {
    let beside = beside(source).await?;
    if let Some(tokenizer) = source.read_all("tokenizer.json", TOKENIZER_LIMIT).await? {
        return Ok(TokenizerFiles::Json { tokenizer, beside });
    }
    if let Some(model) = source.read_all("tokenizer.model", TOKENIZER_LIMIT).await? {
        return Ok(TokenizerFiles::SentencePiece { model, beside });
    }
    let vocabulary = source.read_all("vocab.json", TOKENIZER_LIMIT).await?;
    let merges = source.read_all("merges.txt", TOKENIZER_LIMIT).await?;
    match (vocabulary, merges) {
        (Some(vocabulary), Some(merges)) => Ok(TokenizerFiles::Gpt2 { vocabulary, merges, beside }),
        (Some(_), None) => Err(Error::Missing {
            file: "merges.txt".to_string(),
            hint: "vocab.json alone does not say how words are cut; copy it, or tokenizer.json, beside the weights"
                .to_string(),
        }),
        (None, _) if source.size("tekken.json").await?.is_some() => Err(Error::Unsupported(
            "the folder has Mistral's own tekken.json, which is not read; put the tokenizer.json of the model's Hugging \
             Face folder beside it"
                .to_string(),
        )),
        (None, _) => Err(Error::Missing {
            file: "tokenizer.json".to_string(),
            hint: "a model folder holds it, or tokenizer.model, or vocab.json with merges.txt; copy it beside the weights"
                .to_string(),
        }),
    }
}

async fn beside<S: Source>(source: &S) -> Result<Beside> {
    const TEMPLATE: &str = "chat_template.jinja";
    let chat_template = match source.read_all(TEMPLATE, CONFIG_LIMIT).await? {
        Some(bytes) => Some(
            String::from_utf8(bytes).map_err(|_| Error::format(TEMPLATE, "it is not UTF-8 text; download it again"))?,
        ),
        None => None,
    };
    let model = read_json(source, CONFIG, CONFIG_LIMIT).await?;
    let model_type = model.as_ref().and_then(|config| config.get("model_type")).and_then(Value::as_str);
    Ok(Beside {
        config: read_json(source, "tokenizer_config.json", CONFIG_LIMIT).await?,
        special_tokens: read_json(source, "special_tokens_map.json", CONFIG_LIMIT).await?,
        added_tokens: read_json(source, "added_tokens.json", CONFIG_LIMIT).await?,
        chat_template,
        model_type: model_type.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::MemorySource;

    #[test]
    fn a_folder_without_a_tokenizer_is_told_what_it_lacks() {
        let refused = |files: &[&str]| {
            let files = files.iter().map(|name| ((*name).to_string(), b"{}".to_vec())).collect();
            pollster::block_on(folder_tokenizer_files(&MemorySource { files })).unwrap_err().to_string()
        };
        assert!(refused(&["tekken.json"]).contains("Mistral's own"));
        assert!(refused(&[]).starts_with("tokenizer.json was not found"));
        assert!(refused(&["vocab.json"]).starts_with("merges.txt was not found"));
    }
}
