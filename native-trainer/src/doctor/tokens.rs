//! A tokenizer against the model that it belongs to.

use paddock_engine::ModelConfig;
use paddock_engine::tokenizer::Tokenizer;

use super::Section;

/// A text with words, digits, white space and characters of one to four bytes.
const SAMPLE: &str = "Hello, world! It's 12345\n  é 漢字 🦙";

/// The ids that end an answer, as a chat takes them.
pub(super) fn ends(config: Option<&ModelConfig>, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ends = config.map(|config| config.eos_token_ids.clone()).unwrap_or_default();
    ends.extend(tokenizer.eos().filter(|id| !ends.contains(id)));
    ends
}

/// An id with its spelling.
pub(super) fn named(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token(id) {
        Some(token) => format!("{id} {token:?}"),
        None => format!("{id} (not in the vocabulary)"),
    }
}

pub(super) fn list(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    ids.iter().map(|id| named(tokenizer, *id)).collect::<Vec<_>>().join(", ")
}

/// `own`: the tokenizer has files of its own, whose ids may differ from those of `config.json`.
pub(super) fn examine(config: Option<&ModelConfig>, tokenizer: &Tokenizer, ends: &[u32], own: bool) -> Section {
    let mut section = Section::new("tokenizer");
    section.good(format!("{}, {} tokens", tokenizer.kind(), tokenizer.vocab_size()));
    tokenizer.notes().iter().for_each(|note| section.note(note));
    if let Some(config) = config {
        size(config, tokenizer, &mut section);
        if own {
            ids(config, tokenizer, &mut section);
        }
    }
    for (name, text) in tokenizer.special_tokens() {
        match tokenizer.token_id(text) {
            Some(id) => section.good(format!("{name} is {id} {text:?}")),
            None => section.note(format!("{name} is {text:?}, which is not in the vocabulary")),
        }
    }
    let strange: Vec<u32> = ends.iter().copied().filter(|id| tokenizer.token(*id).is_none()).collect();
    if !strange.is_empty() {
        section.bad(format!("an answer would end with {}", list(tokenizer, &strange)));
    }
    round_trip(tokenizer, &mut section);
    section
}

fn size(config: &ModelConfig, tokenizer: &Tokenizer, section: &mut Section) {
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    let beyond = tokens.saturating_sub(rows);
    if beyond > 0 {
        let ids: Vec<u32> = (rows..tokens).take(4).filter_map(|id| u32::try_from(id).ok()).collect();
        section.bad(format!(
            "the model has rows for {rows} tokens, the tokenizer {beyond} more ({}, …); a text with one of them is \
             refused: is this the tokenizer of another model, or were tokens added without weights?",
            list(tokenizer, &ids)
        ));
    } else if tokens < rows {
        section.good(format!("the model has rows for {rows} tokens; {} of them are padding", rows - tokens));
    }
}

fn ids(config: &ModelConfig, tokenizer: &Tokenizer, section: &mut Section) {
    if let (Some(model), Some(own)) = (config.bos_token_id, tokenizer.bos())
        && model != own
    {
        section.note(format!(
            "config.json begins a text with {}, the tokenizer with {}; the tokenizer's is used",
            named(tokenizer, model),
            named(tokenizer, own)
        ));
    }
    if let Some(own) = tokenizer.eos().filter(|own| !config.eos_token_ids.contains(own)) {
        let model = match config.eos_token_ids.as_slice() {
            [] => "nothing".to_string(),
            ids => list(tokenizer, ids),
        };
        section.note(format!(
            "config.json and generation_config.json end an answer with {model}, the tokenizer with {}; each of them ends it",
            named(tokenizer, own)
        ));
    }
}

fn round_trip(tokenizer: &Tokenizer, section: &mut Section) {
    let ids = match tokenizer.encode(SAMPLE, true) {
        Ok(ids) => ids,
        Err(error) => return section.bad(format!("{SAMPLE:?} cannot be written in it: {error}")),
    };
    let special = ids.iter().take_while(|id| tokenizer.is_special(**id)).count();
    match &ids[..special] {
        [] => section.good("a text gets no special token before it"),
        before => section.good(format!("a text gets {} before it", list(tokenizer, before))),
    }
    match tokenizer.decode(&ids, true) {
        Ok(text) if text == SAMPLE => section.good(format!("{SAMPLE:?} is {} tokens and reads back", ids.len())),
        Ok(text) => section.note(format!("{SAMPLE:?} reads back as {text:?}")),
        Err(error) => section.bad(format!("{SAMPLE:?} does not read back: {error}")),
    }
}
