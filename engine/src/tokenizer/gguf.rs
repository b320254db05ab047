//! The vocabulary in a GGUF header (llama.cpp `llama-vocab.cpp` is the other reader of these keys).

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use super::decode::fallback_byte;
use super::end_of_generation::{END_OF_TEXT, ends_generation};
use super::sentencepiece::{Algorithm, Model, Normalization, Piece, PieceKind};
use super::special::SpecialTokens;
use super::splitting::Splitting;
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
    let mut notes = Vec::new();
    let (inner, ids, add_bos) = match vocabulary.model.as_str() {
        "llama" => {
            let ids = sentencepiece_ids(vocabulary, &mut notes);
            (sentencepiece(vocabulary, &ids)?, ids, true)
        }
        "gpt2" => {
            let splitting = splitting(vocabulary, &mut notes)?;
            let ids = byte_level_ids(vocabulary, &splitting, &mut notes);
            (byte_level(vocabulary, &splitting)?, ids, splitting.adds_bos)
        }
        other => {
            return Err(Error::Unsupported(format!(
                "{FILE}: a tokenizer of kind \"{other}\" is not supported; known are gpt2 and llama"
            )));
        }
    };
    let mistyped = (0..).zip(&vocabulary.tokens).filter(|(id, token)| {
        ends_generation(token) && vocabulary.token_types.get(*id).is_some_and(|kind| !matches!(kind, 2 | 3))
    });
    for (id, token) in mistyped {
        notes.push(format!(
            "{FILE} does not count the token {id} \"{token}\" among the control tokens; as in llama.cpp it is one"
        ));
    }
    let Ids { bos, eos, unknown } = ids;
    let (add_bos, add_eos) = (vocabulary.add_bos.unwrap_or(add_bos), vocabulary.add_eos.unwrap_or(false));
    let affixes = Affixes::from_flags(bos, add_bos, eos, add_eos);
    let mut special = SpecialTokens::default();
    let named = [
        ("bos_token", bos),
        ("eos_token", eos),
        ("unk_token", unknown),
        ("pad_token", inside(vocabulary.padding, size)),
    ];
    for (name, id) in named {
        if let Some(token) = id.and_then(|id| vocabulary.tokens.get(id as usize)) {
            special.add_default(name, token);
        }
    }
    let chat_template = vocabulary.chat_template.clone();
    let parts = Parts { bos, eos, special, split_special: false, chat_template, notes };
    Tokenizer::assemble(inner, &affixes, parts, FILE)
}

/// The ids that the header gives, or that are inferred where it does not.
struct Ids {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
}

fn inside(id: Option<u32>, size: usize) -> Option<u32> {
    id.filter(|id| (*id as usize) < size)
}

/// What the header says where it names no token of the vocabulary as `name`.
fn left_open(name: &str, given: Option<u32>, size: usize) -> String {
    match given {
        None => format!("{FILE} gives no {name}_token_id"),
        Some(u32::MAX) => format!("{FILE} gives -1 as {name}_token_id, which is no token"),
        Some(id) => format!("{FILE} gives {id} as {name}_token_id, which is none of its {size} tokens"),
    }
}

/// A SentencePiece vocabulary without ids has LLaMA's own: 0, 1 and 2.
fn sentencepiece_ids(vocabulary: &GgufVocabulary, notes: &mut Vec<String>) -> Ids {
    let size = vocabulary.tokens.len();
    let mut id = |name: &str, given: Option<u32>, default: u32, spelling: &str| {
        let inside = inside(given, size);
        if inside.is_some() {
            return inside;
        }
        let is_special = matches!(kind(vocabulary, default as usize), Ok(PieceKind::Control | PieceKind::Unknown));
        let token = vocabulary.tokens.get(default as usize).filter(|token| is_special || *token == spelling)?;
        notes.push(format!("{}; as in llama.cpp it is {default} \"{token}\"", left_open(name, given, size)));
        Some(default)
    };
    Ids {
        unknown: id("unknown", vocabulary.unknown, 0, "<unk>"),
        bos: id("bos", vocabulary.bos, 1, "<s>"),
        eos: id("eos", vocabulary.eos, 2, "</s>"),
    }
}

/// A byte-level vocabulary without ids is searched for tokens that can only be BOS and EOS.
fn byte_level_ids(vocabulary: &GgufVocabulary, splitting: &Splitting, notes: &mut Vec<String>) -> Ids {
    let size = vocabulary.tokens.len();
    let mut id = |name: &str, given: Option<u32>, spellings: &[&str]| {
        let inside = inside(given, size);
        if inside.is_some() {
            return inside;
        }
        let position = |spelling: &&str| vocabulary.tokens.iter().position(|token| token == spelling);
        let found = spellings.iter().find_map(|spelling| Some((spelling, position(spelling)?)));
        let open = left_open(name, given, size);
        match found {
            Some((token, found)) => notes.push(format!("{open}; the token {found} \"{token}\" is taken for it")),
            None if given.is_some() => notes.push(format!("{open}; the model has none")),
            None => {}
        }
        found.and_then(|(_, found)| u32::try_from(found).ok())
    };
    let bos: &[&str] = if splitting.adds_bos { &[BEGIN_OF_TEXT, "<s>"] } else { &[] };
    Ids {
        bos: id("bos", vocabulary.bos, bos),
        eos: id("eos", vocabulary.eos, &END_OF_TEXT),
        unknown: id("unknown", vocabulary.unknown, &[]),
    }
}

/// The kind of token `id`, by its spelling where there is no list of kinds. What ends an answer is a control token, whatever its
/// type in the list.
fn kind(vocabulary: &GgufVocabulary, id: usize) -> Result<PieceKind> {
    let spelling = vocabulary.tokens.get(id).map(String::as_str).unwrap_or_default();
    let kind = match vocabulary.token_types.get(id) {
        Some(&number) => u64::try_from(number).ok().and_then(PieceKind::from_number).ok_or_else(|| {
            Error::format(FILE, format!("token {id} is of the unknown type {number}; expected 1 to 6"))
        })?,
        None if fallback_byte(spelling).is_some() => PieceKind::Byte,
        None if spelling == "<unk>" => PieceKind::Unknown,
        None if spelling == "<s>" || spelling == BEGIN_OF_TEXT => PieceKind::Control,
        None => PieceKind::Normal,
    };
    Ok(if ends_generation(spelling) && kind != PieceKind::Unknown { PieceKind::Control } else { kind })
}

fn sentencepiece(vocabulary: &GgufVocabulary, ids: &Ids) -> Result<tokenizers::Tokenizer> {
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
        unknown: ids.unknown,
        bos: ids.bos,
        eos: ids.eos,
    };
    pieces::build(&model, true, FILE)
}

const BEGIN_OF_TEXT: &str = "<|begin_of_text|>";

/// The splitting rules that the header names; Llama 3's where it names none and the vocabulary is Llama 3's.
fn splitting(vocabulary: &GgufVocabulary, notes: &mut Vec<String>) -> Result<Splitting> {
    if let Some(pre) = vocabulary.pre.as_deref().filter(|pre| !matches!(*pre, "" | "default")) {
        return Splitting::named(pre).ok_or_else(|| {
            Error::Unsupported(format!(
                "{FILE}: the splitting rules \"{pre}\" (tokenizer.ggml.pre) are not known; use the model's Hugging Face folder"
            ))
        });
    }
    let has = |token: &str| vocabulary.tokens.iter().any(|known| known == token);
    let is_llama3 = has(BEGIN_OF_TEXT) && has("<|eot_id|>");
    notes.push(if is_llama3 {
        format!("{FILE} does not name its splitting rules (tokenizer.ggml.pre); its vocabulary is Llama 3's, and so are the rules")
    } else {
        format!(
            "{FILE} does not name its splitting rules (tokenizer.ggml.pre); GPT-2's are used, and answers suffer if the \
             model was trained with others: convert it again with a current llama.cpp, or use its Hugging Face folder"
        )
    });
    Ok(if is_llama3 { Splitting::llama3() } else { Splitting::gpt2() })
}

fn byte_level(vocabulary: &GgufVocabulary, splitting: &Splitting) -> Result<tokenizers::Tokenizer> {
    let merge = |line: &String| {
        let (left, right) =
            line.split_once(' ').ok_or_else(|| Error::format(FILE, format!("the merge \"{line}\" is not a pair")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    let merges = vocabulary.merges.iter().map(merge).collect::<Result<Vec<_>>>()?;
    let ids: Vocab = (0..).zip(&vocabulary.tokens).map(|(id, token)| (token.clone(), id)).collect();
    let mut tokenizer = splitting.tokenizer(ids, merges, FILE)?;
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
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str], token_types: &[i32]) -> GgufVocabulary {
        GgufVocabulary {
            model: "llama".into(),
            tokens: tokens.iter().map(ToString::to_string).collect(),
            scores: vec![0.0; tokens.len()],
            token_types: token_types.to_vec(),
            ..GgufVocabulary::default()
        }
    }

    #[test]
    fn without_a_list_of_kinds_the_spelling_tells() {
        let cases = [
            ("<unk>", PieceKind::Unknown),
            ("<s>", PieceKind::Control),
            ("</s>", PieceKind::Control),
            (BEGIN_OF_TEXT, PieceKind::Control),
            ("<0x0A>", PieceKind::Byte),
            ("a", PieceKind::Normal),
        ];
        let vocabulary = vocabulary(&cases.map(|(token, _)| token), &[]);
        for (id, (token, expected)) in cases.into_iter().enumerate() {
            assert_eq!(kind(&vocabulary, id).unwrap(), expected, "{token}");
        }
    }

    #[test]
    fn ids_that_are_left_open_are_llama_s_where_spelling_or_kind_agrees() {
        assert_eq!((inside(Some(2), 3), inside(Some(3), 3)), (Some(2), None));
        let bos = |token: &str, kind: i32| {
            let vocabulary = vocabulary(&["<unk>", token, "</s>"], &[2, kind, 3]);
            sentencepiece_ids(&vocabulary, &mut Vec::new()).bos
        };
        assert_eq!(bos("<bos>", 3), Some(1));
        assert_eq!(bos("<s>", 1), Some(1));
        assert_eq!(bos("a", 1), None);
    }

    #[test]
    fn only_a_vocabulary_with_bytes_falls_back_to_them() {
        let falls_back = |tokens: &[&str]| {
            let json = read(&vocabulary(tokens, &[])).unwrap().to_json().unwrap();
            serde_json::from_str::<serde_json::Value>(&json).unwrap()["model"]["byte_fallback"].as_bool().unwrap()
        };
        assert!(falls_back(&["<unk>", "<s>", "</s>", "<0x0A>"]));
        assert!(!falls_back(&["<unk>", "<s>", "</s>", "a"]));
    }

    #[test]
    fn rules_without_a_name_are_llama_3_s_only_with_both_its_tokens() {
        let is_llama3 = |tokens: &[&str]| splitting(&vocabulary(tokens, &[]), &mut Vec::new()).unwrap().adds_bos;
        assert!(is_llama3(&[BEGIN_OF_TEXT, "<|eot_id|>"]));
        assert!(!is_llama3(&[BEGIN_OF_TEXT]) && !is_llama3(&["<|eot_id|>"]));
    }
}
