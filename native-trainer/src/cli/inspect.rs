//! `paddock inspect`: what a model is made of, and what it takes to run it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use paddock_engine::ModelConfig;
use paddock_engine::config::{Head, RopeScaling};
use paddock_engine::prompt::TemplateKind;
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::pack::Quantize;
use paddock_engine::weights::{Checkpoint, Format, TensorInfo};

use super::inspect_json::Inspected;
use super::plan;
use crate::Result;
use crate::files::ModelSource;

/// Show a model's architecture, tensors, tokenizer, template and memory
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Model folder (Hugging Face or web pack) or .gguf file; for --plan, a folder that only holds config.json is enough
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Context length in tokens [default: the model's own, at most 4096]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Show every GPU buffer, its binding and the totals instead
    #[arg(long)]
    plan: bool,
    /// With --plan: how the matrices are stored (q4, q8, f16, keep) [default: keep, or q4 for a config.json alone]
    #[arg(long, value_name = "KIND", requires = "plan")]
    quantize: Option<Quantize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(&self) -> Result<()> {
        if self.plan {
            plan::print(&self.model, self.quantize, self.context, self.json)
        } else {
            pollster::block_on(self.describe())
        }
    }

    async fn describe(&self) -> Result<()> {
        let mut checkpoint = Checkpoint::open(ModelSource::open(&self.model)?).await?;
        let tokenizer = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
        let config = checkpoint.config();
        let context = config.context(self.context)?;
        let mut output = io::stdout().lock();
        if self.json {
            let inspected = Inspected {
                format: checkpoint.format(),
                config,
                tokenizer: &tokenizer,
                template: checkpoint.template(),
                weights: checkpoint.total_bytes(),
                context,
                tensors: checkpoint.tensors().collect(),
            };
            return Ok(writeln!(output, "{}", inspected.to_json()?)?);
        }
        let format = match checkpoint.format() {
            Format::HuggingFace => "Hugging Face folder",
            Format::Gguf => "GGUF",
            Format::WebPack => "web pack",
        };
        writeln!(output, "format        {format}")?;
        for note in checkpoint.notes() {
            writeln!(output, "note          {note}")?;
        }
        write_architecture(&mut output, config)?;
        write_tokenizer(&mut output, &tokenizer, config, checkpoint.template())?;
        write_memory(&mut output, checkpoint.total_bytes(), config, context)?;
        write_tensors(&mut output, checkpoint.tensors())
    }
}

fn write_architecture(output: &mut impl Write, config: &ModelConfig) -> Result<()> {
    let head = match &config.head {
        Head::Tied => "tied to the embedding".to_string(),
        Head::Untied => "its own".to_string(),
        Head::Score(head) => match &head.trunk {
            None => format!("scores, {} a token", head.score_dim),
            Some(trunk) => format!("scores, {} a token, without the trunk ({})", head.score_dim, trunk.name),
        },
    };
    let scaling = match config.rope_scaling {
        _ if config.rope_factors.is_some() => "factors from the file".to_string(),
        RopeScaling::Default => "none".to_string(),
        RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
        RopeScaling::Llama3 { factor, .. } => format!("llama3, factor {factor}"),
    };
    let biases =
        [(config.attention_bias, "q, k and v"), (config.attention_output_bias, "o"), (config.mlp_bias, "feed-forward")];
    let biases: Vec<&str> = biases.iter().filter(|(present, _)| *present).map(|(_, name)| *name).collect();
    let biases = if biases.is_empty() { "none".to_string() } else { biases.join(", ") };
    writeln!(output, "architecture  LLaMA, {} parameters", HumanCount(config.parameter_count()))?;
    writeln!(output, "  blocks        {}", config.num_hidden_layers)?;
    writeln!(output, "  hidden        {}", config.hidden_size)?;
    writeln!(output, "  feed-forward  {}", config.intermediate_size)?;
    writeln!(
        output,
        "  heads         {} of {}, {} of keys and values",
        config.num_attention_heads, config.head_dim, config.num_key_value_heads
    )?;
    writeln!(output, "  biases        {biases}")?;
    writeln!(output, "  vocabulary    {}, output projection {head}", config.vocab_size)?;
    writeln!(output, "  context       {}", config.max_position_embeddings)?;
    writeln!(output, "  rope          theta {}, scaling {scaling}", config.rope_theta)?;
    writeln!(output, "  norm epsilon  {:e}", config.rms_norm_eps)?;
    Ok(())
}

fn write_tokenizer(
    output: &mut impl Write,
    tokenizer: &Tokenizer,
    config: &ModelConfig,
    template: TemplateKind,
) -> Result<()> {
    let named = |id: u32| match tokenizer.token(id) {
        Some(token) => format!("{id} {token}"),
        None => format!("{id} (not in the vocabulary)"),
    };
    let mut ends: Vec<u32> = config.eos_token_ids.clone();
    ends.extend(tokenizer.eos().filter(|id| !config.eos_token_ids.contains(id)));
    let ends: Vec<String> = ends.into_iter().map(named).collect();
    writeln!(output, "tokenizer     {}, {} tokens", tokenizer.kind(), tokenizer.vocab_size())?;
    writeln!(output, "  bos           {}", tokenizer.bos().map_or("none".to_string(), named))?;
    writeln!(output, "  eos           {}", if ends.is_empty() { "none".to_string() } else { ends.join(", ") })?;
    for note in tokenizer.notes() {
        writeln!(output, "  note          {note}")?;
    }
    if template != TemplateKind::Auto {
        writeln!(output, "made for      {template}")?;
    }
    match tokenizer.chat_template() {
        None => writeln!(output, "template      none")?,
        Some(template) => {
            writeln!(output, "template      the model's own")?;
            for line in template.lines() {
                writeln!(output, "  {line}")?;
            }
        }
    }
    Ok(())
}

fn write_memory(output: &mut impl Write, weights: u64, config: &ModelConfig, context: usize) -> Result<()> {
    let cache = config.kv_bytes(context);
    writeln!(output, "memory        {} on the CPU (--plan shows a GPU's)", BinaryBytes(weights + cache))?;
    writeln!(output, "  weights       {}", BinaryBytes(weights))?;
    writeln!(output, "  cache         {} for {context} tokens", BinaryBytes(cache))?;
    Ok(())
}

fn write_tensors<'a>(output: &mut impl Write, tensors: impl Iterator<Item = &'a TensorInfo>) -> Result<()> {
    let tensors: Vec<&TensorInfo> = tensors.collect();
    writeln!(output, "tensors       {}", tensors.len())?;
    let width = tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    for tensor in tensors {
        let [rows, cols] = tensor.shape;
        let (name, shape, encoding) = (&tensor.name, format!("{rows} × {cols}"), format!("{:?}", tensor.encoding));
        writeln!(
            output,
            "  {name:width$}  {shape:>15}  {encoding:4}  {:>10}",
            BinaryBytes(tensor.bytes()?).to_string()
        )?;
    }
    Ok(())
}
