//! Recovery at LLaMA-7B's size: memory, and speed beside `cp`. `cargo xtask soak` runs it with two layers;
//! `PADDOCK_RECOVERY_LAYERS=32` is the whole model, 13.5 GB, and takes three times that on the disk of `TMPDIR` (four
//! times for the diff in f32, which comes last).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use paddock_tests::skip;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::workspace;

/// What resident memory may be above twice the largest tensor.
const ROOM: u64 = 200 << 20;

fn config(layers: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
        "rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "tie_word_embeddings": false, "dtype": "float16",
    })
}

/// Runs a program; the time it took, and its peak resident memory as far as the system tells.
fn run(command: &mut Command) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = line.map_or(peak, |kib: u64| kib << 10);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return (started.elapsed(), peak);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn bytes_in(folder: &str) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// How a diff is made.
const METHODS: [&[&str]; 3] = [&["--exact"], &["--dtype", "f16"], &["--dtype", "f32"]];

#[test]
#[ignore = "soak: gigabytes are written"]
fn recovery_takes_little_memory() {
    let layers =
        std::env::var("PADDOCK_RECOVERY_LAYERS").map_or(2, |layers| layers.parse().expect("a number of layers"));
    if !Path::new("/proc/self/status").exists() {
        return skip("proc", "this system does not tell the memory of a process");
    }
    let program = workspace::paddock(true).unwrap();
    let scratch = TempDir::new().unwrap();
    let path = |name: &str| scratch.path().join(name).into_os_string().into_string().unwrap();
    let paddock = |arguments: &[&str]| run(Command::new(&program).args(arguments));
    let [shape, raw, tuned, diff] = ["shape", "raw", "tuned", "diff"].map(path);
    fs::create_dir(&shape).unwrap();
    fs::write(Path::new(&shape).join("config.json"), config(layers).to_string()).unwrap();
    let random = |seed: &str, output: &str| {
        paddock(&["random", "--like", &shape, "--dtype", "f16", "--seed", seed, "--output", output])
    };
    let (drawn, mut peak) = random("0", &raw);
    let size = bytes_in(&raw);
    eprintln!("{layers} layers, {} MB, drawn in {drawn:.1?}", size / 1_000_000);
    for method in METHODS {
        random("1", &tuned);
        let pair = ["diff", "make", "--raw", &raw, "--tuned", &tuned, "--output", &diff];
        let (took, at) = paddock(&[&pair[..], method].concat());
        let stored = bytes_in(&diff);
        eprintln!("{}: {} MB made in {took:.1?}, peak {} MB", method.join(" "), stored / 1_000_000, at >> 20);
        let digest = digests(&tuned);
        fs::remove_dir_all(&tuned).unwrap();
        peak = peak.max(at);
        for round in 0..3 {
            let [copy, recovered] = ["copy", "recovered"].map(path);
            // Both bring their output to the disk.
            let script = r#"cp -r "$1" "$2" && sync -f "$2""#;
            let (copied, _) = run(Command::new("sh").args(["-c", script, "sh", &raw, &copy]));
            fs::remove_dir_all(&copy).unwrap();
            // What recovery verifies are the digests of the numbers that such a diff gives.
            let (took, at) = paddock(&["diff", "recover", "--raw", &raw, "--diff", &diff, "--output", &recovered]);
            peak = peak.max(at);
            if method == ["--exact"] {
                assert_eq!(digests(&recovered), digest, "the recovered model is not the tuned one");
            }
            fs::remove_dir_all(&recovered).unwrap();
            // cp reads and writes the model; recovery reads it and the diff and writes as much.
            let rate = |bytes: u64, time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
            eprintln!(
                "round {round}: cp {copied:.2?} ({:.0} MB/s written), recovery {took:.2?} ({:.0} MB/s written), peak {} MB; \
                 {:.0} % of cp's speed by bytes written, {:.0} % by bytes read and written",
                rate(size, copied),
                rate(size, took),
                at >> 20,
                100.0 * rate(size, took) / rate(size, copied),
                100.0 * rate(2 * size + stored, took) / rate(2 * size, copied),
            );
        }
        fs::remove_dir_all(&diff).unwrap();
    }
    // The embedding and the head are the largest tensors.
    let bound = 2 * (32_000 * 4096 * 2) + ROOM;
    assert!(peak <= bound, "{peak} bytes were resident; the bound is {bound}");
}

/// The SHA-256 of all files with weights.
fn digests(folder: &str) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files.iter().map(|file| paddock::files::file_sha256(file).unwrap()).collect()
}
