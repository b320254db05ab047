//! The invariants of ARCHITECTURE.md that a machine can see. Each rule is a function from the project's files, or from
//! its crates, to the places that break it; beside it stands a test that shows it failing on something made up.

mod crates;
mod names;
mod sources;

use sources::{File, compiled, contains_word, lines_with, places, project};

/// Lines that a file has at most.
const LONGEST: usize = 500;
/// Lines of README.md at most.
const README: usize = 150;

/// Fails with every place that breaks `rule`.
fn assert_none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

/// Asserts that `rule` finds nothing wrong with the first of two versions of a file, and one line of the second.
fn assert_finds(rule: impl Fn(&[File]) -> Vec<String>, path: &str, good: &str, bad: &str) {
    assert_eq!(rule(&[File::new(path, good)]), [""; 0], "{good}");
    assert_eq!(rule(&[File::new(path, bad)]).len(), 1, "{bad}");
}

fn files_networks_or_devices(files: &[File]) -> Vec<String> {
    let words = ["std::fs", "std::net", "std::env", "std::process", "std::time", "web_sys", "js_sys", "cudarc", "ureq"];
    let mut found = lines_with(&compiled(files, "engine/src/"), &words);
    for folder in ["engine/kernels/src/", "learn/src/"] {
        found.extend(lines_with(&compiled(files, folder), &[&words[..], &["std::thread"]].concat()));
    }
    found
}

#[test]
fn engine_and_learn_touch_no_file_network_clock_or_dom() {
    assert_none("they get bytes and give numbers; see ARCHITECTURE.md", files_networks_or_devices(&project()));
    let good = "// std::fs is not for us\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let bad = "#[cfg(test)]\nmod testing;\nuse std::fs;\n";
    assert_finds(files_networks_or_devices, "engine/src/backend/cpu/mod.rs", good, bad);
    assert_finds(files_networks_or_devices, "learn/src/data.rs", good, "let a = std::thread::spawn(b);");
    assert_finds(files_networks_or_devices, "engine/kernels/src/add.rs", good, "let a = std::thread::spawn(b);");
}

fn gradients_in_the_engine(files: &[File]) -> Vec<String> {
    lines_with(
        files.iter().filter(|file| file.is_rust_in("engine/")),
        &["backward", "gradient", "optimizer", "optimiser"],
    )
}

#[test]
fn the_engine_has_no_gradient() {
    assert_none("gradients live in learn", gradients_in_the_engine(&project()));
    assert_finds(gradients_in_the_engine, "engine/src/model.rs", "/// No gradient.\n", "let gradient = 1;");
}

fn tensors_in_the_app(files: &[File]) -> Vec<String> {
    lines_with(files.iter().filter(|file| file.is_rust_in("app/src/")), &["Tensor", "Weight", "KvCache"])
}

#[test]
fn the_app_never_sees_a_tensor() {
    assert_none("the app deals in messages and text", tensors_in_the_app(&project()));
    assert_finds(tensors_in_the_app, "app/src/worker.rs", "let table: TensorTable;", "fn f(x: Tensor) {}");
}

fn unsafe_code(files: &[File]) -> Vec<String> {
    let elsewhere =
        |file: &&File| file.is_rust_in("") && !file.is_tidy() && !file.path.starts_with("native-trainer/src/cuda/");
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "allow(unsafe_code"];
    lines_with(files.iter().filter(elsewhere), &words)
}

#[test]
fn no_code_is_unsafe() {
    assert_none("unsafe code is allowed in native-trainer/src/cuda only", unsafe_code(&project()));
    assert_finds(unsafe_code, "engine/src/a.rs", "let not_unsafe = 1;", "let a = unsafe { b() };");
    assert_eq!(unsafe_code(&[File::new("native-trainer/src/cuda/blas.rs", "unsafe { b() };")]), [""; 0]);
}

fn long_files(files: &[File]) -> Vec<String> {
    let most = |file: &File| match file.path.as_str() {
        "README.md" => README,
        path if path.ends_with(".md") => usize::MAX,
        _ => LONGEST,
    };
    let lines = |file: &File| file.text.lines().count();
    let long = files.iter().filter(|file| lines(file) > most(file));
    long.map(|file| format!("{}: {} lines, at most {} are read", file.path, lines(file), most(file))).collect()
}

#[test]
fn files_are_short() {
    assert_none("what is longer is not read", long_files(&project()));
    assert_finds(long_files, "shaders/a.wgsl", &"\n".repeat(LONGEST), &"\n".repeat(LONGEST + 1));
    assert_finds(long_files, "README.md", &"\n".repeat(README), &"\n".repeat(README + 1));
    assert_eq!(long_files(&[File::new("docs/a.md", &"\n".repeat(1000))]), [""; 0]);
}

fn marks(files: &[File]) -> Vec<String> {
    let marks = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];
    let others = files.iter().filter(|file| !file.is_tidy());
    places(others, |line| marks.iter().any(|mark| contains_word(line, mark)))
}

#[test]
fn nothing_is_left_to_do() {
    assert_none("finish it, or file it", marks(&project()));
    assert_finds(marks, "app/src/a.rs", "// Nothing to do.", "// TODO: all of it");
}

fn hosts_and_machines(files: &[File]) -> Vec<String> {
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
    places(files, |line| words.iter().any(|word| line.contains(word.as_str())))
}

#[test]
fn no_registry_and_no_machine_is_named() {
    let rule = "the project runs anywhere: it names no registry's host and no path of one machine";
    assert_none(rule, hosts_and_machines(&project()));
    assert_finds(hosts_and_machines, "docs/a.md", "in ~/.cache", &["in /ho", "me/anna"].concat());
}

#[test]
fn dependencies_point_inwards() {
    let (declared, needed) = crates::metadata();
    assert_none("native-trainer → learn → engine ← app, engine → kernels", crates::pointing_outwards(&declared));
    assert_none("kernels, engine and learn compute and do nothing else", crates::impure(&needed));
}

#[test]
fn an_operation_has_one_name_everywhere() {
    assert_none("trait method = file of backend/cpu = shader = kernel", names::broken(&project()));
}
