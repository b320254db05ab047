//! The page's processor path against wllama, both in Chromium on one thread.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::browser::Browser;
use xtask::server::{Server, Site};
use xtask::{Result, models, process, workspace};

use super::{Comparison, RUNS, Speed, TOKENS};

const NAME: &str = "model";

/// Runs both pages in turn, each in a fresh browser.
pub fn compare(paddock: &Path, folder: &Path, model: &Path) -> Result<Comparison> {
    let packs = folder.join("models");
    if !packs.join(NAME).is_dir() {
        let mut pack = Command::new(paddock);
        process::run(pack.arg("pack").arg("--model").arg(model).arg("--output").arg(packs.join(NAME)))?;
    }
    models::write_index(paddock, &packs, NAME)?;
    let page = serve([(String::new(), workspace::dist()), ("models".to_string(), packs)].into())?;
    let cache = model.parent().unwrap_or(model).to_path_buf();
    let package = folder.join("node_modules/@wllama/wllama/esm");
    let peer = serve(
        [(String::new(), folder.to_path_buf()), ("wllama".to_string(), package), ("cache".to_string(), cache)].into(),
    )?;
    let prompt = folder.join("prompt.txt");
    let prompt = fs::read_to_string(&prompt).map_err(|error| format!("cannot read {}: {error}", prompt.display()))?;
    let file = model.file_name().unwrap_or_default().to_string_lossy();

    let mut comparison =
        Comparison { what: "page, 1 thread".to_string(), peer: "wllama", paddock: vec![], other: vec![] };
    for _ in 0..RUNS {
        comparison.paddock.push(run_paddock(&page, prompt.trim_end())?);
        let browser = Browser::start()?;
        browser.open(&format!("{}wllama.html", peer.url()));
        let arguments = json!([format!("cache/{file}"), prompt.trim_end(), TOKENS]);
        let timings = browser.evaluate_async(&format!(
            "const done = arguments[0]; window.run(...{arguments}).then(done, error => done(String(error)));"
        ));
        comparison.other.push(speed(&timings, "prompt_per_second", "predicted_per_second")?);
        comparison.show();
    }
    Ok(comparison)
}

fn serve(folders: std::collections::BTreeMap<String, std::path::PathBuf>) -> Result<Server> {
    Server::start(Site { folders, ..Site::default() }, Ipv4Addr::LOCALHOST.into(), 0)
}

/// One answer of the page's worker, asked for as the page itself asks; see the app's `protocol`.
fn run_paddock(page: &Server, prompt: &str) -> Result<Speed> {
    let browser = Browser::start()?;
    browser.watch_workers();
    browser.open(&format!("{}?model={NAME}&device=cpu&autoload=1", page.url()));
    let limit = Duration::from_secs(300);
    browser.wait("the model is loaded", limit, |browser| browser.worker_event("loaded"));
    // The page counts its own jobs from 0, so this one is free.
    let job = u32::MAX;
    browser.post_to_worker(&json!({ "start": { "job": job, "task": { "answer": {
        "messages": [{ "role": "user", "content": prompt }],
        "template": "none",
        "options": {
            "sampling": { "temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0 },
            "max_tokens": TOKENS,
            "stop": [],
        },
        "begun": "nothing",
    }}}}));
    let answered = browser.wait("the answer is complete", limit, |browser| browser.worker_event("answered"));
    let reading = browser.worker_event("reading").unwrap_or_default();
    let first = answered["first_token_seconds"].as_f64().unwrap_or(f64::NAN);
    let timings = json!({
        "prefill": reading["total"].as_f64().unwrap_or(f64::NAN) / first,
        "decode": answered["tokens_per_second"],
    });
    speed(&timings, "prefill", "decode")
}

fn speed(timings: &Value, prefill: &str, decode: &str) -> Result<Speed> {
    let number = |name: &str| timings[name].as_f64().ok_or_else(|| format!("{name} is missing in {timings}"));
    Ok(Speed { prefill: number(prefill)?, decode: number(decode)? })
}
