//! The project's text files, and where words stand in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Extensions of what people write: sources, shaders, styles, scripts, documents, manifests.
const EXTENSIONS: [&str; 12] = ["rs", "wgsl", "cu", "cuh", "h", "toml", "md", "html", "css", "js", "sh", "py"];

/// A text file of the project.
pub struct File {
    /// From the project's root, with `/`.
    pub path: String,
    /// Its contents.
    pub text: String,
}

impl File {
    /// A file that a test makes up.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_string(), text: text.to_string() }
    }

    /// Whether it is a Rust source below `folder`.
    pub fn is_rust_in(&self, folder: &str) -> bool {
        self.path.ends_with(".rs") && self.path.starts_with(folder)
    }

    /// Whether it belongs to these tests, which spell the forbidden words out.
    pub fn is_tidy(&self) -> bool {
        self.path.starts_with("tests/it/tidy/")
    }

    /// The file's name without folder and extension.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }
}

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file of the project.
pub fn project() -> Vec<File> {
    fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
        for entry in fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let skipped = ["dist", ".git", ".paddock", "node_modules", "public/models", "tests/fixtures"];
            if skipped.contains(&path.as_str()) || name == "target" || name == "mutants.out" {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{path}/"), files);
            } else if name.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension)) {
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

/// The Rust sources below `folder` as they are compiled outside of tests: without each item marked `#[cfg(test)]`,
/// and without the files of modules marked so.
pub fn compiled(files: &[File], folder: &str) -> Vec<File> {
    let sources: Vec<&File> = files.iter().filter(|file| file.is_rust_in(folder)).collect();
    let mut test_modules = BTreeSet::new();
    let mut kept = Vec::new();
    for file in sources {
        let (text, modules) = without_test_items(&file.text);
        let parent = match file.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => file.path.trim_end_matches(".rs"),
        };
        test_modules.extend(modules.iter().map(|module| format!("{parent}/{module}")));
        kept.push(File { path: file.path.clone(), text });
    }
    kept.retain(|file| {
        let module = |path: &str| test_modules.contains(path);
        let parents = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        !module(file.path.trim_end_matches(".rs")) && !parents.into_iter().any(module)
    });
    kept
}

/// `text` with the lines of each `#[cfg(test)]` item blank, so that line numbers stay, and the modules among the items
/// that have a file of their own. The sources are formatted by rustfmt (`cargo xtask check` sees to it), so an item ends
/// with `;` on its first line or with the closing bracket that is indented like it.
fn without_test_items(text: &str) -> (String, Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != "#[cfg(test)]" {
            kept.push(lines[at]);
            at += 1;
            continue;
        }
        let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
        let begin = at;
        while at < lines.len() && lines[at].trim_start().starts_with("#[") {
            at += 1;
        }
        let item = lines.get(at).copied().unwrap_or_default().trim();
        modules.extend(item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')).map(str::to_string));
        let is_end = |line: &str| {
            let rest = line.strip_prefix(indent).unwrap_or_default();
            rest.starts_with('}') || (rest.starts_with([')', ']']) && rest.ends_with([';', ',']))
        };
        if !item.ends_with([';', '}', ',']) {
            while at + 1 < lines.len() && !is_end(lines[at]) {
                at += 1;
            }
        }
        at += 1;
        kept.resize(kept.len() + at - begin, "");
    }
    (kept.join("\n"), modules)
}

/// The lines of `files` that are `broken`, for people.
pub fn places<'a>(files: impl IntoIterator<Item = &'a File>, broken: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for file in files {
        let lines = file.text.lines().enumerate().filter(|(_, line)| broken(line));
        places.extend(lines.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim())));
    }
    places
}

/// The lines of code (comments may explain a rule) that contain one of `words`.
pub fn lines_with<'a>(files: impl IntoIterator<Item = &'a File>, words: &[&str]) -> Vec<String> {
    places(files, |line| !line.trim_start().starts_with("//") && words.iter().any(|word| contains_word(line, word)))
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub fn contains_word(line: &str, word: &str) -> bool {
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
fn only_test_items_are_left_out() {
    let lib = "//! Doc.\n#[cfg(test)]\nmod testing;\n#[cfg(test)]\nmod tests {\n    fn a() {\n    }\n}\nfn b() {\n}\n";
    let cpu = "impl X {\n    #[cfg(test)]\n    #[allow(unused)]\n    fn a(\n        x: u32,\n    ) {\n        y();\n    }\n\n    \
               fn c() {}\n}\n#[cfg(test)]\nconst ALL: &[u8] = &[\n    1,\n];\n";
    let files = [
        File::new("engine/src/lib.rs", lib),
        File::new("engine/src/testing.rs", "use std::fs;"),
        File::new("engine/src/testing/deep.rs", "use std::fs;"),
        File::new("engine/src/cpu.rs", cpu),
    ];
    let left = compiled(&files, "engine/src/");
    let paths: Vec<&str> = left.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["engine/src/lib.rs", "engine/src/cpu.rs"]);
    assert_eq!(left[0].text, format!("//! Doc.{}\nfn b() {{\n}}", "\n".repeat(7)));
    assert_eq!(
        left[1].text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
        ["impl X {", "    fn c() {}", "}"]
    );
    assert_eq!(left[1].text.lines().nth(9), Some("    fn c() {}"), "lines keep their numbers");
}
