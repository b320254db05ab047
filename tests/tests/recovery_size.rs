//! Recovery at LLaMA-7B's size: memory, and speed beside `cp`. `cargo xtask soak` runs it with two layers;
//! `PADDOCK_RECOVERY_LAYERS=32` is the whole model, 13.5 GB, and takes four times that on the disk of `TMPDIR`.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use paddock::Result;
use paddock::weights::{Export, Rows, Stored};
use paddock_engine::ModelConfig;
use paddock_engine::weights::Encoding;
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

/// Bytes of noise, of which every row takes a part.
const NOISE: usize = 1 << 20;

/// Numbers of a trained model's size, as f16; the low bits of the mantissa differ from one `tuning` to another.
fn noise(tuning: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * NOISE);
    let mut state = 1_u64;
    while bytes.len() < 2 * NOISE {
        // Knuth's MMIX; the exponents are those of 2^-7 to 2^-4.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = state.rotate_right(29) & 0x8FFF_8FFF_8FFF_8FFF | 0x2000_2000_2000_2000;
        let change = (state >> 7 & 0x0003_0003_0003_0003) * tuning;
        bytes.extend_from_slice(&(noise ^ change).to_le_bytes());
    }
    bytes
}

struct Noise<'a> {
    tensors: &'a [Stored],
    bytes: &'a [u8],
}

impl Rows for Noise<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        let row_bytes = self.tensors[tensor].row_bytes();
        let mut bytes = Vec::with_capacity(rows.len() * row_bytes);
        for row in rows {
            let start = (tensor * 7919 + row * 104_729) * 8 % NOISE;
            bytes.extend_from_slice(&self.bytes[start..start + row_bytes]);
        }
        Ok(bytes)
    }

    fn finish(&mut self, _: usize) -> Result<Value> {
        Ok(Value::Null)
    }
}

/// Makes a model in the folder `output` and gives its tensors.
fn make(output: &Path, layers: usize, tuning: u64) -> Vec<Stored> {
    let config = config(layers);
    let params = ModelConfig::from_json(&config, None).unwrap().params();
    let tensors: Vec<Stored> = params.into_iter().map(|param| Stored { param, encoding: Encoding::F16 }).collect();
    let export = Export { output: output.to_path_buf(), tensors, key: tuning.to_string(), threads: 2 };
    let bytes = noise(tuning);
    let exported = export.run(&|| Ok(Noise { tensors: &export.tensors, bytes: &bytes }), &mut |_| {}).unwrap();
    exported.commit(&[("config.json".to_string(), config.to_string().into_bytes())]).unwrap();
    export.tensors
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

fn bytes_in(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
#[ignore = "soak: gigabytes are written"]
fn recovery_takes_little_memory() {
    let layers =
        std::env::var("PADDOCK_RECOVERY_LAYERS").map_or(2, |layers| layers.parse().expect("a number of layers"));
    if !Path::new("/proc/self/status").exists() {
        return skip("proc", "this system does not tell the memory of a process");
    }
    let paddock = workspace::paddock(true).unwrap();
    let scratch = TempDir::new().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let (raw, tuned, diff) = (path("raw"), path("tuned"), path("diff"));
    let largest = make(&raw, layers, 0).iter().map(Stored::bytes).max().unwrap();
    make(&tuned, layers, 1);
    let mut command = Command::new(&paddock);
    command.args(["diff", "make", "--exact", "--raw"]).arg(&raw).arg("--tuned").arg(&tuned).arg("--output").arg(&diff);
    let (made, make_peak) = run(&mut command);
    let digest = |folder: &Path| paddock::weights::file_sha256(&folder.join("model.safetensors")).ok();
    let expected = digest(&tuned);
    fs::remove_dir_all(&tuned).unwrap();
    let size = bytes_in(&raw);
    eprintln!("{layers} layers, {} MB; made the diff in {made:.1?}, peak {} MB", size / 1_000_000, make_peak >> 20);
    let mut peak = make_peak;
    for round in 0..3 {
        let (copy, recovered) = (path("copy"), path("recovered"));
        // Both bring their output to the disk.
        let mut cp = Command::new("sh");
        let (copied, _) = run(cp.arg("-c").arg(r#"cp -r "$1" "$2" && sync -f "$2""#).arg("sh").arg(&raw).arg(&copy));
        fs::remove_dir_all(&copy).unwrap();
        let mut command = Command::new(&paddock);
        command.args(["diff", "recover", "--raw"]).arg(&raw).arg("--diff").arg(&diff).arg("--output").arg(&recovered);
        let (took, at) = run(&mut command);
        peak = peak.max(at);
        assert_eq!(digest(&recovered), expected, "the recovered model is not the tuned one");
        fs::remove_dir_all(&recovered).unwrap();
        // cp moves its bytes twice, in and out; recovery reads two models and writes one.
        let rate = |times: u64, time: Duration| (times * size) as f64 / 1e6 / time.as_secs_f64();
        eprintln!(
            "round {round}: cp {copied:.2?} ({:.0} MB/s read and written), recovery {took:.2?} ({:.0} MB/s), peak {} MB; \
             {:.0} % of cp's speed by bytes moved, {:.0} % by bytes written",
            rate(2, copied),
            rate(3, took),
            at >> 20,
            100.0 * rate(3, took) / rate(2, copied),
            100.0 * copied.as_secs_f64() / took.as_secs_f64(),
        );
    }
    let bound = 2 * largest + ROOM;
    assert!(peak <= bound, "{peak} bytes were resident; the bound is {bound}");
}
