//! `paddock convert`: a model of any format as a Hugging Face folder.

use std::path::PathBuf;

use clap::Args;

use super::console::{self, bytes};
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{self, DtypeChoice};

/// Write Meta, PyTorch and GGUF models as a Hugging Face folder of safetensors
#[derive(Debug, Args)]
pub(super) struct Convert {
    /// Meta's folder (consolidated.*.pth), a folder of PyTorch or safetensors files, a web pack, or a .gguf file
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// The folder to write; an interrupted run goes on where it was
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The numbers to write: keep (what GGUF quantised becomes f32), f32, f16 or bf16
    #[arg(long, default_value_t = DtypeChoice::Keep, value_name = "TYPE")]
    dtype: DtypeChoice,
    #[command(flatten)]
    threads: Threads,
}

/// How many threads work.
#[derive(Debug, Args)]
pub(super) struct Threads {
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Threads {
    pub fn count(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

impl Convert {
    pub fn run(&self) -> Result<()> {
        let written = {
            let mut progress = ProgressLine::new("converting");
            let mut update = |at| progress.update(at);
            files::convert(&self.from, &self.output, self.dtype, self.threads.count(), &mut update)?
        };
        for note in &written.notes {
            console::note(note);
        }
        console::note(format_args!("{}: {}", self.output.display(), bytes(written.bytes)));
        Ok(())
    }
}
