//! A language model: a trunk and a projection to the vocabulary.

use std::rc::Rc;

use super::{Cached, Fresh, LoadProgress, Loader, Trunk};
use crate::backend::{Cache, Operations, Segments};
use crate::config::Head;
use crate::generate::check_ids;
use crate::weights::{Checkpoint, Source};
use crate::{Error, ModelConfig, Result};

/// A model that continues text.
pub struct CausalLm<B: Operations> {
    trunk: Rc<Trunk<B>>,
    lm_head: B::Weight,
}

impl<B: Operations> Clone for CausalLm<B> {
    /// Shares the weights; adapters that the clone is given are its own.
    fn clone(&self) -> Self {
        Self { trunk: self.trunk.clone(), lm_head: self.lm_head.clone() }
    }
}

impl<B: Operations> CausalLm<B> {
    /// Streams a checkpoint onto the device. `progress` is called after each chunk.
    ///
    /// # Errors
    /// What the source, the checkpoint or the device report; a damaged file is reported before the model is used.
    pub async fn load<S: Source>(
        backend: &B,
        checkpoint: &mut Checkpoint<S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        if checkpoint.weight_diff().is_some() {
            return Err(Error::Request(
                "this is a weight diff and no model; recover the model from it and its base first".to_string(),
            ));
        }
        let tied = match checkpoint.config().head {
            Head::Tied => true,
            Head::Untied => false,
            Head::Score(_) => {
                return Err(Error::Request(
                    "this model scores answers and writes none; choose a chat model, or score with this one"
                        .to_string(),
                ));
            }
        };
        let mut loader = Loader::new(backend, checkpoint, progress);
        let trunk = Rc::new(Trunk::load(backend, &mut loader).await?);
        let lm_head = if tied { trunk.embed_tokens().clone() } else { loader.matrix(&["lm_head.weight"]).await? };
        loader.finish().await?;
        Ok(Self { trunk, lm_head })
    }

    /// Everything below the head.
    pub fn trunk(&self) -> &Rc<Trunk<B>> {
        &self.trunk
    }

    /// Gives a module of the trunk a low-rank adapter, as [`Trunk::adapt`] does. Models that share the trunk keep it
    /// without the adapter; the weights stay shared.
    ///
    /// # Errors
    /// When the trunk has no such module.
    pub fn adapt(&mut self, module: &str, scale: f32, a: &B::Weight, b: &B::Weight) -> Result<()> {
        Rc::make_mut(&mut self.trunk).adapt(module, scale, a, b)
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        self.trunk.config()
    }

    /// The backend that holds the model.
    pub fn backend(&self) -> &B {
        self.trunk.backend()
    }

    /// The rows of the projection on the vocabulary that are `tokens`': `[tokens, hidden_size]`.
    ///
    /// # Errors
    /// When the model has no such token, or the device fails.
    pub async fn token_weights(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        check_ids(tokens, self.config().vocab_size)?;
        let backend = self.backend();
        backend.read(&backend.embed(&self.lm_head, &backend.tokens(tokens)?)?).await
    }

    /// Logits of every row of whole documents: `[tokens, vocab_size]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(&self, tokens: &B::Tokens, segments: &Segments) -> Result<B::Tensor> {
        let x = self.trunk.forward(tokens, segments, &mut Fresh)?;
        self.logits(&x)
    }

    /// Log-probabilities of `targets` at the given rows of whole documents: `[rows, 1]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn token_logprobs(
        &self,
        tokens: &B::Tokens,
        segments: &Segments,
        rows: &[usize],
        targets: &B::Tokens,
    ) -> Result<B::Tensor> {
        let x = self.trunk.forward(tokens, segments, &mut Fresh)?;
        self.hidden_logprobs(&self.backend().select_rows(&x, rows)?, targets)
    }

    /// Log-probabilities of `targets` by hidden rows before the final norm: `[rows, 1]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn hidden_logprobs(&self, x: &B::Tensor, targets: &B::Tokens) -> Result<B::Tensor> {
        self.backend().token_logprobs(&self.trunk.final_norm(x)?, &self.lm_head, targets)
    }

    /// Logits of hidden rows before the final norm: `[rows, vocab_size]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.trunk.head(x, &self.lm_head, None)
    }
}

impl<B: Cache> CausalLm<B> {
    /// Logits of the last row of each segment, which is appended to its sequence in the cache:
    /// `[segments, vocab_size]`.
    ///
    /// # Errors
    /// When the batch does not fit the cache, or the device fails.
    pub fn forward_cached(&self, tokens: &B::Tokens, segments: &Segments, cache: &mut B::KvCache) -> Result<B::Tensor> {
        let mut x = self.trunk.forward(tokens, segments, &mut Cached(cache))?;
        if segments.len() < segments.rows() {
            x = self.backend().select_rows(&x, &segments.last_rows())?;
        }
        self.logits(&x)
    }
}
