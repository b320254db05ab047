//! Supervised fine-tuning, from a base model and a file of examples to a folder.

mod evaluate;
mod examples;
mod prompt_format;
mod samples;
mod show;

use std::path::Path;

use paddock_learn::data::add_missing_tokens;
use paddock_learn::objective::{Sft, SftOptions};
use paddock_learn::{Adjoint, Store, Tape, TapeOptions};

use crate::Result;
use crate::run::checkpoint::{Kept, TrainedModel};
use crate::run::{RunSettings, SftSettings};
use crate::training::{Data, Evaluated, Kind, Observer, Place, Runs, StartModel, Step, Stepped, Task};
pub use evaluate::{Evaluation, evaluate};
use examples::Examples;
use prompt_format::prompt_format;
use samples::Samples;
pub use show::show_examples;

/// `paddock sft`.
#[derive(Debug)]
pub struct FineTuning;

impl Kind for FineTuning {
    type Settings = SftSettings;
    type Task<B: Runs, S: Store<B>> = FineTuningTask<B, S>;

    fn show_examples(settings: &SftSettings, count: usize) -> Result<(String, Option<String>)> {
        show_examples(settings, count)
    }
}

/// A model that is being fine-tuned.
pub struct FineTuningTask<B: Adjoint, S: Store<B>> {
    trained: TrainedModel<B, Sft<B, S>, S>,
    micro_batch_tokens: usize,
    examples: Examples,
    eval: Option<Examples>,
    samples: Option<Samples>,
}

/// The examples of a fine-tuning run, and what it is evaluated on.
pub struct FineTuningData {
    examples: Examples,
    eval: Option<Examples>,
    samples: Option<Samples>,
    /// Tokens that the model is to know.
    vocab_size: usize,
}

impl Data for FineTuningData {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn tokens(&self) -> u64 {
        self.examples.tokens()
    }

    fn digest(&self) -> String {
        self.examples.digest()
    }
}

impl<B: Adjoint, S: Store<B>> Kept for FineTuningTask<B, S> {
    fn leads(&self) -> bool {
        self.trained.leads()
    }

    async fn write_model(&self, folder: Option<&Path>) -> Result<()> {
        self.trained.write_model(folder).await
    }

    async fn write_state(&self, folder: Option<&Path>) -> Result<()> {
        self.trained.write_state(folder).await
    }

    async fn read_state(&mut self, folder: &Path) -> Result<()> {
        self.trained.read_state(folder).await
    }
}

impl<B: Runs, S: Store<B>> Task<B, S> for FineTuningTask<B, S> {
    type Settings = SftSettings;
    type Data = FineTuningData;

    const LOSS_IS_NLL: bool = true;

    async fn read(
        settings: &SftSettings,
        model: &mut StartModel,
        place: &Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<FineTuningData> {
        let run = &settings.run;
        let context = model.context();
        let mut vocab_size = model.checkpoint.config().vocab_size;
        let mut added = Vec::new();
        if settings.add_missing_tokens {
            added = add_missing_tokens(&mut model.tokenizer)?;
            vocab_size = vocab_size.max(model.tokenizer.vocab_size());
        }
        let tokenizer = &model.tokenizer;
        model.description.add_tokens(&added, tokenizer, vocab_size)?;
        let format = prompt_format(&run.data, run.template)?;
        let begins = tokenizer.encode("", true)?.first().copied();
        if let Some(template) = format.jinja(begins.is_some() && begins == tokenizer.bos()) {
            model.description.set_chat_template(&template);
        }
        if context < run.max_length {
            observer.note(&format!("examples are cut after {context} tokens, which is the model's context"));
        }
        let mut read = |path| Examples::read(path, run, tokenizer, vocab_size, context, observer);
        let (examples, eval) = place
            .first_rank_first(|| Ok((read(&run.data)?, run.eval_data.as_deref().map(&mut read).transpose()?)))
            .await?;
        let ends = &model.checkpoint.config().eos_token_ids;
        let samples = settings.sample_prompts.as_deref();
        let samples = samples.map(|path| Samples::read(path, format, tokenizer, ends, context)).transpose()?;
        Ok(FineTuningData { examples, eval, samples, vocab_size })
    }

    async fn load(
        settings: &SftSettings,
        mut model: StartModel,
        data: FineTuningData,
        place: Place<B, S>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let memory = &settings.run.memory;
        let FineTuningData { examples, eval, samples, vocab_size } = data;
        let options = SftOptions {
            tape: tape_options(&settings.run),
            vocab_size,
            lora: memory.adapters.lora.clone(),
            seed: settings.run.seed,
            normalization: settings.loss_normalization,
        };
        let Place { backend, store, sharding } = place;
        let mut progress = |at| observer.loading(at);
        let trainer = Sft::load(backend, store, sharding, &mut model.checkpoint, options, &mut progress).await?;
        let trained = TrainedModel { trainer, description: model.description };
        Ok(Self { trained, micro_batch_tokens: memory.micro_batch_tokens, examples, eval, samples })
    }

    fn tape(&self) -> &Tape<B, S> {
        self.trained.trainer.tape()
    }

    fn parameters(&self) -> [u64; 2] {
        self.trained.parameters()
    }

    async fn step(&mut self, step: &Step) -> Result<Stepped> {
        let batch = self.examples.share(&step.examples, self.trained.place(), self.micro_batch_tokens);
        let report = self.trained.trainer.step(&batch, &step.optimizer).await?;
        Ok(Stepped {
            loss: (batch.targets > 0).then_some(report.loss),
            grad_norm: report.grad_norm,
            tokens: batch.tokens,
            values: Vec::new(),
        })
    }

    /// Shows what the model answers, and how well it predicts the evaluation examples.
    async fn evaluate(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Option<Evaluated>> {
        if let Some(samples) = &self.samples {
            for (prompt, answer) in samples.answers(self.trained.trainer.objective()).await? {
                observer.sample(step, prompt, &answer);
            }
        }
        let Some(eval) = &self.eval else { return Ok(None) };
        let all: Vec<usize> = (0..eval.len()).collect();
        let share = eval.share(&all, self.trained.place(), self.micro_batch_tokens);
        let loss = self.trained.trainer.evaluate(&share).await?;
        Ok(Some(Evaluated { loss, values: Vec::new() }))
    }
}

/// How a run's tape keeps weights and activations.
pub(crate) fn tape_options(run: &RunSettings) -> TapeOptions {
    TapeOptions {
        checkpointing: run.memory.gradient_checkpointing,
        precision: run.memory.precision(),
        moments: run.memory.moments,
        frozen: run.memory.adapters.lora.is_some(),
    }
}
