//! Which models there are: what a site's list says, and what it must not do.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_tests::page::{PATIENCE, Page};
use paddock_tests::site::TestSite;
use serde_json::{Value, json};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-mha")
}

/// A site with the tiny model whose list is what `change` makes of it.
fn listed(change: impl Fn(&mut Value)) -> Option<TestSite> {
    let site = TestSite::start(&[("tiny", &tiny())], &[])?;
    let path = site.models().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut index);
    fs::write(path, index.to_string()).unwrap();
    Some(site)
}

#[test]
fn names_and_folders_that_are_not_unique_confuse_nothing() {
    let site = listed(|index| {
        let tiny = index["models"][0].clone();
        let with = |changes: [(&str, Value); 2]| {
            let mut entry = tiny.clone();
            changes.into_iter().for_each(|(key, value)| entry[key] = value);
            entry
        };
        index["models"] = json!([
            with([("name", json!("")), ("path", json!("tiny"))]),
            with([("name", json!("again")), ("path", json!("tiny"))]),
            with([("name", json!("tiny")), ("path", json!("elsewhere"))]),
            with([("name", json!("nowhere")), ("path", json!(""))]),
        ]);
    });
    let Some(site) = site else { return };
    let Some(page) = Page::open(site, "device=cpu") else { return };
    page.wait_for("empty");
    page.go_to("models");
    page.browser.wait("two models", PATIENCE, |_| (page.texts("model").len() == 2).then_some(()));
    assert_eq!(page.attribute("model", "data-id").as_deref(), Some("site/elsewhere"));
    // The second of two models of one name is the one that is loaded, and it is not there.
    page.browser.click("[data-id='site/elsewhere'] [data-testid=load-button]");
    assert!(page.wait_for_error().contains("manifest.json"));
    page.click("dismiss");
    page.browser.click("[data-id='site/tiny'] [data-testid=load-button]");
    page.wait_for("ready");
}

#[test]
fn lists_and_manifests_that_are_far_too_long_are_one_sentence() {
    let site = listed(|index| {
        let entries: Vec<Value> =
            (0..200_000).map(|at| json!({ "name": "m", "path": at.to_string(), "bytes": 1 })).collect();
        index["models"] = entries.into();
    });
    let Some(site) = site else { return };
    let manifest = site.models().join("tiny/manifest.json");
    let mut shards: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    shards["shards"] = vec![shards["shards"][0].clone(); 200_000].into();
    fs::write(manifest, shards.to_string()).unwrap();
    let index = site.models().join("index.json");
    let Some(page) = Page::open(site, "device=cpu") else { return };
    let sentence = page.wait_for_error();
    assert!(sentence.contains("models/index.json"), "{sentence}");

    fs::write(index, json!({ "models": [{ "name": "tiny", "path": "tiny", "bytes": 1 }] }).to_string()).unwrap();
    page.visit("model=tiny&device=cpu&autoload=1");
    let sentence = page.wait_for_error();
    assert!(sentence.contains("manifest.json") && sentence.contains("200000"), "{sentence}");
}
