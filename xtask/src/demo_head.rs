//! `cargo xtask demo-head`: trains the demo's reward head from Self-Instruct's seed tasks and reports how well it does on
//! tasks it has not seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::{Result, default_model, process, workspace};

pub mod pairs;

use pairs::{KINDS, Pair};

/// The pack's folder in `public/models`.
const NAME: &str = "SmolLM2-135M-reward-head";
/// Every fifth task is held out.
const HELD_OUT: usize = 5;

/// What to train from.
#[derive(clap::Args)]
pub struct Options {
    /// Self-Instruct's seed_tasks.jsonl.
    #[arg(long, value_name = "PATH")]
    seed_tasks: PathBuf,
}

/// Trains, packs, evaluates and reports.
pub fn run(options: &Options) -> Result<()> {
    let text = fs::read_to_string(&options.seed_tasks).map_err(|error| cannot("read", &options.seed_tasks, error))?;
    let tasks = pairs::tasks(&text)?;
    let model = default_model::ensure()?;
    let paddock = workspace::paddock(true)?;
    let folder = workspace::target().join("demo-head");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| cannot("remove", &folder, error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, error))?;
    let all = pairs::derive(&tasks);
    let (held_out, train): (Vec<Pair>, Vec<Pair>) = all.into_iter().partition(|pair| pair.task % HELD_OUT == 0);
    let (train_file, test_file) = (folder.join("train.jsonl"), folder.join("test.jsonl"));
    write_pairs(&train_file, &train)?;
    write_pairs(&test_file, &held_out)?;

    let head = folder.join("head");
    let mut training = Command::new(&paddock);
    training.args(["reward-head", "--trunk-name", default_model::NAME, "--model"]).arg(&model);
    training.arg("--data").arg(&train_file).arg("--eval-data").arg(&test_file).arg("--output").arg(&head);
    process::run(&mut training)?;
    let pack = workspace::models().join(NAME);
    process::run(
        Command::new(&paddock).arg("pack").arg("--model").arg(&head).arg("--output").arg(&pack).args(["--name", NAME]),
    )?;

    // Through the pack and the command that everybody uses, not through the trainer.
    let report = report(&held_out, &score(&paddock, &model, &pack, &test_file)?);
    println!("{report}");
    let path = workspace::root().join("docs/demo-head.md");
    fs::write(&path, report).map_err(|error| cannot("write", &path, error))
}

fn write_pairs(path: &Path, pairs: &[Pair]) -> Result<()> {
    let text: String = pairs.iter().map(|pair| format!("{}\n", pair.row())).collect();
    fs::write(path, text).map_err(|error| cannot("write", path, error))
}

/// For each pair, whether the better answer scores higher.
fn score(paddock: &Path, model: &Path, pack: &Path, pairs: &Path) -> Result<Vec<bool>> {
    eprintln!("Scoring {} …", pairs.display());
    let mut command = Command::new(paddock);
    command.arg("score").arg("--model").arg(pack).arg("--trunk").arg(model).arg("--input").arg(pairs);
    let output = command.args(["--device", "cpu", "--json"]).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| cannot("start", paddock, error))?;
    if !output.status.success() {
        return Err(format!("paddock score failed on {}", pairs.display()));
    }
    let rows = String::from_utf8_lossy(&output.stdout).into_owned();
    let right = |line: &str| -> Option<bool> {
        let row: Value = serde_json::from_str(line).ok()?;
        let better = row["better_response_id"].as_u64()? as usize;
        Some(row["end_score"][better].as_f64()? > row["end_score"][1 - better].as_f64()?)
    };
    rows.lines().map(right).collect::<Option<_>>().ok_or_else(|| "paddock score printed no scores".to_string())
}

fn report(pairs: &[Pair], right: &[bool]) -> String {
    let accuracy = |kind: Option<&str>| {
        let of_kind = pairs.iter().zip(right).filter(|(pair, _)| kind.is_none_or(|kind| pair.kind == kind));
        let (count, right) = of_kind.fold((0, 0), |(count, sum), (_, right)| (count + 1, sum + usize::from(*right)));
        format!("{right} of {count} ({:.1} %)", 100.0 * right as f64 / f64::from(count.max(1)))
    };
    let mut text = format!(
        "# The demo's reward head\n\n\
         `public/models/{NAME}` is a linear reward head on {}, trained by\n\n\
         ```sh\ncargo xtask demo-head --seed-tasks seed_tasks.jsonl\n```\n\n\
         from Self-Instruct's 175 seed tasks (github.com/yizhongw/self-instruct, not part of this repository). Each \
         task's reference answer is preferred to a worse one made from it or from another task; every fifth task is \
         held out. It is there so that scoring can be tried without another download. It tells whole answers from \
         damaged or misplaced ones on tasks of this kind as well as the table says, and is no judge of helpfulness, truth or harm.\n\n\
         How often the reference scores higher on the held-out tasks, by `paddock score`:\n\n\
         | the worse answer is | right |\n|---|---:|\n",
        default_model::NAME
    );
    for (kind, what) in KINDS {
        text.push_str(&format!("| {what} | {} |\n", accuracy(Some(kind))));
    }
    text.push_str(&format!("| all | {} |\n", accuracy(None)));
    text
}

fn cannot(act: &str, path: &Path, error: std::io::Error) -> String {
    format!("cannot {act} {}: {error}", path.display())
}
