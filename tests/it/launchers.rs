//! Ranks that are processes: how launchers start them, what stops them, and what they say of each other.
#![cfg(target_os = "linux")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use paddock_tests::program::{paddock, refuses, signal};
use paddock_tests::sft::{arguments, losses};
use paddock_tests::{package_fixture, skip};
use tempfile::TempDir;

/// A run of far more steps than are waited for.
fn endless(output: &Path) -> Vec<OsString> {
    let mut arguments = arguments(output);
    let steps = arguments.iter().position(|argument| argument == "20").unwrap();
    arguments[steps] = "1000000".into();
    arguments.extend(["--threads", "1"].map(OsString::from));
    arguments
}

fn launched(output: &Path) -> Child {
    let mut command = paddock();
    command.args(["launch", "--processes", "2"]).args(endless(output)).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn wait_for_steps(output: &Path) {
    while !fs::read_to_string(output.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 2) {
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes that a process has started.
fn children(of: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    children.split_whitespace().map(String::from).collect()
}

fn lives(process: &str) -> bool {
    // A process that has ended and was not waited for by its new parent yet is a zombie.
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

fn checkpoints(output: &Path) -> usize {
    let names = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("checkpoint-")).count()
}

#[test]
fn a_launcher_passes_signals_on_and_waits() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let folder = TempDir::new().unwrap();
        let run = folder.path().join("run");
        let launcher = launched(&run);
        wait_for_steps(&run);
        let ranks = children(launcher.id());
        assert_eq!(ranks.len(), 2);
        signal(name, &launcher.id().to_string());
        let output = launcher.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(!ranks.iter().any(|rank| lives(rank)), "a rank is left");
        assert_eq!(checkpoints(&run), 1, "{stderr}");
        assert!(stderr.contains("stopped after step") && !stderr.contains("error"), "{stderr}");
    }
}

#[test]
fn ranks_save_and_end_when_their_launcher_is_killed() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let launcher = launched(&run);
    wait_for_steps(&run);
    let ranks = children(launcher.id());
    signal("KILL", &launcher.id().to_string());
    // Standard error ends with the last of them.
    launcher.wait_with_output().unwrap();
    while ranks.iter().any(|rank| lives(rank)) {
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(checkpoints(&run), 1);
}

#[test]
fn what_a_launcher_cannot_run_is_said_once() {
    let output = paddock().args(["launch", "--processes", "3", "sft", "--model", "m", "--bacth-size", "1"]).output();
    let output = output.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
}

/// A rank by its variables, as a launcher would start it.
fn rank(rank: usize, world_size: usize, port: u16, arguments: &[OsString]) -> Command {
    let mut command = paddock();
    command.args(arguments).args(["--threads", "1"]).stderr(Stdio::piped());
    command.envs([("RANK", rank.to_string()), ("WORLD_SIZE", world_size.to_string())]);
    command.envs([("MASTER_ADDR", "127.0.0.1".to_string()), ("MASTER_PORT", port.to_string())]);
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sentence(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [sentence] = errors[..] else { panic!("expected one sentence, got: {stderr}") };
    sentence.to_string()
}

#[test]
fn ranks_that_are_not_alike_end_with_one_sentence_each() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let own = arguments(&run);
    let with = |flags: &[&str]| [&own[..], &flags.iter().map(OsString::from).collect::<Vec<_>>()].concat();
    let another = |name: &str, value: std::path::PathBuf| {
        let mut arguments = own.clone();
        let place = arguments.iter().position(|argument| argument == name).unwrap();
        arguments[place + 1] = value.into();
        arguments
    };
    let rows = folder.path().join("rows.json");
    fs::write(&rows, r#"[{"instruction": "Say no.", "input": "", "output": "No."}]"#).unwrap();
    let cases = [
        (2, with(&["--zero", "3"]), "zero"),
        (2, with(&["--seed", "1"]), "seed 1, and rank 0 has seed 42"),
        (4, own.clone(), "4 ranks and rank 0 of 2"),
        (2, another("--data", rows), "another file of examples than rank 0"),
        (2, another("--model", package_fixture("llama-mha")), "another model than rank 0"),
    ];
    for (world_size, arguments, words) in cases {
        let port = free_port();
        let other = rank(1, world_size, port, &arguments).spawn().unwrap();
        let first = rank(0, 2, port, &own).spawn().unwrap();
        let [first, other] = [first, other].map(|rank| sentence(&rank.wait_with_output().unwrap()));
        assert_eq!(first, other);
        assert!(first.contains(words), "expected {words:?} in: {first}");
        assert!(!run.exists(), "a run that did not begin leaves nothing");
    }
}

#[test]
fn a_rank_says_whom_it_waits_for() {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let mut first = rank(0, 2, port, &arguments(&folder.path().join("run"))).spawn().unwrap();
    let lines = BufReader::new(first.stderr.take().unwrap()).lines();
    let waiting = lines.map(|line| line.unwrap()).find(|line| line.contains("waiting for"));
    assert_eq!(waiting, Some(format!("waiting for rank 1 at 127.0.0.1:{port}")));
    // There is nothing to save yet, so it ends at once.
    signal("TERM", &first.id().to_string());
    assert_eq!(first.wait().unwrap().code(), Some(143));
}

#[test]
fn variables_that_say_too_little_are_refused() {
    let output = rank(1, 2, 1, &arguments(Path::new("run"))).env_remove("MASTER_PORT").output().unwrap();
    assert!(sentence(&output).contains("MASTER_PORT does not say"));
    refuses(&[&"sft", &"--config", &"nothing.toml"], &["nothing.toml"]);
}

/// The real torchrun, whose agent listens on MASTER_PORT itself.
#[test]
fn torchrun_starts_ranks() {
    const SCRIPT: &str = "import sys; from torch.distributed.run import main; main(sys.argv[1:])";
    let python = env::var_os("PADDOCK_PYTHON").unwrap_or_else(|| "python3".into());
    let has = Command::new(&python).args(["-c", "import torch"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        skip("torch", "there is no Python with torch (PADDOCK_PYTHON names one)");
        return;
    }
    let folder = TempDir::new().unwrap();
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    assert!(paddock().args(arguments(&alone)).status().unwrap().success());
    let program = paddock();
    let mut torchrun = Command::new(python);
    torchrun.args(["-c", SCRIPT, "--standalone", "--nproc-per-node", "2", "--no-python"]);
    torchrun.arg(program.get_program()).args(arguments(&shared)).args(["--threads", "1"]);
    torchrun
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))).collect::<Vec<(&OsStr, &OsStr)>>());
    let output = torchrun.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (alone, shared) = (losses(&alone), losses(&shared));
    assert_eq!(alone.len(), shared.len());
    for (alone, shared) in alone.iter().zip(&shared) {
        assert!((alone / shared - 1.0).abs() < 1e-5, "{shared}, alone {alone}");
    }
}
