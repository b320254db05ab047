//! `vocab.json` and `merges.txt`: the files of GPT-2's own tokenizer.

use std::collections::BTreeMap;

use super::settings::Settings;
use super::splitting::Splitting;
use super::{Beside, MAX_VOCABULARY, Tokenizer};
use crate::{Error, Result};

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";

pub(super) fn read(vocabulary: &[u8], merges: &[u8], beside: &Beside) -> Result<Tokenizer> {
    let vocabulary: BTreeMap<String, u32> = serde_json::from_slice(vocabulary)
        .map_err(|e| Error::format(VOCABULARY, format!("expected an object of tokens with their ids: {e}")))?;
    if let Some((token, id)) = vocabulary.iter().find(|(_, id)| **id as usize >= MAX_VOCABULARY) {
        return Err(Error::format(
            VOCABULARY,
            format!("the id {id} of \"{token}\" is absurd; expected less than {MAX_VOCABULARY}"),
        ));
    }
    let text = std::str::from_utf8(merges).map_err(|_| Error::format(MERGES, "it is not UTF-8 text"))?;
    let mut pairs = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with("#version")) {
        let (left, right) = line
            .split_once(' ')
            .ok_or_else(|| Error::format(MERGES, format!("expected two tokens a line, found \"{line}\"")))?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let mut settings = Settings::merge(beside)?;
    let mut splitting = match settings.class.map(|class| class.name) {
        Some("Qwen2Tokenizer") => Splitting::qwen2(),
        _ => Splitting::gpt2(),
    };
    splitting.prefix_space = settings.flag("add_prefix_space").unwrap_or(false);
    let mut inner = splitting.tokenizer(vocabulary.into_iter().collect(), pairs, MERGES)?;
    settings.add_tokens(&mut inner, VOCABULARY, false)?;
    let (bos, eos) = (settings.id(&inner, "bos_token", None), settings.id(&inner, "eos_token", None));
    let affixes = settings.affixes(bos, eos, false);
    Tokenizer::assemble(inner, &affixes, settings.parts(bos, eos), VOCABULARY)
}
