//! The special tokens that go before and after every text.

use serde_json::{Value, json};
use tokenizers::processors::PostProcessorWrapper;

use crate::{Error, Result};

/// Ids put before and after a text when special tokens are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Affixes {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

impl Affixes {
    /// BOS before and EOS after, each when its flag is set and the vocabulary has it.
    pub fn from_flags(bos: Option<u32>, add_bos: bool, eos: Option<u32>, add_eos: bool) -> Self {
        Self {
            before: bos.filter(|_| add_bos).into_iter().collect(),
            after: eos.filter(|_| add_eos).into_iter().collect(),
        }
    }

    /// Those of the `post_processor` in a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is of a kind that no LLaMA model uses, or refers to tokens that it does not list.
    pub fn from_json(processor: &Value, file: &str) -> Result<Self> {
        match processor.get("type").and_then(Value::as_str) {
            None | Some("ByteLevel") => Ok(Self::default()),
            Some("Sequence") => {
                let mut all = Self::default();
                for inner in processor.get("processors").and_then(Value::as_array).into_iter().flatten() {
                    let inner = Self::from_json(inner, file)?;
                    all.before.splice(0..0, inner.before);
                    all.after.extend(inner.after);
                }
                Ok(all)
            }
            Some("TemplateProcessing") => Self::from_template(processor, file),
            Some("RobertaProcessing" | "BertProcessing") => {
                let id = |key: &str| {
                    let id = processor.get(key).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
                    id.and_then(|id| u32::try_from(id).ok())
                        .ok_or_else(|| Error::format(file, format!("the post-processor gives no id for its \"{key}\"")))
                };
                Ok(Self { before: vec![id("cls")?], after: vec![id("sep")?] })
            }
            Some(other) => Err(Error::Unsupported(format!(
                "{file}: the post-processor \"{other}\" is not known; known are ByteLevel, TemplateProcessing and RobertaProcessing"
            ))),
        }
    }

    fn from_template(processor: &Value, file: &str) -> Result<Self> {
        let mut affixes = Self::default();
        let mut after = false;
        for piece in processor.get("single").and_then(Value::as_array).into_iter().flatten() {
            if piece.get("Sequence").is_some() {
                after = true;
                continue;
            }
            let name = piece.pointer("/SpecialToken/id").and_then(Value::as_str).unwrap_or_default();
            let ids = processor.get("special_tokens").and_then(|t| t.get(name)).and_then(|t| t.get("ids"));
            let ids: Option<Vec<u32>> = ids
                .and_then(Value::as_array)
                .and_then(|ids| ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect());
            let ids = ids.ok_or_else(|| {
                Error::format(file, format!("the post-processor puts \"{name}\" around a text but gives no id for it"))
            })?;
            if after { affixes.after.extend(ids) } else { affixes.before.extend(ids) }
        }
        Ok(affixes)
    }

    /// As a post-processor of the `tokenizers` crate; none when nothing is added.
    ///
    /// # Errors
    /// When an id is not in the vocabulary of `tokenizer`.
    pub fn processor(&self, tokenizer: &tokenizers::Tokenizer, file: &str) -> Result<Option<PostProcessorWrapper>> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mut special = serde_json::Map::new();
        let mut piece = |id: &u32| -> Result<Value> {
            let token = tokenizer.id_to_token(*id).ok_or_else(|| {
                Error::format(file, format!("token id {id} goes around every text but is not in the vocabulary"))
            })?;
            special.insert(token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }));
            Ok(json!({ "SpecialToken": { "id": token, "type_id": 0 } }))
        };
        let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
        let before = self.before.iter().map(&mut piece).collect::<Result<Vec<_>>>()?;
        let after = self.after.iter().map(&mut piece).collect::<Result<Vec<_>>>()?;
        let single = [before, vec![sequence("A", 0)], after].concat();
        let pair = [single.clone(), vec![sequence("B", 1)]].concat();
        let processor =
            json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special });
        let processor = serde_json::from_value(processor).map_err(|e| Error::format(file, e.to_string()))?;
        Ok(Some(processor))
    }
}
