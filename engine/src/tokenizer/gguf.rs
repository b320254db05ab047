//! The vocabulary in a GGUF header (llama.cpp `llama-vocab.cpp` is the other reader of these keys).

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::sentencepiece::{Algorithm, Model, Normalization, Piece, PieceKind};
use super::{Affixes, GgufVocabulary, Parts, Tokenizer, pieces};
use crate::{Error, Result};

const FILE: &str = "the GGUF header";

pub(super) fn read(vocabulary: &GgufVocabulary) -> Result<Tokenizer> {
    let size = vocabulary.tokens.len();
    for (name, length) in [("scores", vocabulary.scores.len()), ("token types", vocabulary.token_types.len())] {
        if length != 0 && length != size {
            return Err(Error::format(FILE, format!("it lists {size} tokens but {length} {name}")));
        }
    }
    let (inner, add_bos) = match vocabulary.model.as_str() {
        "llama" => (sentencepiece(vocabulary)?, true),
        "gpt2" => byte_level(vocabulary)?,
        other => {
            return Err(Error::Unsupported(format!(
                "{FILE}: a tokenizer of kind \"{other}\" is not supported; known are gpt2 and llama"
            )));
        }
    };
    let inside = |id: &u32| (*id as usize) < size;
    let (bos, eos) = (vocabulary.bos.filter(inside), vocabulary.eos.filter(inside));
    let (add_bos, add_eos) = (vocabulary.add_bos.unwrap_or(add_bos), vocabulary.add_eos.unwrap_or(false));
    let affixes = Affixes::from_flags(bos, add_bos, eos, add_eos);
    let parts = Parts { bos, eos, chat_template: vocabulary.chat_template.clone() };
    Tokenizer::assemble(inner, &affixes, parts, FILE)
}

/// The kind of token `id`; without a list of kinds all are normal.
fn kind(vocabulary: &GgufVocabulary, id: usize) -> Result<PieceKind> {
    let Some(&number) = vocabulary.token_types.get(id) else { return Ok(PieceKind::Normal) };
    u64::try_from(number)
        .ok()
        .and_then(PieceKind::from_number)
        .ok_or_else(|| Error::format(FILE, format!("token {id} is of the unknown type {number}; expected 1 to 6")))
}

fn sentencepiece(vocabulary: &GgufVocabulary) -> Result<tokenizers::Tokenizer> {
    if vocabulary.scores.is_empty() {
        return Err(Error::format(FILE, "it has a SentencePiece vocabulary without scores"));
    }
    let piece = |(id, (text, &score)): (usize, (&String, &f32))| {
        Ok(Piece { text: text.clone(), score, kind: kind(vocabulary, id)? })
    };
    let pieces = vocabulary.tokens.iter().zip(&vocabulary.scores).enumerate().map(piece).collect::<Result<Vec<_>>>()?;
    let model = Model {
        byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
        pieces,
        algorithm: Algorithm::Bpe,
        normalization: Normalization {
            charsmap: Vec::new(),
            add_dummy_prefix: vocabulary.add_space_prefix.unwrap_or(true),
            remove_extra_whitespaces: false,
        },
        unknown: vocabulary.unknown,
        bos: vocabulary.bos,
        eos: vocabulary.eos,
    };
    pieces::build(&model, true, FILE)
}

/// The tokenizer, and whether BOS goes before a text when the header does not say.
fn byte_level(vocabulary: &GgufVocabulary) -> Result<(tokenizers::Tokenizer, bool)> {
    let splitting = Splitting::named(vocabulary.pre.as_deref().unwrap_or("default"))?;
    let failed = |problem: String| Error::format(FILE, problem);
    let merge = |line: &String| {
        let (left, right) =
            line.split_once(' ').ok_or_else(|| failed(format!("the merge \"{line}\" is not a pair")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    let merges = vocabulary.merges.iter().map(merge).collect::<Result<Vec<_>>>()?;
    let ids: Vocab = (0..).zip(&vocabulary.tokens).map(|(id, token)| (token.clone(), id)).collect();
    let bpe = BPE::builder().vocab_and_merges(ids, merges).ignore_merges(splitting.whole_words).build();
    let mut tokenizer = tokenizers::Tokenizer::new(bpe.map_err(|e| failed(e.to_string()))?);
    let wrong = |e: serde_json::Error| failed(e.to_string());
    if splitting.nfc {
        let nfc: NormalizerWrapper = serde_json::from_value(json!({ "type": "NFC" })).map_err(wrong)?;
        tokenizer.with_normalizer(Some(nfc));
    }
    let split: PreTokenizerWrapper = serde_json::from_value(splitting.pre_tokenizer()).map_err(wrong)?;
    tokenizer.with_pre_tokenizer(Some(split));
    let decoder: DecoderWrapper = serde_json::from_value(byte_alphabet(false)).map_err(wrong)?;
    tokenizer.with_decoder(Some(decoder));
    let mut added = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let special = match kind(vocabulary, id)? {
            PieceKind::Control | PieceKind::Unknown => true,
            PieceKind::UserDefined => false,
            PieceKind::Normal | PieceKind::Unused | PieceKind::Byte => continue,
        };
        added.push(AddedToken::from(token.clone(), special).normalized(false));
    }
    tokenizer.add_tokens(&added);
    Ok((tokenizer, splitting.adds_bos))
}

/// How a byte-level BPE cuts a text into words before it merges within them.
#[derive(Default)]
struct Splitting {
    /// Applied in turn; each cuts the words further, and a match is a word of its own.
    patterns: Vec<&'static str>,
    /// GPT-2's pattern comes last.
    gpt2: bool,
    /// The text is composed (Unicode NFC) first.
    nfc: bool,
    /// A word that is in the vocabulary becomes one token, whatever the merges say.
    whole_words: bool,
    /// BOS goes before a text by default.
    adds_bos: bool,
}

impl Splitting {
    /// By `tokenizer.ggml.pre`; the patterns are those of the models' own `tokenizer.json`.
    fn named(pre: &str) -> Result<Self> {
        const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let splitting = match pre {
            "default" | "gpt-2" => Self { gpt2: true, ..Self::default() },
            "smollm" | "starcoder" | "refact" => Self { patterns: vec![r"\p{N}"], gpt2: true, ..Self::default() },
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => {
                Self { patterns: vec![LLAMA3], whole_words: true, adds_bos: true, ..Self::default() }
            }
            "smaug-bpe" => Self { patterns: vec![LLAMA3], ..Self::default() },
            "tekken" => Self { patterns: vec![TEKKEN], whole_words: true, adds_bos: true, ..Self::default() },
            "qwen2" => Self { patterns: vec![QWEN2], nfc: true, ..Self::default() },
            "deepseek-coder" => Self {
                patterns: vec![r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
                ..Self::default()
            },
            other => {
                return Err(Error::Unsupported(format!(
                    "{FILE}: the splitting rules \"{other}\" (tokenizer.ggml.pre) are not known; use the model's Hugging Face folder"
                )));
            }
        };
        Ok(splitting)
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    fn pre_tokenizer(&self) -> Value {
        let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([byte_alphabet(self.gpt2)]).collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }
}

/// Bytes as GPT-2's printable characters; `gpt2_pattern`: cut by its pattern first.
fn byte_alphabet(gpt2_pattern: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": gpt2_pattern })
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    /// Words by Python's `regex` module with the patterns of the models' `tokenizer.json`.
    #[test]
    fn texts_are_split_as_the_models_own_patterns_do() {
        let text = "I'LL pay $12345.67 for  Servers!\n\n  x\ty ";
        let cases = [
            ("gpt-2", "I|'|LL| pay| $|12345|.|67| for| | Servers|!|\n\n | x|\t|y| "),
            ("smollm", "I|'|LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!|\n\n | x|\t|y| "),
            ("llama-bpe", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("qwen2", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("tekken", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("deepseek-coder", "I|'|LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!|\n|\n| | x|\ty| "),
        ];
        for (pre, expected) in cases {
            let rules = Splitting::named(pre).unwrap().pre_tokenizer();
            let rules: PreTokenizerWrapper = serde_json::from_value(rules).unwrap();
            let mut words = PreTokenizedString::from(text);
            rules.pre_tokenize(&mut words).unwrap();
            let words: Vec<String> = words
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .into_iter()
                .map(|(word, ..)| word.replace('Ġ', " ").replace('Ċ', "\n").replace('ĉ', "\t"))
                .collect();
            assert_eq!(words.join("|"), expected, "{pre}");
        }
        assert!(Splitting::named("gibberish").is_err_and(|error| error.to_string().contains("gibberish")));
    }
}
