//! How fast instructions are compared with many others, beside the package rouge-score.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use xtask::{Result, workspace};

/// Instructions that are there, and new ones.
const KEPT: usize = 20_000;
const NEW: usize = 1_000;
/// New ones that the package is given, since it takes half a minute for each hundred.
const NEW_FOR_PYTHON: usize = 40;
/// Instructions of Alpaca's size, from nothing.
const GROWN: usize = 52_000;

/// Where Python is.
#[derive(clap::Args)]
pub struct Options {
    /// A Python with the package rouge-score
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

/// Compares as Alpaca does it, but with one pool of two processes for all candidates instead of one for each.
const PYTHON: &str = r#"
import json, sys, time
from functools import partial
from multiprocessing import Pool
from rouge_score import rouge_scorer
tokenizer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)._tokenizer
def read(path):
    return [tokenizer.tokenize(json.loads(line)["instruction"]) for line in open(path)]
kept, new = read(sys.argv[1]), read(sys.argv[2])[: int(sys.argv[3])]
found = 0
with Pool(2) as pool:
    pool.map(len, kept[:2])
    start = time.time()
    for tokens in new:
        scores = pool.map(partial(rouge_scorer._score_lcs, tokens), kept, chunksize=len(kept) // 8)
        found += max(score.fmeasure for score in scores) > 0.7
    print(time.time() - start, found)
"#;

/// Prints the seconds of both.
///
/// # Errors
/// When one of them cannot be run.
pub fn run(options: &Options) -> Result<()> {
    let paddock = workspace::paddock(true)?;
    let folder = tempfile::tempdir().map_err(|error| format!("there is no temporary folder: {error}"))?;
    let [kept, new, one, grown, output] =
        ["kept", "new", "one", "grown", "output"].map(|name| folder.path().join(format!("{name}.jsonl")));
    write(&kept, 1, KEPT)?;
    write(&new, 2, NEW)?;
    write(&one, 2, 1)?;
    write(&grown, 3, GROWN)?;
    let filter = |input: &Path, against: Option<&Path>| -> Result<f64> {
        let mut command = Command::new(&paddock);
        command.args(["instruct", "filter", "--keep-duplicates", "--rouge", "0.7", "--input"]).arg(input);
        command.arg("--output").arg(&output);
        if let Some(against) = against {
            command.arg("--against").arg(against);
        }
        let start = Instant::now();
        let status = command.status().map_err(|error| format!("paddock cannot be run: {error}"))?;
        if status.success() { Ok(start.elapsed().as_secs_f64()) } else { Err("paddock failed".to_string()) }
    };
    // Python's time begins when both files have been read, too.
    let reading = filter(&one, Some(&kept))?;
    let both = filter(&new, Some(&kept))?;
    println!(
        "paddock: {NEW} new against {KEPT}: {:.3} s ({both:.2} s, less {reading:.2} s to read the {KEPT})",
        both - reading
    );
    println!("paddock: {GROWN} from nothing: {:.1} s", filter(&grown, None)?);
    let mut python = Command::new(&options.python);
    python.args(["-c", PYTHON]).arg(&kept).arg(&new).arg(NEW_FOR_PYTHON.to_string());
    let found = python.output().map_err(|error| format!("cannot start {}: {error}", options.python.display()))?;
    let text = String::from_utf8_lossy(&found.stdout);
    let seconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or_else(|| {
        format!(
            "the package failed; it needs a Python with rouge-score (--python): {}",
            String::from_utf8_lossy(&found.stderr)
        )
    })?;
    let all = seconds * NEW as f64 / NEW_FOR_PYTHON as f64;
    println!("rouge-score, 2 processes: {NEW_FOR_PYTHON} new against {KEPT}: {seconds:.1} s, so {all:.0} s for {NEW}");
    println!("ratio: {:.0}", all / (both - reading).max(1e-3));
    Ok(())
}

/// Instructions as long as Alpaca's, 5 to 24 words, of words as frequent as words are (Zipf).
fn write(path: &Path, seed: u64, count: usize) -> Result<()> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut text = String::new();
    for _ in 0..count {
        let words = 5 + (20.0 * uniform() * uniform()) as usize;
        // A rank r with a probability in proportion to 1 / r, up to 20,000.
        let line: Vec<String> = (0..words).map(|_| format!("w{}", 20_000f64.powf(uniform()) as usize)).collect();
        text += &format!("{{\"instruction\": \"{}\", \"input\": \"\", \"output\": \"x\"}}\n", line.join(" "));
    }
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
