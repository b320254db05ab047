//! Pairs as a run would learn them, for people to check.

use std::fmt::Write as _;

use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use pollster::block_on;

use super::pairs::{Encoding, PairKind, Pairs};
use crate::Result;
use crate::files::FolderSource;
use crate::run::RunSettings;

/// The first `count` pairs of a run, each as the texts of its two documents with the answers between double brackets; and
/// a note about rows that cannot be used. Nothing is written.
///
/// # Errors
/// When the model's tokenizer or the data cannot be read, or there is no usable row.
pub fn show_pairs(run: &RunSettings, kind: PairKind, count: usize) -> Result<(String, Option<String>)> {
    let mut checkpoint = block_on(Checkpoint::open(FolderSource::open(&run.model)?))?;
    let tokenizer = Tokenizer::from_files(&block_on(checkpoint.tokenizer_files())?)?;
    let config = checkpoint.config();
    let encoding =
        Encoding { tokenizer: &tokenizer, vocab: config.vocab_size, context: config.max_position_embeddings };
    let (pairs, note) = Pairs::of_file(&run.data, kind, run, encoding)?;
    let mut text = String::new();
    for (index, pair) in pairs.all().iter().take(count).enumerate() {
        for (side, name) in ["first", "second"].into_iter().enumerate() {
            let (ids, targets) = (&pair.ids[side], &pair.targets[side]);
            let answer = targets.first().copied().unwrap_or(ids.len());
            let _ = writeln!(
                text,
                "pair {}, {name}: {} tokens, {} of them the answer's",
                index + 1,
                ids.len(),
                targets.len()
            );
            let (asked, answered) =
                (tokenizer.decode(&ids[..answer], false)?, tokenizer.decode(&ids[answer..], false)?);
            let _ = writeln!(text, "{asked}[[{answered}]]");
        }
        text.push('\n');
    }
    Ok((text, Some(note)))
}
