//! Examples as a run would learn them, for people to check.

use std::fmt::Write as _;

use paddock_engine::prompt::Template;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::data::{Encoder, Example, add_missing_tokens};
use pollster::block_on;

use super::prompt_format;
use crate::Result;
use crate::files::{FolderSource, read_records};
use crate::run::SftSettings;

/// The first `count` examples of a run: each as text and as tokens, with what is learned between double brackets. Second,
/// a note about records that cannot be used. Nothing is written.
///
/// # Errors
/// When the model's tokenizer or the data cannot be read, or there is no usable record.
pub fn show_examples(told: &SftSettings, count: usize) -> Result<(String, Option<String>)> {
    let settings = &told.run;
    // Refuses what the run would refuse.
    prompt_format(&settings.data, settings.template)?;
    let mut checkpoint = block_on(Checkpoint::open(FolderSource::open(&settings.model)?))?;
    let mut tokenizer = Tokenizer::from_files(&block_on(checkpoint.tokenizer_files())?)?;
    if told.add_missing_tokens {
        add_missing_tokens(&mut tokenizer)?;
    }
    let max_length = settings.max_length.min(checkpoint.config().max_position_embeddings);
    let encoder = Encoder::new(&tokenizer, Template::new(settings.template, &tokenizer)?, max_length)?;
    let records = read_records(&settings.data)?;
    let records = records.and_then(|record| encoder.encode(record).map_err(|error| error.to_string()));
    let mut text = String::new();
    for (index, (place, example)) in records.usable.iter().take(count).enumerate() {
        let (tokens, learned) = (example.ids.len(), example.targets.len());
        let cut = if tokens == max_length { ", cut" } else { "" };
        let _ = writeln!(text, "example {} ({place}): {tokens} tokens{cut}, {learned} of them learned", index + 1);
        let _ = writeln!(text, "{}", marked(example, |ids| tokenizer.decode(ids, false))?);
        let spelled = |ids: &[u32]| {
            let tokens: Vec<String> = ids.iter().map(|id| tokenizer.token(*id).unwrap_or_default()).collect();
            Ok(tokens.join("|").replace('\n', "\\n"))
        };
        let _ = writeln!(text, "tokens: {}\n", marked(example, spelled)?);
    }
    let (_, note) = records.checked(settings.strict)?;
    Ok((text, note))
}

/// What `write` makes of the runs of an example's tokens, with brackets around those that are learned.
fn marked(example: &Example, write: impl Fn(&[u32]) -> paddock_engine::Result<String>) -> Result<String> {
    let (mut out, mut at) = (String::new(), 0);
    let mut learned = vec![false; example.ids.len()];
    example.targets.iter().for_each(|target| learned[*target] = true);
    while at < learned.len() {
        let end = (at..learned.len()).find(|next| learned[*next] != learned[at]).unwrap_or(learned.len());
        let part = write(&example.ids[at..end])?;
        if learned[at] {
            out.extend(["[[", &part, "]]"]);
        } else {
            out += &part;
        }
        at = end;
    }
    Ok(out)
}
