//! `paddock convert`: a model of any format as a Hugging Face folder, or as a GGUF file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::BinaryBytes;

use super::console;
use super::options::{check_folder, model_name, named_gguf};
use super::progress::ProgressLine;
use crate::files::{self, DtypeChoice, GgufType};
use crate::{Error, Result};

/// Write a model of any format as a Hugging Face folder of safetensors, or as a GGUF file for llama.cpp
#[derive(Debug, Args)]
pub(super) struct Convert {
    /// Meta's folder (consolidated.*.pth), a folder of PyTorch or safetensors files, a web pack, or a .gguf file
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
    /// What to write: hf (a Hugging Face folder) or gguf (one file) [default: gguf for an output named .gguf, otherwise hf]
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<Target>,
    /// The folder or the file to write; an interrupted run of a folder is continued
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Number format to write: keep (in a folder, GGUF's quantised formats become f32), f32, f16, bf16; in a GGUF file also
    /// q8_0 and q4_0
    #[arg(long, default_value = "keep", value_name = "TYPE")]
    dtype: String,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Hf,
    Gguf,
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
    /// Refuses flags that make no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.target() == Target::Hf {
            check_folder(&self.output)?;
        }
        let checked = match self.target() {
            Target::Hf => self.dtype.parse::<DtypeChoice>().map(drop),
            Target::Gguf => self.dtype.parse::<GgufType>().map(drop),
        };
        checked.map_err(|problem| format!("--dtype {}: {problem}", self.dtype))
    }

    /// What is asked for, or else what the output's name says.
    fn target(&self) -> Target {
        self.to.unwrap_or(if named_gguf(&self.output) { Target::Gguf } else { Target::Hf })
    }

    pub fn run(&self) -> Result<()> {
        let written = {
            let mut progress = ProgressLine::new("converting");
            let mut update = |at| progress.update(at);
            let (from, output) = (&self.from, &self.output);
            match self.target() {
                Target::Hf => {
                    let dtype = self.dtype.parse().map_err(Error::Request)?;
                    files::convert(from, output, dtype, self.threads.count(), &mut update)?
                }
                Target::Gguf => {
                    let kind = self.dtype.parse().map_err(Error::Request)?;
                    files::convert_to_gguf(from, output, &model_name(from, None)?, kind, &mut update)?
                }
            }
        };
        for note in &written.notes {
            console::note(note);
        }
        console::note(format_args!("{}: {}", self.output.display(), BinaryBytes(written.bytes)));
        Ok(())
    }
}
