//! `cargo xtask serve`: from a fresh checkout to the page.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::thread;

use xtask::server::{Server, Site};
use xtask::{Result, default_model, models, page, tools, workspace};

/// What to serve, and where.
#[derive(clap::Args)]
pub struct Options {
    /// A Hugging Face folder or GGUF file to serve instead of the default model.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Port; when it is taken, the next free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
}

/// Runs until it is interrupted.
pub fn run(options: &Options) -> Result<()> {
    tools::ensure()?;
    let name = match &options.model {
        Some(path) => {
            let name = models::name(path)?;
            models::pack(path, &name)?;
            name
        }
        None => {
            models::pack(&default_model::ensure()?, default_model::NAME)?;
            default_model::NAME.to_string()
        }
    };
    models::write_index(&workspace::paddock(false)?, &workspace::models(), &name)?;
    eprintln!("Building the page …");
    page::build()?;
    let folders = [(String::new(), workspace::dist()), ("models".to_string(), workspace::models())].into();
    let server = Server::start(Site { folders, ..Site::default() }, options.host, options.port)?;
    println!("Paddock with {name}: {} (Ctrl-C stops)", server.url());
    loop {
        thread::park();
    }
}
