//! `cargo xtask site`: builds the page and has `paddock site` write it with models.

use std::path::PathBuf;
use std::process::Command;

use xtask::{Result, default_model, page, process, tools, workspace};

/// Which models, and where to.
#[derive(clap::Args)]
pub struct Options {
    /// Chat model: a Hugging Face folder, a web pack or a GGUF file; may be repeated [default: the default model]
    #[arg(long, value_name = "PATH")]
    model: Vec<PathBuf>,
    /// Score model; may be repeated
    #[arg(long, value_name = "PATH")]
    score: Vec<PathBuf>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The address at which the site will be, for the links that are printed
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

/// Builds the page and writes the site.
pub fn run(options: &Options) -> Result<()> {
    tools::ensure()?;
    let models = if options.model.is_empty() { vec![default_model::ensure()?] } else { options.model.clone() };
    eprintln!("Building the page …");
    page::build()?;
    let mut site = Command::new(workspace::paddock(true)?);
    site.arg("site").arg("--page").arg(workspace::dist()).arg("--output").arg(&options.output);
    for (flag, paths) in [("--model", &models), ("--score", &options.score)] {
        paths.iter().for_each(|path| {
            site.arg(flag).arg(path);
        });
    }
    if let Some(address) = &options.address {
        site.args(["--address", address]);
    }
    process::run(&mut site)
}
