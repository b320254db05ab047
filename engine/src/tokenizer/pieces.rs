//! Makes a tokenizer of a SentencePiece vocabulary, which comes from a `tokenizer.model` or from a GGUF header, as
//! transformers' `convert_slow_tokenizer.py` (LlamaConverter) does.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::charsmap;
use super::sentencepiece::{self, Algorithm, Model, Normalization, Piece, PieceKind};
use super::settings::Settings;
use super::{Beside, Tokenizer};
use crate::{Error, Result};

const FILE: &str = "tokenizer.model";

/// Reads SentencePiece's file and the files beside it.
pub(super) fn read(bytes: &[u8], beside: &Beside) -> Result<Tokenizer> {
    let mut model = sentencepiece::parse(bytes)?;
    let mut settings = Settings::merge(beside)?;
    if let Some(prefix) = settings.flag("add_prefix_space") {
        model.normalization.add_dummy_prefix = prefix;
    }
    let mut inner = build(&model, settings.flag("legacy").unwrap_or(true), FILE)?;
    settings.find_in_plain_text();
    settings.add_tokens(&mut inner, FILE, true)?;
    let id = |name, own| settings.id(&inner, name, own);
    let (bos, eos) = (id("bos_token", model.bos), id("eos_token", model.eos));
    let affixes = settings.affixes(bos, eos, true);
    Tokenizer::assemble(inner, &affixes, settings.parts(bos, eos), FILE)
}

/// The tokenizer of a vocabulary. With `legacy`, the prefix goes before every stretch of text between special tokens;
/// without, only before the first. `file` names the vocabulary's file in errors.
pub(super) fn build(model: &Model, legacy: bool, file: &str) -> Result<tokenizers::Tokenizer> {
    let failed = |problem: String| Error::format(file, problem);
    let unknown = model.unknown.and_then(|id| Some((id as usize, model.pieces.get(id as usize)?)));
    let wrapper: ModelWrapper = match model.algorithm {
        Algorithm::Bpe => {
            let vocabulary: Vocab = (0..).zip(&model.pieces).map(|(id, piece)| (piece.text.clone(), id)).collect();
            let mut bpe = BPE::builder()
                .vocab_and_merges(vocabulary, merges(&model.pieces))
                .fuse_unk(true)
                .byte_fallback(model.byte_fallback);
            if let Some((_, piece)) = unknown {
                bpe = bpe.unk_token(piece.text.clone());
            }
            bpe.build().map_err(|e| failed(e.to_string()))?.into()
        }
        Algorithm::Unigram => {
            let vocabulary = model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect();
            let unigram = Unigram::from(vocabulary, unknown.map(|(id, _)| id), model.byte_fallback);
            unigram.map_err(|e| failed(e.to_string()))?.into()
        }
    };
    let mut tokenizer = tokenizers::Tokenizer::new(wrapper);
    let wrong = |e: serde_json::Error| failed(e.to_string());
    let prefix = model.normalization.add_dummy_prefix;
    let rules = normalizer(&model.normalization, legacy, file)?;
    tokenizer.with_normalizer(Some(serde_json::from_value::<NormalizerWrapper>(rules).map_err(wrong)?));
    if !legacy {
        let scheme = if prefix { "first" } else { "never" };
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
        tokenizer.with_pre_tokenizer(Some(serde_json::from_value::<PreTokenizerWrapper>(metaspace).map_err(wrong)?));
    }
    tokenizer.with_decoder(Some(serde_json::from_value::<DecoderWrapper>(decoder(prefix)).map_err(wrong)?));
    let special = |kind| matches!(kind, PieceKind::Control | PieceKind::Unknown);
    let added: Vec<AddedToken> = model
        .pieces
        .iter()
        .filter(|piece| special(piece.kind) || piece.kind == PieceKind::UserDefined)
        .map(|piece| AddedToken::from(piece.text.clone(), special(piece.kind)).normalized(false))
        .collect();
    tokenizer.add_tokens(&added);
    Ok(tokenizer)
}

/// The merges that scores imply: every way to put a piece together from two others, the best piece first. Ties follow
/// transformers' `generate_merges`, where they are broken by length, the longest left half first.
fn merges(pieces: &[Piece]) -> Vec<(String, String)> {
    // SentencePiece never merges its control, unknown and byte pieces.
    let mergeable =
        |piece: &&Piece| matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined | PieceKind::Unused);
    let ids: HashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| mergeable(piece))
        .map(|(id, piece)| (piece.text.as_str(), id))
        .collect();
    let mut found = Vec::new();
    for piece in pieces.iter().filter(mergeable) {
        let cuts = piece.text.char_indices().skip(1).map(|(at, _)| piece.text.split_at(at));
        let mut halves: Vec<_> =
            cuts.filter_map(|(left, right)| Some((ids.get(left)?, ids.get(right)?, left, right))).collect();
        halves.sort_by_key(|(left, right, ..)| (*left, *right));
        found.extend(halves.into_iter().map(|(_, _, left, right)| (piece.score, left, right)));
    }
    let length = |text: &str| text.chars().count();
    found.sort_by(|a, b| {
        let by_length = (length(b.1), length(b.2)).cmp(&(length(a.1), length(a.2)));
        b.0.total_cmp(&a.0).then(by_length)
    });
    found.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// The `normalizer` of a `tokenizer.json`; with `spaces` it adds the prefix and writes "▁" for every space.
fn normalizer(rules: &Normalization, spaces: bool, file: &str) -> Result<Value> {
    let mut steps = Vec::new();
    if !rules.charsmap.is_empty() {
        steps.push(charsmap::normalizer(&rules.charsmap, file)?);
    }
    if rules.remove_extra_whitespaces {
        steps.push(json!({ "type": "Strip", "strip_left": true, "strip_right": true }));
        steps.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    if spaces {
        if rules.add_dummy_prefix {
            steps.push(json!({ "type": "Prepend", "prepend": "▁" }));
        }
        steps.push(json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }));
    }
    Ok(json!({ "type": "Sequence", "normalizers": steps }))
}

/// The `decoder` of a `tokenizer.json`; with `prefix` it removes the first space of a text.
fn decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}
