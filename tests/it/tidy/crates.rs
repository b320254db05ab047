//! Which crate may depend on which, by `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use xtask::{process, workspace};

/// What each crate of the workspace may depend on within it, for any target, tests included.
const INWARDS: [(&str, &[&str]); 8] = [
    ("paddock-kernels", &[]),
    ("paddock-engine", &["paddock-kernels"]),
    ("paddock-learn", &["paddock-engine"]),
    ("paddock", &["paddock-engine", "paddock-learn"]),
    ("paddock-app", &["paddock-engine", "paddock-learn"]),
    ("paddock-tests", &["paddock", "paddock-engine", "paddock-learn", "paddock-tests-tab", "xtask"]),
    ("paddock-tests-tab", &["paddock-engine", "paddock-learn"]),
    ("xtask", &[]),
];

/// The crates that compute only: they get bytes and give numbers.
const PURE: [&str; 3] = ["paddock-kernels", "paddock-engine", "paddock-learn"];

/// What a pure crate must not reach on a native target, directly or by way of another: the network, the page, CUDA, the
/// command line, signals, temporary files.
const IMPURE: [&str; 13] = [
    "clap",
    "console",
    "ctrlc",
    "cudarc",
    "hyper",
    "indicatif",
    "js-sys",
    "leptos",
    "reqwest",
    "tempfile",
    "tokio",
    "ureq",
    "web-sys",
];

/// Crates, and what each depends on.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// What the workspace's crates declare (all kinds, all targets), and what every crate needs when it is built for this
/// machine (build scripts and tests left out).
pub fn metadata() -> (Graph, Graph) {
    let version = process::output(Command::new("rustc").arg("-vV")).expect("rustc -vV");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    // What these tests were built from lies on this machine.
    let arguments = ["metadata", "--offline", "--format-version", "1", "--filter-platform", host];
    let text = process::output(workspace::cargo().args(arguments)).expect("cargo metadata");
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();

    let members: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
    let mut names = BTreeMap::new();
    let mut declared = Graph::new();
    for package in list(&metadata["packages"]) {
        let (id, name) = (text(&package["id"]), text(&package["name"]));
        if members.contains(&id) {
            let dependencies = list(&package["dependencies"]);
            declared.insert(name.clone(), dependencies.iter().map(|dependency| text(&dependency["name"])).collect());
        }
        names.insert(id, name);
    }
    let mut needed = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let needs = needed.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                needs.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    (declared, needed)
}

/// Dependencies within the workspace that [`INWARDS`] does not allow, and crates that it does not know.
pub fn pointing_outwards(declared: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for (package, dependencies) in declared {
        let Some((_, allowed)) = INWARDS.iter().find(|(name, _)| name == package) else {
            broken.push(format!("{package} has no place in the order of crates"));
            continue;
        };
        let inner = dependencies.iter().filter(|name| declared.contains_key(*name));
        broken.extend(inner.filter(|name| !allowed.contains(&name.as_str())).map(|name| format!("{package} → {name}")));
    }
    broken
}

/// Ways from a pure crate to an impure one.
pub fn impure(needed: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for package in PURE {
        let mut ways: Vec<Vec<&str>> = vec![vec![package]];
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop() {
            let last = way[way.len() - 1];
            if !seen.insert(last) {
                continue;
            }
            if IMPURE.contains(&last) {
                broken.push(way.join(" → "));
            }
            let next = needed.get(last).into_iter().flatten();
            ways.extend(next.map(|name| [&way[..], &[name.as_str()]].concat()));
        }
    }
    broken
}

fn graph(edges: &[(&str, &[&str])]) -> Graph {
    edges.iter().map(|(name, needs)| (name.to_string(), needs.iter().map(|need| need.to_string()).collect())).collect()
}

#[test]
fn a_dependency_outwards_is_seen() {
    let allowed = graph(&[("paddock-engine", &["half"]), ("paddock", &["paddock-engine", "cudarc"])]);
    assert_eq!(pointing_outwards(&allowed), [""; 0]);
    let circle = graph(&[("paddock-engine", &["paddock"]), ("paddock", &["paddock-engine"])]);
    assert_eq!(pointing_outwards(&circle), ["paddock-engine → paddock"]);
    let beside = graph(&[("paddock-app", &["paddock"]), ("paddock", &[]), ("paddock-extra", &[])]);
    let broken = ["paddock-app → paddock", "paddock-extra has no place in the order of crates"];
    assert_eq!(pointing_outwards(&beside), broken);
}

#[test]
fn an_impure_dependency_is_seen_however_far_it_lies() {
    let pure = graph(&[("paddock-engine", &["half"]), ("half", &["libm"]), ("xtask", &["ureq"])]);
    assert_eq!(impure(&pure), [""; 0]);
    let direct = graph(&[("paddock-engine", &["cudarc"])]);
    assert_eq!(impure(&direct), ["paddock-engine → cudarc"]);
    let far = graph(&[("paddock-learn", &["fetch"]), ("fetch", &["client"]), ("client", &["ureq", "fetch"])]);
    assert_eq!(impure(&far), ["paddock-learn → fetch → client → ureq"]);
}

#[test]
fn metadata_is_understood() {
    let (declared, needed) = metadata();
    assert!(declared["paddock"].contains("paddock-engine") && declared.contains_key("paddock-app"));
    assert!(needed["paddock"].contains("cudarc") && needed["paddock-engine"].contains("wgpu"));
    assert!(!needed["paddock-engine"].contains("pollster"), "tests' dependencies are left out");
}
