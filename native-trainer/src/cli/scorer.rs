//! A score model, as several subcommands load it.

use std::path::Path;

use paddock_engine::backend::Backend;
use paddock_engine::generate::Chat;
use paddock_engine::score::{Scored, Scorer};
use serde_json::{Value, json};

use super::console;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{ModelSource, open_model};

/// Loads the score model at `path`, with `adapter` added to its weights; a head alone goes onto the trunk of `chat`.
pub(super) async fn load<B: Backend>(
    backend: &B,
    path: &Path,
    adapter: Option<&Path>,
    context: Option<usize>,
    chat: Option<&Chat<B>>,
) -> Result<Scorer<B>> {
    let mut checkpoint = open_model(path, adapter)?;
    let scorer = {
        let mut progress = ProgressLine::new("loading");
        let mut update = |at| progress.update(at);
        match chat.filter(|_| checkpoint.config().is_head_alone()) {
            Some(chat) => Scorer::load_beside(chat, ModelSource::open(path)?, context, &mut update).await?,
            None => Scorer::load_checkpoint(backend, &mut checkpoint, context, &mut update).await?,
        }
    };
    scorer.notes().iter().for_each(console::note);
    Ok(scorer)
}

/// A number when the model gives one score, else a list.
pub(super) fn end_score(scored: &Scored) -> Value {
    score(scored.end_score())
}

/// The scores of every token, each as [`end_score`] writes it.
pub(super) fn token_scores(scored: &Scored) -> Value {
    scored.scores.chunks(scored.score_dim.max(1)).map(score).collect()
}

fn score(scores: &[f32]) -> Value {
    match scores {
        [one] => json!(one),
        several => json!(several),
    }
}
