//! `paddock site`: a complete folder for a static host, or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::package_fixture;
use paddock_tests::program::{refuses, run};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the names of a built page's files.
fn page(folder: &TempDir) -> PathBuf {
    let page = folder.path().join("page");
    fs::create_dir_all(page.join("models")).unwrap();
    for file in [
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
        "sw.js",
    ] {
        fs::write(page.join(file), file).unwrap();
    }
    fs::write(page.join("models/old"), "not the site's").unwrap();
    page
}

fn site(page: &Path, output: &Path) -> String {
    let (model, score) = (package_fixture("llama-mha"), package_fixture("score"));
    run(&[
        &"site",
        &"--page",
        &page,
        &"--model",
        &model,
        &"--model",
        &model,
        &"--score",
        &score,
        &"--output",
        &output,
        &"--address",
        &"https://example.org/demo",
    ])
}

#[test]
fn a_site_is_complete_and_its_links_name_its_models() {
    let folder = TempDir::new().unwrap();
    let (page, output) = (page(&folder), folder.path().join("site"));
    let links = site(&page, &output);
    let links: Vec<&str> = links.lines().collect();
    assert_eq!(links.len(), 4);
    assert_eq!(links[0], "https://example.org/demo/?model=llama-mha&autoload=1");
    assert_eq!(links[1], "https://example.org/demo/?model=llama-mha&score=score&autoload=1");
    assert!(links[2].contains("model=llama-mha-2&"), "{links:?}");
    for file in ["index.html", "sw.js", ".nojekyll", "models/score/manifest.json"] {
        assert!(output.join(file).is_file(), "{file}");
    }
    assert!(!output.join("models/old").exists());
    let index: Value = serde_json::from_slice(&fs::read(output.join("models/index.json")).unwrap()).unwrap();
    let kinds: Vec<(&str, &str)> = index["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["path"].as_str().unwrap(), model["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("llama-mha", "chat"), ("llama-mha-2", "chat"), ("score", "score")]);

    // An older site is replaced, anything else is left alone.
    fs::write(output.join("left over"), "").unwrap();
    site(&page, &output);
    assert!(!output.join("left over").exists());
    let diary = folder.path().join("diary");
    fs::create_dir(&diary).unwrap();
    fs::write(diary.join("dear"), "diary").unwrap();
    let model = package_fixture("llama-mha");
    refuses(&[&"site", &"--page", &page, &"--model", &model, &"--output", &diary], &["not a site's"]);
    assert_eq!(fs::read_dir(&diary).unwrap().count(), 1);
    let nowhere = folder.path().join("nowhere");
    let new = folder.path().join("new");
    let words = ["no built page", "cargo xtask site"];
    refuses(&[&"site", &"--page", &nowhere, &"--model", &model, &"--output", &new], &words);
}
