//! How well a model predicts examples.

use std::path::Path;

use paddock_engine::backend::Operations;
use paddock_engine::model::CausalLm;
use paddock_engine::tokenizer::Tokenizer;
use serde::Serialize;

use super::examples::Examples;
use super::prompt_format;
use crate::Result;
use crate::files::open_model;
use crate::run::RunSettings;
use crate::training::Observer;

/// What a model makes of the tokens that examples are to teach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean of `-log p` over the target tokens.
    pub loss: f64,
    /// e to the power of it.
    pub perplexity: f64,
    /// Examples, also those without a target token.
    pub examples: usize,
    /// Their target tokens.
    pub targets: usize,
}

/// The mean loss of the model `settings.model`, with an adapter if one is named, over the examples `settings.data`, encoded as a run encodes them.
///
/// # Errors
/// When the model or the examples cannot be read, or the device fails.
pub async fn evaluate<B: Operations>(
    backend: &B,
    settings: &RunSettings,
    adapter: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    // Refuses what a run would refuse.
    prompt_format(&settings.data, settings.template)?;
    let mut checkpoint = open_model(&settings.model, adapter)?;
    let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
    let (vocab, context) = (checkpoint.config().vocab_size, checkpoint.config().max_position_embeddings);
    let data: &Path = &settings.data;
    let examples = Examples::read(data, settings, &tokenizer, vocab, context, observer)?;
    let model = CausalLm::load(backend, &mut checkpoint, &mut |at| observer.loading(at)).await?;
    let all: Vec<usize> = (0..examples.len()).collect();
    let share = examples.share(&all, [0, 1], settings.memory.micro_batch_tokens);
    let mut sum = 0.0;
    for (micro, _) in &share.passes {
        let (ids, targets) = (backend.tokens(&micro.ids)?, backend.tokens(&micro.targets)?);
        let logprobs = model.token_logprobs(&ids, &micro.segments, &micro.rows, &targets)?;
        sum -= backend.read(&logprobs).await?.into_iter().map(f64::from).sum::<f64>();
    }
    let loss = sum / share.targets.max(1) as f64;
    Ok(Evaluation { loss, perplexity: loss.exp(), examples: examples.len(), targets: share.targets })
}
