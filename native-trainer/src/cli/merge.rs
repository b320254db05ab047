//! `paddock merge`: adds an adapter to a model's weights.

use std::path::PathBuf;

use clap::Args;

use super::console;
use super::options::check_folder;
use super::progress::Counter;
use crate::Result;
use crate::files::{Dtype, merge};

/// Add a low-rank adapter (LoRA, as `sft --lora-rank` or PEFT save it) to a model's weights
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// The model that the adapter was trained on: a folder or a .gguf file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The adapter's folder
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Where the merged model goes
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number format of the weights: f32, f16, bf16
    #[arg(long, default_value_t = Dtype::F32, value_name = "NAME")]
    dtype: Dtype,
}

impl Merge {
    /// Refuses an output that nobody can want.
    pub fn check(&self) -> Result<(), String> {
        check_folder(&self.output)
    }

    pub fn run(&self) -> Result<()> {
        let mut counter = None;
        let mut progress = |done, total| {
            counter.get_or_insert_with(|| Counter::new("merging", "tensors", total)).update(done);
        };
        pollster::block_on(merge(&self.model, &self.adapter, &self.output, self.dtype, &mut progress))?;
        drop(counter);
        console::note(format_args!("{}: the merged model", self.output.display()));
        Ok(())
    }
}
