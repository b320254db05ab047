//! `paddock reward-head`: trains a reward head on a frozen model.

use std::path::{Path, PathBuf};

use clap::Args;
use paddock_engine::backend::Backend;
use paddock_engine::config::{ScoreFamily, TrunkReference};
use paddock_engine::prompt::{Template, TemplateKind};
use paddock_engine::score::template_kind;
use paddock_learn::objective::{HeadEvaluation, PairFeatures};
use serde_json::json;

use super::console;
use super::device::OpenDevice;
use super::options::{ModelOptions, model_name};
use super::progress::Counter;
use crate::align::reward_head::{Extractor, RewardHeadSettings, train};
use crate::files::{AtomicFolder, read_pairs};
use crate::{Error, Result};

/// Train a reward head on a frozen model, from pairs of a better and a worse answer
#[derive(Debug, Args)]
pub(super) struct RewardHeadCommand {
    #[command(flatten)]
    model: ModelOptions,
    /// Pairs, as JSON or JSON lines: prompt with response_0, response_1 and better_response_id, or chosen and rejected
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Pairs to evaluate on, which are not trained on
    #[arg(long, value_name = "FILE")]
    eval_data: Option<PathBuf>,
    /// End at a pair that cannot be used, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// The folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The model's name for those who load the head [default: the name of its folder or file]
    #[arg(long, value_name = "TEXT")]
    trunk_name: Option<String>,
    /// How a conversation becomes text: auto (the model's own chat template, else Safe-RLHF's), safe-rlhf, alpaca, none;
    /// scoring must use the same
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// Write the tokenizer's EOS after each answer
    #[arg(long)]
    append_eos: bool,
    /// Tokens after which a conversation is cut
    #[arg(long, default_value_t = 512, value_name = "N")]
    max_length: usize,
    #[command(flatten)]
    settings: RewardHeadSettings,
}

impl RewardHeadCommand {
    pub fn run(&self) -> Result<()> {
        match self.model.device.open()? {
            OpenDevice::Cpu(cpu) => pollster::block_on(self.train(&cpu)),
            OpenDevice::Wgpu(gpu) => pollster::block_on(self.train(&gpu)),
            OpenDevice::Cuda(cuda) => pollster::block_on(self.train(&cuda)),
        }
    }

    async fn train<B: Backend>(&self, backend: &B) -> Result<()> {
        let output = &self.output;
        if output.exists() {
            return Err(Error::Request(format!("{} exists; name another output", output.display())));
        }
        let chat = self.model.load(backend).await?;
        let tokenizer = chat.tokenizer();
        // The same template that scoring with this head will use.
        let template = Template::new(template_kind(self.template, ScoreFamily::SafeRlhf, tokenizer), tokenizer)?;
        let eos = match self.append_eos {
            true => tokenizer.eos().and_then(|id| tokenizer.token(id)).unwrap_or_default(),
            false => String::new(),
        };
        let trunk = chat.model().trunk();
        let max_length = self.max_length.min(chat.config().max_position_embeddings);
        let extractor = Extractor { trunk, tokenizer, template: &template, eos: &eos, max_length };
        let features = self.read(&extractor, &self.data).await?;
        let eval_features = match &self.eval_data {
            Some(path) => Some(self.read(&extractor, path).await?),
            None => None,
        };

        let mut metrics = String::new();
        let mut log = |step, at: HeadEvaluation| {
            metrics.push_str(&format!("{}\n", json!({ "step": step, "loss": at.loss, "accuracy": at.accuracy })));
        };
        let (head, trainer) = train(&features, &self.settings, &mut log).await?;
        let compare = async |features| trainer.objective().compare(trainer.tape(), features).await;
        tell(&format!("{} pairs", features.pairs()), compare(&features).await?);
        if let Some(eval) = &eval_features {
            tell(&format!("{} pairs to evaluate on", eval.pairs()), compare(eval).await?);
        }

        let name = model_name(&self.model.model, self.trunk_name.as_deref())?;
        let reference = TrunkReference { name, fingerprint: trunk.fingerprint().to_string() };
        let folder = AtomicFolder::create(output)?;
        head.write(folder.path(), chat.config(), &reference)?;
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, metrics).map_err(Error::path("write", &path))?;
        folder.commit()?;
        Ok(())
    }

    /// The features of a file's pairs; those that cannot be used are left out, and noted.
    async fn read<B: Backend>(&self, extractor: &Extractor<'_, B>, path: &Path) -> Result<PairFeatures> {
        let pairs = read_pairs(path)?.and_then(|pair| extractor.tokens(pair));
        let (tokens, left_out) = pairs.checked(self.strict)?;
        if let Some(note) = left_out {
            console::note(note);
        }
        let mut counter = Counter::new("reading", "conversations", 2 * tokens.len());
        extractor.features(&tokens, &mut |done| counter.update(done)).await
    }
}

fn tell(what: &str, HeadEvaluation { loss, accuracy }: HeadEvaluation) {
    console::note(format_args!("{what}: loss {loss:.4}, accuracy {:.1} %", 100.0 * accuracy));
}
