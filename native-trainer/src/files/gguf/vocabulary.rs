//! The keys `tokenizer.*` of a GGUF file, from any tokenizer.

use paddock_engine::ModelConfig;
use paddock_engine::tokenizer::{GgufVocabulary, Tokenizer, TokenizerFiles};
use serde::Deserialize;
use serde_json::Value;

use super::header::{Header, Meta};
use crate::{Error, Result};

/// Token types (SentencePiece's, and llama.cpp's).
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The names of splitting rules (`tokenizer.ggml.pre`) that are tried for a byte-level BPE.
const SPLITTINGS: [&str; 8] =
    ["llama-bpe", "gpt-2", "smollm", "qwen2", "tekken", "smaug-bpe", "deepseek-llm", "deepseek-coder"];

/// Texts that the splitting rules cut in different ways.
const PROBES: [&str; 6] = [
    "I'LL pay $12345.67 for  Servers!\n\n  x\ty ",
    "don't we'Re 1234567890 3.14",
    "fooBarBAZ  \r\n\r\n \t  end...\n",
    "Ünïcödé 日本語の文章 한국어 שלום мир 🦙",
    "  leading and trailing   ",
    "a_b-c/d (e) [f] {g} == != <= x2 y10",
];

/// The parts of a `tokenizer.json` that are written.
#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Value>,
}

/// Adds the vocabulary of `tokenizer` to `header`, filled up to the rows of the model's embedding.
///
/// # Errors
/// When GGUF has no words for this tokenizer: it is checked that the file's would cut some texts in the same way.
pub(super) fn describe(tokenizer: &Tokenizer, config: &ModelConfig, header: &mut Header) -> Result<()> {
    let vocabulary = vocabulary(tokenizer, config)?;
    let GgufVocabulary { model, pre, tokens, scores, token_types, merges, .. } = vocabulary;
    header.set("tokenizer.ggml.model", Meta::Text(model));
    if let Some(pre) = pre {
        header.set("tokenizer.ggml.pre", Meta::Text(pre));
    }
    header.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    header.set("tokenizer.ggml.token_type", Meta::Ints(token_types));
    if !scores.is_empty() {
        header.set("tokenizer.ggml.scores", Meta::Floats(scores));
    }
    if !merges.is_empty() {
        header.set("tokenizer.ggml.merges", Meta::Texts(merges));
    }
    let GgufVocabulary { bos, eos, unknown, .. } = vocabulary;
    for (key, id) in [("bos", bos), ("eos", eos), ("unknown", unknown)] {
        if let Some(id) = id {
            header.set(&format!("tokenizer.ggml.{key}_token_id"), Meta::U32(id));
        }
    }
    let GgufVocabulary { add_bos, add_eos, add_space_prefix, chat_template, .. } = vocabulary;
    for (key, flag) in [("add_bos_token", add_bos), ("add_eos_token", add_eos), ("add_space_prefix", add_space_prefix)]
    {
        if let Some(flag) = flag {
            header.set(&format!("tokenizer.ggml.{key}"), Meta::Bool(flag));
        }
    }
    if let Some(template) = chat_template {
        header.set("tokenizer.chat_template", Meta::Text(template));
    }
    Ok(())
}

/// The vocabulary with the first name of splitting rules that cuts as `tokenizer` does.
fn vocabulary(tokenizer: &Tokenizer, config: &ModelConfig) -> Result<GgufVocabulary> {
    let json = tokenizer.to_json()?;
    let json: Json = serde_json::from_str(&json).map_err(|error| Error::Request(format!("the tokenizer: {error}")))?;
    let unsupported = |why: &str| Error::Request(format!("this tokenizer cannot be written as GGUF: {why}"));
    if json.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(unsupported("llama.cpp's LLaMA has BPE vocabularies only"));
    }
    let sentencepiece = json.model.byte_fallback || tokenizer.kind().starts_with("SentencePiece");
    let mut vocabulary = pieces(&json, config.vocab_size, sentencepiece)?;
    let starts = |text: &str, special: bool| tokenizer.encode(text, special);
    let (plain, whole) = (starts("a", false)?, starts("a", true)?);
    vocabulary.bos = tokenizer.bos().or(config.bos_token_id);
    vocabulary.eos = tokenizer.eos().or(config.eos_token_ids.first().copied());
    vocabulary.unknown = json.model.unk_token.as_deref().and_then(|token| tokenizer.token_id(token));
    vocabulary.add_bos = Some(whole.len() > plain.len() && whole.first().copied() == tokenizer.bos());
    vocabulary.add_eos = Some(whole.len() > plain.len() && whole.last().copied() == tokenizer.eos());
    vocabulary.chat_template = tokenizer.chat_template().map(str::to_string);
    let cuts_alike = |vocabulary: &GgufVocabulary| -> Result<bool> {
        let Ok(read) = Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary.clone())) else { return Ok(false) };
        for text in PROBES {
            if read.encode(text, true)? != tokenizer.encode(text, true)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if sentencepiece {
        vocabulary.model = "llama".to_string();
        for prefix in [true, false] {
            vocabulary.add_space_prefix = Some(prefix);
            if cuts_alike(&vocabulary)? {
                return Ok(vocabulary);
            }
        }
        return Err(unsupported("its rules are none of SentencePiece's that llama.cpp has"));
    }
    vocabulary.model = "gpt2".to_string();
    for name in SPLITTINGS {
        vocabulary.pre = Some(name.to_string());
        if cuts_alike(&vocabulary)? {
            return Ok(vocabulary);
        }
    }
    Err(unsupported("its splitting rules have no name there that Paddock knows"))
}

/// Tokens, their types, scores and merges. Scores of a SentencePiece vocabulary are the ranks of merges, negative, as they are
/// in its own model: pieces are merged in the order of their scores.
fn pieces(json: &Json, size: usize, sentencepiece: bool) -> Result<GgufVocabulary> {
    let damaged = || Error::Request("the tokenizer's vocabulary is not a table of ids".to_string());
    let is_byte = |token: &str| sentencepiece && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
    let mut tokens: Vec<Option<(String, i32)>> = vec![None; size];
    let mut place = |id: u64, token: &str, kind: i32| {
        let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        let place = place.ok_or_else(|| {
            Error::Request(format!("the token {token:?} has the id {id}, but the model has {size} tokens"))
        })?;
        *place = Some((token.to_string(), kind));
        Ok::<_, Error>(())
    };
    for (token, id) in json.model.vocab.as_object().ok_or_else(damaged)? {
        let byte = is_byte(token);
        let unknown = json.model.unk_token.as_deref() == Some(token);
        let kind = if byte {
            BYTE
        } else if unknown {
            UNKNOWN
        } else {
            NORMAL
        };
        place(id.as_u64().ok_or_else(damaged)?, token, kind)?;
    }
    // A token that is named without having a row, such as a padding token, never reaches the model.
    let in_model = |added: &&Added| (added.id as usize) < size;
    for Added { id, content, special } in json.added_tokens.iter().filter(in_model) {
        let unknown = sentencepiece && json.model.unk_token.as_deref() == Some(content);
        let kind = if is_byte(content) {
            BYTE
        } else if unknown {
            UNKNOWN
        } else if *special {
            CONTROL
        } else {
            USER_DEFINED
        };
        place(u64::from(*id), content, kind)?;
    }
    let tokens = tokens.into_iter().zip(0..).map(|(token, id)| token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED)));
    let (tokens, token_types): (Vec<String>, Vec<i32>) = tokens.unzip();
    let pair = |merge: &Value| match merge {
        Value::String(pair) => Some(pair.clone()),
        Value::Array(parts) => Some(format!("{} {}", parts.first()?.as_str()?, parts.get(1)?.as_str()?)),
        _ => None,
    };
    let merges: Vec<String> = json.model.merges.iter().map(pair).collect::<Option<_>>().ok_or_else(damaged)?;
    let mut vocabulary = GgufVocabulary { tokens, token_types, ..GgufVocabulary::default() };
    if !sentencepiece {
        vocabulary.merges = merges;
        return Ok(vocabulary);
    }
    let mut ranks = std::collections::HashMap::new();
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    let last = merges.len();
    let score = |token: &String| -(ranks.get(token).copied().unwrap_or(last) as f32);
    vocabulary.scores = vocabulary.tokens.iter().map(score).collect();
    Ok(vocabulary)
}
