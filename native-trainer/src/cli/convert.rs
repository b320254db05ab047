//! `paddock convert`: a model of any format as a Hugging Face folder.

use std::path::PathBuf;

use clap::Args;
use indicatif::BinaryBytes;

use super::console;
use super::progress::ProgressLine;
use crate::Result;
use crate::files::{self, DtypeChoice};

/// Write Meta, PyTorch and GGUF models as a Hugging Face folder of safetensors
#[derive(Debug, Args)]
pub(super) struct Convert {
    /// Meta's folder (consolidated.*.pth), a folder of PyTorch or safetensors files, a web pack, or a .gguf file
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// The folder to write; an interrupted run is continued
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number format to write: keep (GGUF's quantised formats become f32), f32, f16 or bf16
    #[arg(long, default_value_t = DtypeChoice::Keep, value_name = "TYPE")]
    dtype: DtypeChoice,
    #[command(flatten)]
    threads: Threads,
}

/// The number of threads.
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
        console::note(format_args!("{}: {}", self.output.display(), BinaryBytes(written.bytes)));
        Ok(())
    }
}
