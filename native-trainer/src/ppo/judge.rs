//! A model that gives whole answers a score.

use paddock_engine::backend::{Operations, Segments};
use paddock_engine::model::{Fresh, ScoreModel};
use paddock_engine::tokenizer::Tokenizer;
use paddock_learn::data::Example;
use paddock_learn::objective::Critic;
use paddock_learn::{Adjoint, Store, Tape};

use super::rollout::Rollout;
use crate::Result;

/// A frozen score model.
pub(super) struct Judge<B: Adjoint, S: Store<B>> {
    model: Critic<B, S>,
    /// Its tokenizer, where that is not the actor's.
    tokenizer: Option<Tokenizer>,
    normalize: bool,
}

impl<B: Adjoint, S: Store<B>> Judge<B, S> {
    pub fn new(model: Critic<B, S>, tokenizer: Option<Tokenizer>, normalize: bool) -> Self {
        Self { model, tokenizer, normalize }
    }

    /// The model.
    pub fn model(&self) -> &ScoreModel<Tape<B, S>> {
        self.model.model()
    }

    /// Whether it reads the actor's own tokens.
    pub fn reads_tokens(&self) -> bool {
        self.tokenizer.is_none()
    }

    /// Scores as they count: normalised, where that is asked for.
    pub fn counted(&self, mut scores: Vec<f32>) -> Vec<f64> {
        if self.normalize {
            self.model().head().normalize(&mut scores);
        }
        scores.into_iter().map(f64::from).collect()
    }

    /// The scores of answers, at their true last tokens. A model with another tokenizer reads them as text, without special
    /// tokens and with its own at the end, as in Safe-RLHF.
    ///
    /// # Errors
    /// When a text cannot be encoded, or the device fails.
    pub async fn scores(&self, rollouts: &[(&Rollout, &Example)], actor: &Tokenizer) -> Result<Vec<f64>> {
        let mut documents: Vec<Vec<u32>> = Vec::with_capacity(rollouts.len());
        for (_, example) in rollouts {
            documents.push(match &self.tokenizer {
                None => example.ids.clone(),
                Some(own) => {
                    let text = actor.decode(&example.ids, true)?;
                    let mut ids = own.encode(&text, true)?;
                    ids.extend(own.eos());
                    ids
                }
            });
        }
        Ok(self.counted(self.end_scores(&documents).await?))
    }

    async fn end_scores(&self, documents: &[Vec<u32>]) -> Result<Vec<f32>> {
        let tape = self.model().backend();
        let pause = tape.pause();
        let scores = end_scores(self.model(), documents).await;
        drop(pause);
        scores
    }
}

/// The scores of documents at their last tokens, not normalised.
///
/// # Errors
/// When the device fails.
pub(crate) async fn end_scores<B: Operations>(model: &ScoreModel<B>, documents: &[Vec<u32>]) -> Result<Vec<f32>> {
    let backend = model.backend();
    let (mut start, mut rows) = (0, Vec::with_capacity(documents.len()));
    for ids in documents {
        rows.push(start + model.head().end_position(ids));
        start += ids.len();
    }
    let lengths: Vec<usize> = documents.iter().map(Vec::len).collect();
    let ids = backend.tokens(&documents.concat())?;
    let hidden = model.trunk().forward(&ids, &Segments::documents(&lengths), &mut Fresh)?;
    Ok(backend.read(&model.scores(&backend.select_rows(&hidden, &rows)?)?).await?)
}
