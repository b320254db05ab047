//! The table of the measurements, and its place in docs/benchmarks.md.

use std::fs;
use std::process::Command;

use xtask::{Result, process, workspace};

use super::{Comparison, RUNS, Speed, TOKENS};

/// Ends what a command has written.
const END: &str = "<!-- end -->";

/// Machine, method and table.
pub fn markdown(comparisons: &[Comparison]) -> Result<String> {
    let revision =
        process::output(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(workspace::root()))?;
    let mut text = format!(
        "Machine: {}. Revision {}. SmolLM2-135M-Instruct Q4_1, a prompt of about 250 tokens, {TOKENS} tokens decoded\n\
         greedily. The two programs of a row ran in turn, {RUNS} times each; medians, in tokens a second.\n\n\
         | | | Paddock | peer | ratio |\n|---|---|---:|---:|---:|\n",
        machine(),
        revision.trim()
    );
    for comparison in comparisons {
        for (phase, of) in [("prefill", (|speed| speed.prefill) as fn(&Speed) -> f64), ("decode", |speed| speed.decode)]
        {
            let (paddock, other) = (median(&comparison.paddock, of), median(&comparison.other, of));
            text += &format!(
                "| {}, against {} | {phase} | {paddock:.1} | {other:.1} | {:.2} × |\n",
                comparison.what,
                comparison.peer,
                paddock / other
            );
        }
    }
    Ok(text)
}

/// Puts `report` into docs/benchmarks.md in place of the last one of the xtask command `command`.
pub fn write(command: &str, report: &str) -> Result<()> {
    let begin_mark = format!("<!-- written by cargo xtask {command} -->");
    let path = workspace::root().join("docs/benchmarks.md");
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let old = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let begin = old.find(&begin_mark);
    let Some((begin, end)) = begin.and_then(|begin| Some((begin, begin + old[begin..].find(END)?))) else {
        return Err(format!("{} has no place for the report between {begin_mark:?} and {END:?}", path.display()));
    };
    let new = format!("{}{begin_mark}\n{report}{}", &old[..begin], &old[end..]);
    let part = path.with_extension("part");
    fs::write(&part, new).and_then(|()| fs::rename(&part, &path)).map_err(cannot)
}

fn median(speeds: &[Speed], of: fn(&Speed) -> f64) -> f64 {
    let mut values: Vec<f64> = speeds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The processor's name and the number of processors.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {count} processors", name.map_or("unknown processor", |(_, name)| name))
}
