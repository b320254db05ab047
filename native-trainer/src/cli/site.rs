//! `paddock site`: the page with models of one's own, as a folder of static files for any host.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use paddock_engine::weights::pack::{PackOptions, Quantize};

use super::console;
use super::index::write_index;
use super::options::model_name;
use super::progress::ProgressLine;
use crate::files::{self, AtomicFolder};
use crate::{Error, Result};

/// Write a complete static demo: the page, packed models, their list, and links to share
#[derive(Debug, Args)]
pub(super) struct Site {
    /// Chat model: Hugging Face folder, web pack or .gguf file; may be repeated, the first is preselected
    #[arg(long, value_name = "PATH", required = true)]
    model: Vec<PathBuf>,
    /// Score model that rates the answers; may be repeated
    #[arg(long, value_name = "PATH")]
    score: Vec<PathBuf>,
    /// The folder to write; an older site of this command there is replaced
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How to store the matrices: q4, q8, f16, or keep them as they are
    #[arg(long, default_value_t = Quantize::Keep, value_name = "KIND")]
    quantize: Quantize,
    /// The built page [default: dist in the current folder, or page beside this program]
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// The address at which the site will be, for the links that are printed
    #[arg(long, value_name = "ADDRESS", default_value = "http://localhost:8080/")]
    address: String,
}

/// Files without which a folder is no built page.
const PAGE: [&str; 10] = [
    "index.html",
    "start.js",
    "app.js",
    "app_bg.wasm",
    "worker_start.js",
    "worker.js",
    "worker_bg.wasm",
    "data_start.js",
    "data.js",
    "data_bg.wasm",
];

impl Site {
    pub fn run(&self) -> Result<()> {
        let page = self.page()?;
        self.check_output()?;
        let site = AtomicFolder::create(&self.output)?;
        copy_files(&page, site.path())?;
        // GitHub Pages else leaves out what its own generator does not know.
        let marker = site.path().join(".nojekyll");
        fs::write(&marker, "").map_err(Error::path("write", &marker))?;
        let models = site.path().join("models");
        fs::create_dir(&models).map_err(Error::path("create", &models))?;
        let chat = self.pack(&self.model, &models)?;
        let score = self.pack(&self.score, &models)?;
        write_index(&models, chat.first().map(String::as_str))?;
        site.commit()?;
        let mut output = io::stdout().lock();
        for model in &chat {
            writeln!(output, "{}", link(&self.address, &[("model", model)]))?;
            for score in &score {
                writeln!(output, "{}", link(&self.address, &[("model", model), ("score", score)]))?;
            }
        }
        console::note(format_args!("{}: upload all of it; docs/hosting.md says how", self.output.display()));
        Ok(())
    }

    /// The folder of the built page.
    fn page(&self) -> Result<PathBuf> {
        let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join("page")));
        let places = match &self.page {
            Some(page) => vec![page.clone()],
            None => [Some(PathBuf::from("dist")), beside].into_iter().flatten().collect(),
        };
        let is_page = |place: &&PathBuf| PAGE.iter().all(|file| place.join(file).is_file());
        places.iter().find(is_page).cloned().ok_or_else(|| {
            let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            let places = places.join(" and ");
            Error::Request(format!(
                "no built page is in {places}; `cargo xtask site` builds it first, or name its folder with --page"
            ))
        })
    }

    /// Only an older site is replaced.
    fn check_output(&self) -> Result<()> {
        let output = &self.output;
        let is_site = output.join("worker_bg.wasm").is_file() && output.join("models/index.json").is_file();
        let is_empty = || fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
        if !output.exists() || is_site || is_empty() {
            return Ok(());
        }
        Err(Error::Request(format!("{} holds files that are not a site's; name another output", output.display())))
    }

    /// Packs models below `models` and gives their names.
    fn pack(&self, sources: &[PathBuf], models: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for source in sources {
            let name = free_name(models, &model_name(source, None)?);
            let options = PackOptions { name: name.clone(), license: files::license(source), ..PackOptions::default() };
            let mut progress = ProgressLine::new("packing");
            let packed = files::pack(source, None, &models.join(&name), &options, self.quantize, &mut |at| {
                progress.update(at);
            })?;
            drop(progress);
            packed.notes.iter().for_each(console::note);
            names.push(name);
        }
        Ok(names)
    }
}

/// `name`, or with a number behind it when the folder `models` has such a pack.
fn free_name(models: &Path, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_string()).chain(numbered);
    names.find(|name| !models.join(name).exists()).unwrap_or_default()
}

/// Copies the files of the built page. A folder of models there is not the site's.
fn copy_files(page: &Path, site: &Path) -> Result<()> {
    let mut left: BTreeSet<PathBuf> = [PathBuf::new()].into();
    while let Some(folder) = left.pop_first() {
        let from = page.join(&folder);
        for entry in fs::read_dir(&from).map_err(Error::path("read", &from))? {
            let path = entry.map_err(Error::path("read", &from))?.path();
            let name = folder.join(path.file_name().unwrap_or_default());
            if name.as_os_str() == OsStr::new("models") {
                continue;
            }
            let to = site.join(&name);
            if path.is_dir() {
                fs::create_dir(&to).map_err(Error::path("create", &to))?;
                left.insert(name);
            } else {
                fs::copy(&path, &to).map_err(Error::path("copy", &path))?;
            }
        }
    }
    Ok(())
}

/// A link that opens the page at `address` and loads these models.
fn link(address: &str, names: &[(&str, &String)]) -> String {
    let query: Vec<String> = names.iter().map(|(key, name)| format!("{key}={}", encode(name))).collect();
    format!("{}/?{}&autoload=1", address.trim_end_matches('/'), query.join("&"))
}

/// Percent encoding of everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let write = |byte: u8| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_survive_any_name() {
        let (model, score) = ("My model & more".to_string(), "r".to_string());
        assert_eq!(
            link("https://example.org/demo/", &[("model", &model), ("score", &score)]),
            "https://example.org/demo/?model=My%20model%20%26%20more&score=r&autoload=1"
        );
    }
}
