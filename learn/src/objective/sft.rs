//! Supervised fine-tuning: the mean of -log p over the tokens to be learned.

use paddock_engine::ModelConfig;
use paddock_engine::backend::Device;
use paddock_engine::model::{CausalLm, LoadProgress};
use paddock_engine::weights::{Checkpoint, Source};
use serde::{Deserialize, Serialize};

use super::{Measured, Objective, Tuned};
use crate::collective::Sharding;
use crate::data::{MicroBatch, Share};
use crate::lora::Lora;
use crate::store::Store;
use crate::tape::{Tape, TapeOptions, Var};
use crate::{Adjoint, Result, Trainer};

/// What the loss of a step is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossNormalization {
    /// All target tokens of the step, however it is cut into micro-batches.
    #[default]
    Global,
    /// The micro-batches' own means, as the original trainer had it.
    MicroBatch,
}

/// A causal language model that learns to continue texts.
pub struct Sft<B: Adjoint, S: Store<B> = B> {
    model: CausalLm<Tape<B, S>>,
    config: ModelConfig,
    lora: Option<Lora>,
    normalization: LossNormalization,
}

/// How a model is held while it is fine-tuned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SftOptions {
    /// How weights and activations are kept; [`TapeOptions::frozen`] follows from `lora`.
    pub tape: TapeOptions,
    /// Tokens that the model is to know, if they are more than it knows: the embedding and the head get rows for those
    /// that were added, each the mean of the old.
    pub vocab_size: usize,
    /// Train adapters instead of the model.
    pub lora: Option<Lora>,
    /// Seed of the adapters' first values.
    pub seed: u64,
    /// What the loss is the mean of.
    pub normalization: LossNormalization,
}

impl<B: Adjoint, S: Store<B>> Sft<B, S> {
    /// Loads a model to train all of it, or adapters on it; alone, or with the ranks of `sharding`.
    ///
    /// # Errors
    /// What the checkpoint or the device report.
    pub async fn load<Bytes: Source>(
        backend: B,
        store: S,
        sharding: Option<Sharding<B>>,
        checkpoint: &mut Checkpoint<Bytes>,
        options: SftOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Trainer<B, Self, S>> {
        let SftOptions { tape, vocab_size, lora, seed, normalization } = options;
        let tape = TapeOptions { frozen: lora.is_some(), ..tape };
        let tape = Tape::with_store(backend, store, sharding, tape);
        let mut model = CausalLm::load(&tape, checkpoint, progress).await?;
        let mut config = model.config().clone();
        config.vocab_size = config.vocab_size.max(vocab_size);
        for param in config.params().iter().filter(|param| is_vocabulary(&param.name)) {
            tape.grow_rows(&param.name, param.shape[0]).await?;
        }
        if let Some(lora) = &lora {
            lora.attach(&mut model, seed)?;
        }
        Ok(Trainer::new(tape, Self { model, config, lora, normalization }))
    }

    /// The model.
    pub fn model(&self) -> &CausalLm<Tape<B, S>> {
        &self.model
    }

    fn logprobs(&self, tape: &Tape<B, S>, micro: &MicroBatch) -> Result<Var<B>> {
        let (ids, targets) = (tape.tokens(&micro.ids)?, tape.tokens(&micro.targets)?);
        self.model.token_logprobs(&ids, &micro.segments, &micro.rows, &targets)
    }
}

impl<B: Adjoint, S: Store<B>> Tuned for Sft<B, S> {
    /// With the rows that were added.
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }
}

impl<B: Adjoint, S: Store<B>> Objective<B, S> for Sft<B, S> {
    type Batch = Share;
    /// Log-probabilities of the targets of each micro-batch, and what their sum is divided by.
    type Passes = Vec<(Var<B>, usize)>;

    async fn accumulate(&self, tape: &Tape<B, S>, batch: &Share) -> Result<Self::Passes> {
        let mut passes = Vec::new();
        for (micro, counts) in &batch.passes {
            let divisor = match self.normalization {
                LossNormalization::Global => batch.targets,
                LossNormalization::MicroBatch => micro.rows.len() * batch.micro_batches,
            };
            tape.set_row_keys(Some(&micro.keys))?;
            let logprobs = self.logprobs(tape, micro)?;
            // A pass that only keeps ranks in step goes the same way and adds nothing.
            let seed = if *counts { -1.0 / divisor as f32 } else { 0.0 };
            tape.backward(&[(&logprobs, vec![seed; micro.rows.len()])]).await?;
            if *counts {
                passes.push((logprobs, divisor));
            }
        }
        tape.set_row_keys(None)?;
        Ok(passes)
    }

    async fn loss(&self, tape: &Tape<B, S>, passes: Self::Passes) -> Result<Measured> {
        let mut loss = 0.0;
        for (logprobs, divisor) in &passes {
            let sum: f64 = tape.read(logprobs).await?.into_iter().map(f64::from).sum();
            loss -= sum / *divisor as f64;
        }
        Ok(loss.into())
    }

    /// The mean over the target tokens of all ranks.
    async fn evaluate(&self, tape: &Tape<B, S>, batch: &Share) -> Result<f64> {
        let mut sum = 0.0;
        for (micro, counts) in &batch.passes {
            let logprobs = self.logprobs(tape, micro)?;
            if *counts {
                sum -= tape.read(&logprobs).await?.into_iter().map(f64::from).sum::<f64>();
            }
        }
        Ok(sum / batch.targets.max(1) as f64)
    }
}

/// Whether a tensor has one row for each token.
fn is_vocabulary(name: &str) -> bool {
    name.ends_with("embed_tokens.weight") || name == "lm_head.weight"
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;
    use pollster::block_on;

    use super::*;
    use crate::data::Example;
    use crate::testing::{checkpoint, log_prob, near};

    fn trainer(normalization: LossNormalization, lora: Option<Lora>) -> Trainer<Cpu, Sft<Cpu>> {
        let cpu = Cpu::with_threads(1);
        let options = SftOptions { normalization, lora, ..SftOptions::default() };
        block_on(Sft::load(cpu.clone(), cpu, None, &mut checkpoint(), options, &mut |_| {})).unwrap()
    }

    /// Micro-batches of 3 and of 1 token to learn.
    #[test]
    fn micro_batches_count_by_their_tokens_or_all_the_same() {
        let examples = [
            Example { ids: vec![1, 5, 7, 3], targets: vec![1, 2, 3] },
            Example { ids: vec![1, 9, 4], targets: vec![2] },
        ];
        let batch: Vec<&Example> = examples.iter().collect();
        let share = Share::whole(&batch, 4);
        assert_eq!(share.passes.len(), 2);
        let [long, short] = [0, 1].map(|at| -log_prob(&examples[at].ids, &examples[at].targets));
        for (normalization, expected) in [
            (LossNormalization::Global, (long + short) / 4.0),
            (LossNormalization::MicroBatch, (long / 3.0 + short) / 2.0),
        ] {
            let trainer = trainer(normalization, None);
            let (tape, sft) = (trainer.tape(), trainer.objective());
            let passes = block_on(sft.accumulate(tape, &share)).unwrap();
            near(block_on(sft.loss(tape, passes)).unwrap().loss, expected, 1e-5);
            near(block_on(trainer.evaluate(&share)).unwrap(), (long + short) / 4.0, 1e-5);
        }
    }

    #[test]
    fn with_adapters_the_model_is_frozen() {
        let trainer = trainer(LossNormalization::Global, Some(Lora::default()));
        assert!(trainer.tape().parameters().iter().all(|info| info.trained == info.label.contains(".lora_")));
    }

    #[test]
    fn the_embedding_and_the_head_have_a_row_for_each_token() {
        let names = ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "model.lm_head.weight"];
        assert_eq!(names.map(is_vocabulary), [true, true, false, false]);
    }
}
