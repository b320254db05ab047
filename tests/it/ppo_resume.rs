//! A run of `paddock ppo` that is killed, at any moment, goes on as if nothing had happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use paddock_tests::package_fixture;
use paddock_tests::program::{paddock, refuses};
use tempfile::TempDir;

const PROMPTS: [&str; 6] =
    ["Name a fruit.", "Say hello.", "What is two and two?", "Name a colour.", "Write a word.", "Where is the moon?"];
/// Iterations of the run.
const ITERATIONS: usize = 4;

struct Run {
    folder: TempDir,
    further: Vec<String>,
}

impl Run {
    fn new(further: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let rows: String = PROMPTS.iter().map(|prompt| format!("{{\"prompt\": \"{prompt}\"}}\n")).collect();
        fs::write(folder.path().join("prompts.jsonl"), rows).unwrap();
        Self { folder, further: further.iter().map(|argument| argument.to_string()).collect() }
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, output: &Path) -> Command {
        let models = package_fixture("ppo-iteration");
        let mut command = paddock();
        command.args(["ppo", "--preset", "safe-rlhf", "--template", "safe-rlhf", "--device", "cpu", "--threads", "1"]);
        command.arg("--actor").arg(models.join("actor")).arg("--output").arg(output);
        command.arg("--prompts").arg(self.folder.path().join("prompts.jsonl"));
        command.arg("--reward-model").arg(models.join("reward-model"));
        command.arg("--cost-model").arg(models.join("cost-model"));
        command.arg("--ptx-data").arg(models.join("ptx.json"));
        command.args(["--batch-size", "3", "--epochs", "2", "--save-steps", "1", "--max-new-tokens", "12"]);
        command.args(["--learning-rate", "2e-3", "--critic-lr", "2e-3", "--kl-coeff", "0.05", "--ptx-coeff", "0.5"]);
        command.args(["--update-iters", "2", "--mini-batch-size", "2", "--kl-target", "1", "--kl-horizon", "20"]);
        command.args(&self.further);
        command.stderr(Stdio::piped());
        command
    }

    fn finish(&self, output: &Path, resume: bool) {
        let mut command = self.command(output);
        if resume {
            command.arg("--resume");
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What a run leaves, but for times and speeds.
fn left(output: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![output.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(output).unwrap().to_string_lossy().into_owned();
            // Metrics and events hold times; run.json and its digest hold the output's own name.
            let is_timed = ["metrics", "tensorboard", "settings"].iter().any(|prefix| name.starts_with(prefix));
            if path.is_dir() {
                folders.push(path);
            } else if !is_timed && !name.ends_with("run.json") && !name.ends_with("hashes.json") {
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) {
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert!(a == b, "{name} differs");
    }
}

/// Kills a run again and again, at moments spread over its phases, until it comes to its end.
fn killed_runs_are_the_undisturbed_one(run: &Run, kills: u32) {
    let undisturbed = run.output("undisturbed");
    let began = Instant::now();
    run.finish(&undisturbed, false);
    let whole = began.elapsed();
    let expected = left(&undisturbed);
    for iteration in 1..=ITERATIONS {
        assert!(undisturbed.join(format!("iteration-{iteration}/completions.jsonl")).exists());
    }
    let mut seed = 7u32;
    let mut killed = 0;
    let mut series = 0;
    while killed < kills {
        let output = run.output(&format!("killed-{series}"));
        series += 1;
        let mut first = true;
        loop {
            let mut command = run.command(&output);
            if !first {
                command.arg("--resume");
            }
            first = false;
            let mut child = command.spawn().unwrap();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            thread::sleep(whole.mul_f64(f64::from(seed >> 8) / f64::from(1 << 24)).min(Duration::from_secs(20)));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            if killed >= kills {
                break;
            }
        }
        run.finish(&output, true);
        same(&left(&output), &expected);
        fs::remove_dir_all(&output).unwrap();
    }
}

#[test]
fn whole_models_go_on_to_the_byte() {
    killed_runs_are_the_undisturbed_one(&Run::new(&[]), 20);
}

#[test]
fn roles_with_adapters_go_on_to_the_byte() {
    killed_runs_are_the_undisturbed_one(&Run::new(&["--lora-rank", "2"]), 12);
}

#[test]
fn answers_do_not_depend_on_what_runs_beside_them() {
    let run = Run::new(&["--micro-batch-tokens", "2048"]);
    let cut = Run::new(&["--micro-batch-tokens", "100"]);
    let answers = |run: &Run, name: &str| {
        let output = run.output(name);
        run.finish(&output, false);
        let lines = fs::read_to_string(output.join("iteration-1/completions.jsonl")).unwrap();
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    };
    for (a, b) in answers(&run, "a").iter().zip(answers(&cut, "b")) {
        for part in ["ids", "log_probs", "ref_log_probs", "values", "score", "cost"] {
            assert_eq!(a[part], b[part], "{part}");
        }
        let (ids, tokens) = (a["ids"].as_array().unwrap(), a["tokens"].as_array().unwrap());
        assert_eq!(ids.len(), tokens.len(), "each token has its text, or its spelling");
        assert!(tokens.iter().all(serde_json::Value::is_string), "{tokens:?}");
    }
}

#[test]
fn methods_without_critics_run_on_rewards_of_a_program() {
    let models = package_fixture("ppo-iteration");
    for advantage in ["grpo", "rloo", "reinforce++", "reinforce++-baseline"] {
        let run = Run::new(&[]);
        let output = run.output("run");
        let mut command = paddock();
        command.args(["ppo", "--template", "safe-rlhf", "--device", "cpu", "--advantage", advantage]);
        command.args(["--num-generations", "2", "--batch-size", "2", "--max-steps", "2", "--max-new-tokens", "6"]);
        command.arg("--actor").arg(models.join("actor")).arg("--output").arg(&output);
        command.arg("--prompts").arg(run.folder.path().join("prompts.jsonl"));
        command.args(["--reward-command", r#"while read -r line; do echo "{\"reward\": ${#line}}"; done"#]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{advantage}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(output.join("iteration-2/completions.jsonl").exists() && output.join("model.safetensors").exists());
    }
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let models = package_fixture("ppo-iteration");
    let folder = TempDir::new().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    fs::write(&prompts, "{\"prompt\": \"Say hello.\"}\n").unwrap();
    let (actor, output) = (models.join("actor"), folder.path().join("run"));
    let reward = models.join("reward-model");
    let refused = |further: &[&dyn AsRef<std::ffi::OsStr>], words: &[&str]| {
        let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"ppo", &"--actor", &actor, &"--prompts", &prompts];
        all.extend([
            &"--output" as &dyn AsRef<std::ffi::OsStr>,
            &output,
            &"--template",
            &"safe-rlhf",
            &"--device",
            &"cpu",
        ]);
        all.extend(further);
        refuses(&all, words);
        assert!(!output.exists(), "a start that fails leaves nothing");
    };
    let adapter = package_fixture("lora-shared-trunk").join("reward");
    refused(&[&"--reward-model", &adapter], &["is an adapter", "--lora-rank"]);
    refused(&[&"--reward-model", &actor], &["scor"]);
    let other = package_fixture("score");
    refused(&[&"--reward-model", &reward, &"--reward-critic", &other], &["another tokenizer"]);
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"ppo", &"--actor", &actor, &"--prompts", &prompts];
    all.extend([&"--output" as &dyn AsRef<std::ffi::OsStr>, &output, &"--template", &"safe-rlhf", &"--device", &"cpu"]);
    all.extend([&"--advantage" as &dyn AsRef<std::ffi::OsStr>, &"rloo", &"--num-generations", &"2"]);
    all.extend([&"--reward-command" as &dyn AsRef<std::ffi::OsStr>, &"exit 3"]);
    refuses(&all, &["reward command", "failed"]);
}

/// Actor, reference, score models and critics as PEFT's adapters on one trunk, of whole numbers and of 4 bits.
#[test]
fn six_roles_share_one_trunk() {
    let roles = package_fixture("lora-shared-trunk");
    let run = Run::new(&[]);
    let (trunk, packed) = (roles.join("trunk"), run.output("trunk.gguf"));
    let mut convert = paddock();
    convert
        .arg("convert")
        .arg("--from")
        .arg(&trunk)
        .arg("--output")
        .arg(&packed)
        .args(["--to", "gguf", "--dtype", "q4_0"]);
    assert!(convert.output().unwrap().status.success());
    let start = |trunk: &Path, output: &Path, further: &[&str]| {
        let mut command = paddock();
        command.args(["ppo", "--template", "safe-rlhf", "--device", "cpu", "--threads", "1", "--lora-rank", "4"]);
        command.arg("--actor").arg(trunk).arg("--output").arg(output);
        command.arg("--prompts").arg(run.folder.path().join("prompts.jsonl"));
        command.args(["--batch-size", "3", "--max-steps", "2", "--max-new-tokens", "8", "--learning-rate", "1e-3"]);
        command.args(further);
        command
    };
    let path = |name: &str| roles.join(name).display().to_string();
    let output = run.output("shared");
    let mut further: Vec<String> = ["--actor-adapter".to_string(), path("actor")].into();
    for role in ["reward", "cost"] {
        further.extend([format!("--{role}-model"), path(role)]);
        further.extend([format!("--{role}-critic"), path(&format!("{role}-critic"))]);
    }
    let further: Vec<&str> = further.iter().map(String::as_str).collect();
    let refused = start(&trunk, &output, &further).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("cannot be its reference"), "{said}");
    let reference = path("reference");
    let further = [&further[..], &["--reference", &reference]].concat();
    let done = start(&trunk, &output, &further).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // What is written is what PEFT called it.
    for (own, theirs) in [("", "actor"), ("reward-critic", "reward-critic"), ("cost-critic", "cost-critic")] {
        let names = |folder: PathBuf| {
            let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut names: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(output.join(own)), names(roles.join(theirs)), "{theirs}");
    }
    // The same on a trunk of 4 bits: the first ratio is still exactly 1, or the run would end.
    let output = run.output("packed");
    let done = start(&packed, &output, &further).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(output.join("adapter_model.safetensors").exists());
}

/// A run does not go on with other models or texts than those it began with, though they are at the same place.
#[test]
fn roles_that_were_replaced_are_noticed() {
    let (fixture, adapters) = (package_fixture("ppo-iteration"), package_fixture("lora-shared-trunk"));
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    let run = Run::new(&[]);
    let start = |models: &Path, actor: &str, output: &Path, further: &[&str]| {
        let mut command = paddock();
        command.args(["ppo", "--template", "safe-rlhf", "--device", "cpu", "--threads", "1", "--save-steps", "1"]);
        command.args(["--batch-size", "2", "--max-steps", "1", "--max-new-tokens", "4"]);
        command.arg("--actor").arg(models.join(actor)).arg("--output").arg(output);
        command.arg("--prompts").arg(run.folder.path().join("prompts.jsonl")).args(further);
        for role in ["reward", "cost"].into_iter().filter(|role| models.join(role).exists()) {
            command.arg(format!("--{role}-model")).arg(models.join(role));
            command.arg(format!("--{role}-critic")).arg(models.join(format!("{role}-critic")));
        }
        let done = command.output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let whole = run.output("whole");
    for (from, to) in [("actor", "actor"), ("reward-model", "reward"), ("cost-model", "cost"), ("actor", "reference")] {
        copy(&fixture.join(from), &whole.join(to));
    }
    for role in ["reward-critic", "cost-critic"] {
        copy(&fixture.join(role), &whole.join(role));
    }
    let shared = run.output("shared");
    for role in ["trunk", "actor", "reference", "reward", "cost", "reward-critic", "cost-critic"] {
        copy(&adapters.join(role), &shared.join(role));
    }
    let ptx = run.output("ptx.json");
    fs::copy(fixture.join("ptx.json"), &ptx).unwrap();
    let at = |path: PathBuf| path.display().to_string();
    let further = |models: &Path| {
        vec!["--reference".to_string(), at(models.join("reference")), "--ptx-data".into(), at(ptx.clone())]
    };
    let adapted =
        [further(&shared), vec!["--lora-rank".into(), "4".into(), "--actor-adapter".into(), at(shared.join("actor"))]];
    for (models, actor, further, file) in [
        (&whole, "actor", further(&whole), "model.safetensors"),
        (&shared, "trunk", adapted.concat(), "adapter_model.safetensors"),
    ] {
        let output = run.output(&format!("run-{actor}"));
        let further: Vec<&str> = further.iter().map(String::as_str).collect();
        let resume = [&further[..], &["--resume"]].concat();
        let began = start(models, actor, &output, &further);
        assert!(began.0, "{}", began.1);
        let again = start(models, actor, &output, &resume);
        assert!(again.0, "{}", again.1);
        for role in ["reference", "reward-model", "cost-model", "reward-critic", "cost-critic"] {
            let path = models.join(role.trim_end_matches("-model")).join(file);
            let own = fs::read(&path).unwrap();
            let mut other = own.clone();
            // The last bits of all weights, behind the file's header.
            let header = 8 + u64::from_le_bytes(own[..8].try_into().unwrap()) as usize;
            other[header..].iter_mut().step_by(4).for_each(|byte| *byte ^= 1);
            fs::write(&path, other).unwrap();
            let (done, said) = start(models, actor, &output, &resume);
            assert!(!done && said.contains(&format!("what {role} names holds something else")), "{role}: {said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
            fs::write(&path, own).unwrap();
        }
        let own = fs::read_to_string(&ptx).unwrap();
        fs::write(&ptx, format!("{own}\n")).unwrap();
        let (done, said) = start(models, actor, &output, &resume);
        assert!(!done && said.contains("what ptx-data names holds something else"), "{said}");
        fs::write(&ptx, own).unwrap();
        let again = start(models, actor, &output, &resume);
        assert!(again.0, "{}", again.1);
    }
}
