//! Fine-tuning in a tab: the crate that learns, built for WebAssembly, makes the run that it makes natively.

use std::net::Ipv4Addr;

use paddock_engine::weights::MemorySource;
use paddock_tests::gguf::GgufFile;
use paddock_tests::{block_on, folder_source, package_fixture, skip};
use serde_json::json;
use tempfile::TempDir;
use xtask::browser::Browser;
use xtask::server::{Server, Site};
use xtask::tab;

/// Steps of a run.
const STEPS: usize = 8;
/// Largest relative difference of a loss: f32 products that are summed in another order.
const TOLERANCE: f64 = 1e-5;

/// The losses of a run in a tab on the model in `source`. `None`, after [`skip`], where there is no module or no browser.
fn losses_in_a_tab(source: &MemorySource, examples: &[u8]) -> Option<Vec<f64>> {
    if !tab::folder().join("tab.js").is_file() {
        skip("browser", "target/tab holds no module (`cargo xtask test` builds it)");
        return None;
    }
    let browser = Browser::start().map_err(|reason| skip("browser", &reason)).ok()?;
    let folder = TempDir::new().expect("a temporary folder");
    let files = source.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    for (name, bytes) in
        files.chain([("examples.json", examples), ("index.html", b"<!doctype html><title>A tab</title>")])
    {
        std::fs::write(folder.path().join(name), bytes).expect("a file to serve");
    }
    let folders = [(String::new(), folder.path().to_path_buf()), ("tab".to_string(), tab::folder())].into();
    let site = Site { folders, ..Site::default() };
    let server = Server::start(site, Ipv4Addr::LOCALHOST.into(), 0).expect("a server");
    browser.open(&server.url());
    let names: Vec<&String> = source.files.keys().collect();
    let losses = browser.evaluate_async(&format!(
        "const run = async () => {{
             const module = await import(new URL('tab/tab.js', location.href));
             await module.default();
             const bytes = async name => new Uint8Array(await (await fetch(name)).arrayBuffer());
             const tuning = new module.FineTuning();
             for (const name of {}) tuning.add(name, await bytes(name));
             return [...await tuning.losses(await bytes('examples.json'), {STEPS})];
         }};
         run().then(arguments[0], error => arguments[0](String(error)));",
        json!(names)
    ));
    Some(serde_json::from_value(losses.clone()).unwrap_or_else(|_| panic!("no losses: {losses}")))
}

#[test]
fn a_tab_learns_what_is_learned_natively() {
    let json = std::fs::read(package_fixture("sft").join("expected.json")).unwrap();
    let examples = paddock_tests_tab::examples(&json).unwrap();
    // The model as it is, and frozen at 4 bits.
    for (what, source) in
        [("f32", folder_source(&package_fixture("sft"))), ("4 bits", GgufFile::at_4_bits("sft").source())]
    {
        let Some(got) = losses_in_a_tab(&source, &json) else { return };
        let expected = block_on(paddock_tests_tab::losses(source, &examples, STEPS)).unwrap();
        assert_eq!(got.len(), STEPS);
        for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let off = (got / expected - 1.0).abs();
            assert!(off < TOLERANCE, "{what}, step {step}: loss {got}, expected {expected}");
        }
        // What is compared changes by far more: the second half of the steps sees the same examples as the first.
        let [first, second] = [&got[..STEPS / 2], &got[STEPS / 2..]].map(|losses| losses.iter().sum::<f64>());
        assert!(second < 0.99 * first, "{what}: {got:?}");
    }
}
