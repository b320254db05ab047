//! The invariants of ARCHITECTURE.md that a machine can see: what must be absent, and what must come in pairs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project: its path from the root, with `/`, and its contents.
struct File {
    path: String,
    text: String,
}

impl File {
    /// Without the unit tests at its end, which may wait and read the environment.
    fn without_tests(&self) -> Self {
        let text = self.text.split("\n#[cfg(test)]").next().unwrap_or_default();
        Self { path: self.path.clone(), text: text.to_string() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// This file spells the forbidden words out.
    fn is_tidy(&self) -> bool {
        self.path == "tests/tests/tidy.rs"
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that people write: sources, shaders, styles, scripts, documents, manifests.
fn files() -> Vec<File> {
    fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
        for entry in fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let skipped = ["target", "dist", ".git", ".paddock", "node_modules", "public/models", "tests/fixtures"];
            if skipped.contains(&path.as_str()) || name == "target" {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{path}/"), files);
            } else if let Some((_, "rs" | "wgsl" | "cu" | "cuh" | "h" | "toml" | "md" | "html" | "css" | "js" | "sh")) =
                name.rsplit_once('.')
            {
                let text = fs::read_to_string(entry.path()).expect("UTF-8");
                files.push(File { path, text });
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), "", &mut files);
    assert!(files.len() > 30, "the project's files were not found");
    files
}

/// Fails with every place that breaks `rule`.
fn assert_none(rule: &str, places: impl IntoIterator<Item = String>) {
    let places: Vec<String> = places.into_iter().collect();
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

/// The lines of `files` that are `broken`, for people.
fn places<'a>(files: impl IntoIterator<Item = &'a File>, broken: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for file in files {
        let lines = file.text.lines().enumerate().filter(|(_, line)| broken(line));
        places.extend(lines.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim())));
    }
    places
}

/// The lines of code (comments may explain a rule) that contain one of `words`.
fn lines_with<'a>(files: impl IntoIterator<Item = &'a File>, words: &[&str]) -> Vec<String> {
    places(files, |line| !line.trim_start().starts_with("//") && words.iter().any(|word| contains_word(line, word)))
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_part) && word.starts_with(is_part);
        let after = line[at + word.len()..].chars().next().is_some_and(is_part) && word.ends_with(is_part);
        !before && !after
    })
}

#[test]
fn words_are_found_whole() {
    assert!(contains_word("use std::fs::File;", "std::fs"));
    assert!(contains_word("let x: Tensor = y;", "Tensor"));
    assert!(!contains_word("TensorInfo", "Tensor"));
    assert!(!contains_word("not_unsafe_code", "unsafe"));
}

#[test]
fn the_engine_touches_no_file_network_dom_or_cuda() {
    let files = files();
    let engine = files.iter().filter(|file| file.path.starts_with("engine/src/") && file.is_rust());
    let engine: Vec<File> = engine.map(File::without_tests).collect();
    let words = ["std::fs", "std::net", "std::env", "std::time", "web_sys", "js_sys", "cudarc", "ureq", "reqwest"];
    assert_none(
        "the engine gets bytes from a Source and gives tokens; see ARCHITECTURE.md",
        lines_with(&engine, &words),
    );
    let manifest = fs::read_to_string(root().join("engine/Cargo.toml")).expect("engine/Cargo.toml");
    let dependencies = ["web-sys", "js-sys", "cudarc", "ureq", "reqwest", "paddock", "leptos"];
    let named =
        manifest.lines().filter(|line| dependencies.iter().any(|name| line.split([' ', '=']).next() == Some(name)));
    assert_none("the engine depends on nothing that reads, draws or trains", named.map(str::to_string));
}

#[test]
fn the_engine_has_no_gradient() {
    let files = files();
    let engine = files.iter().filter(|file| file.path.starts_with("engine/src/") && file.is_rust());
    assert_none(
        "gradients live in native-trainer",
        lines_with(engine, &["backward", "gradient", "optimizer", "optimiser"]),
    );
}

#[test]
fn the_app_never_sees_a_tensor() {
    let files = files();
    let app = files.iter().filter(|file| file.path.starts_with("app/src/") && file.is_rust());
    assert_none("the app deals in messages and text", lines_with(app, &["Tensor", "Weight", "KvCache"]));
}

#[test]
fn no_code_is_unsafe() {
    let files = files();
    let elsewhere = files
        .iter()
        .filter(|file| file.is_rust() && !file.is_tidy() && !file.path.starts_with("native-trainer/src/cuda/"));
    assert_none(
        "unsafe code is allowed in native-trainer/src/cuda only",
        lines_with(elsewhere, &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"]),
    );
}

#[test]
fn files_are_short() {
    let long = files().into_iter().filter(|file| !file.path.ends_with(".md")).filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > 500).then(|| format!("{}: {lines} lines", file.path))
    });
    assert_none("a file has at most 500 lines", long);
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    assert!(readme.lines().count() <= 150, "README.md has {} lines, at most 150 are read", readme.lines().count());
}

#[test]
fn nothing_is_left_to_do() {
    let files = files();
    let others = files.iter().filter(|file| !file.is_tidy());
    let marks = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];
    let places = places(others, |line| marks.iter().any(|mark| contains_word(line, mark)));
    assert_none("finish it, or file it", places);
}

#[test]
fn no_registry_and_no_machine_is_named() {
    let files = files();
    // Split so that this file does not name them either.
    let hosts = [
        ["crates", ".io"],
        ["py", "pi.org"],
        ["pythonhosted", ".org"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["debian", ".org"],
    ];
    let machines = [["/ro", "ot/"], ["/ho", "me/"], ["/Use", "rs/"], ["/wo", "rk/"]];
    let words: Vec<String> = hosts.iter().chain(&machines).map(|parts| parts.concat()).collect();
    let places = places(&files, |line| words.iter().any(|word| line.contains(word.as_str())));
    assert_none("the project runs anywhere: it names no registry's host and no path of one machine", places);
}

#[test]
fn dependencies_point_inwards() {
    let manifest = |package: &str| {
        fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap_or_else(|error| panic!("{package}: {error}"))
    };
    let forbidden =
        [("engine", "paddock = "), ("app", "paddock = "), ("native-trainer", "paddock-app"), ("engine", "paddock-app")];
    let broken =
        forbidden.iter().filter(|(package, name)| manifest(package).lines().any(|line| line.starts_with(name)));
    assert_none(
        "app and native-trainer depend on engine, never the other way or on each other",
        broken.map(|(p, n)| format!("{p}: {n}")),
    );
}

/// The file stems in `folder` with this extension.
fn stems(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let files = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

/// Whether `name` is `op`, or one of the two is a variant of the other: `linear` and `linear_tiled`.
fn is_kin(name: &str, op: &str) -> bool {
    let variant =
        |of: &str, name: &str| name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    variant(name, op) || variant(op, name)
}

#[test]
fn an_op_has_one_name_everywhere() {
    let backend = fs::read_to_string(root().join("engine/src/backend/mod.rs")).expect("the Backend trait");
    let body = backend.split("pub trait Backend").nth(1).expect("trait Backend");
    let methods: BTreeSet<&str> =
        body.lines().filter_map(|line| line.trim().strip_prefix("fn ")?.split(['(', '<']).next()).collect();
    let (cpu, shaders) = (stems("engine/src/backend/cpu", "rs"), stems("shaders", "wgsl"));
    let kernels = stems("native-trainer/src/cuda/kernels", "cu");
    let foreign = shaders.iter().filter(|shader| !methods.iter().any(|op| is_kin(shader, op)));
    assert_none("a shader is named after the method of Backend that it serves", foreign.cloned());
    // Kernels serve the trainer too.
    let trained = ["adamw", "adamw8", "add_columns", "bias", "elementwise", "squared_norm"];
    let foreign = kernels
        .iter()
        .filter(|kernel| !methods.iter().any(|op| is_kin(kernel, op)) && !trained.contains(&kernel.as_str()));
    assert_none("a kernel is named after the method of Backend or Adjoint that it serves", foreign.cloned());
    // The ops that have arithmetic to get wrong.
    let ops = ["embed", "rms_norm", "linear", "rope", "attention_cached", "silu_mul", "add", "select_rows", "sample"];
    let broken = ops.iter().filter(|op| {
        let twins = [&cpu, &shaders].map(|names| names.iter().any(|name| is_kin(name, op)));
        !methods.contains(*op) || twins != [true, true]
    });
    assert_none("an op is a method of Backend, a file of backend/cpu and a shader", broken.map(|op| op.to_string()));
}
