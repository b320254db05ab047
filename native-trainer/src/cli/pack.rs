//! `paddock pack`: a model as a folder that any static host can serve to the page.

use std::path::PathBuf;

use clap::Args;
use indicatif::BinaryBytes;
use paddock_engine::prompt::TemplateKind;
use paddock_engine::weights::pack::{PackOptions, Quantize};

use super::console;
use super::options::model_name;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{self, Packed};

/// Pack a model for the web: shards, manifest, SHA-256
#[derive(Debug, Args)]
pub(super) struct Pack {
    /// Model folder (Hugging Face or web pack) or .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// A low-rank adapter (LoRA) of the model, in PEFT's format, which is merged into its weights
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The folder to write; an older pack there is replaced
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How to store the matrices: q4, q8, f16, or keep them as they are
    #[arg(long, default_value_t = Quantize::Keep, value_name = "KIND")]
    quantize: Quantize,
    /// The prompt format that the model was made for: auto, none, alpaca, safe-rlhf
    #[arg(long, default_value_t = TemplateKind::Auto, value_name = "NAME")]
    template: TemplateKind,
    /// The model's name for people [default: the name of its folder or file]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// What it may be used for, for people [default: what the model's README.md or GGUF header says]
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    /// Where it comes from, for people
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
}

impl Pack {
    pub fn run(&self) -> Result<()> {
        let options = PackOptions {
            name: model_name(&self.model, self.name.as_deref())?,
            template: self.template,
            license: self.license.clone().or_else(|| files::license(&self.model)),
            source: self.source.clone(),
        };
        let packed = {
            let mut progress = ProgressLine::new("packing");
            let adapter = self.adapter.as_deref();
            files::pack(&self.model, adapter, &self.output, &options, self.quantize, &mut |at| progress.update(at))?
        };
        let Packed { manifest, bytes: size, notes } = packed;
        for note in notes {
            console::note(note);
        }
        let shards = manifest.shards.len();
        let (output, plural) = (self.output.display(), if shards == 1 { "" } else { "s" });
        console::note(format_args!(
            "{output}: {}, {} in {shards} shard{plural}, mostly {}",
            manifest.name,
            BinaryBytes(size),
            manifest.quantization
        ));
        Ok(())
    }
}
