//! Mutants (those of cargo-mutants): every small change to the engine's and the learning code that compiles must fail a
//! test. tests/mutants compiles all of them into one build, each behind a switch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use xtask::{Result, process, tools, workspace};

/// What is changed, by the name that a person asks for: folders of the workspace.
const CAMPAIGNS: [(&str, &[&str]); 5] = [
    ("generate", &["engine/src/generate/"]),
    ("tokenizer", &["engine/src/tokenizer/"]),
    ("weights", &["engine/src/weights/"]),
    ("cpu", &["engine/src/backend/cpu/", "engine/kernels/src/"]),
    ("learn", &["learn/src/"]),
];

/// Mutants that no test can or need notice, each with the reason.
const ACCEPTED: &str = "docs/mutants.md";
/// Part of the mutants that must be caught, in percent; the others must be in [`ACCEPTED`].
const LEAST_CAUGHT: usize = 90;

/// Which mutants to try.
#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Sources whose mutants are tried: generate, tokenizer, weights, cpu, learn; all by default.
    #[arg(long, value_name = "CAMPAIGN")]
    mutants: Vec<String>,
    /// Seconds of tests that a mutant gets, of those that reach its code, the quickest first.
    #[arg(long, default_value_t = 30)]
    mutant_seconds: u32,
    /// Try only those that no test noticed the last time. The sources must be the same but for tests at their ends.
    #[arg(long)]
    mutants_again: bool,
}

/// Tries the mutants and compares those that no test noticed with docs/mutants.md.
///
/// # Errors
/// When too few are caught, or one that is not is not listed.
pub fn run(options: &Options) -> Result<()> {
    let unknown = options.mutants.iter().find(|name| !CAMPAIGNS.iter().any(|(campaign, _)| campaign == name));
    if let Some(name) = unknown {
        let names = CAMPAIGNS.map(|(campaign, _)| campaign).join(", ");
        return Err(format!("there are no mutants of \"{name}\"; expected {names}"));
    }
    let accepted = fs::read_to_string(workspace::root().join(ACCEPTED))
        .map_err(|error| format!("cannot read {ACCEPTED}: {error}"))?;
    let wanted = |name: &str| options.mutants.is_empty() || options.mutants.iter().any(|wanted| wanted == name);
    let campaigns: Vec<(&str, &[&str])> = CAMPAIGNS.into_iter().filter(|(name, _)| wanted(name)).collect();
    let folder = workspace::target().join("mutants");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let lists = campaigns.iter().map(|(name, folders)| list(name, folders, &folder)).collect::<Result<Vec<_>>>()?;
    try_mutants(&lists, options, &folder)?;
    let path = folder.join("outcomes.txt");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut problems = Vec::new();
    for (name, folders) in campaigns {
        let outcome = Outcome::read(&text, folders);
        println!("{name}: {}", outcome.summary());
        problems.extend(outcome.problems(&accepted).map(|problem| format!("{name}: {problem}")));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Has cargo-mutants list the mutants of the files below some folders.
fn list(name: &str, folders: &[&str], folder: &Path) -> Result<PathBuf> {
    tools::ensure_mutants()?;
    let mut cargo = workspace::cargo();
    cargo.args(["mutants", "--list", "--json"]).env("PATH", tools::path()?);
    for files in folders {
        cargo.arg("--file").arg(format!("{files}**/*.rs"));
    }
    let output = cargo.output().map_err(|error| format!("cargo mutants cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo mutants failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, output.stdout).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn try_mutants(lists: &[PathBuf], options: &Options, folder: &Path) -> Result<()> {
    let which = if options.mutants_again { "again" } else { "all" };
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--release", "--manifest-path", "tests/mutants/Cargo.toml", "--target-dir"]);
    cargo.arg(folder.join("tool")).arg("--").arg(workspace::root()).arg(folder).arg(options.mutant_seconds.to_string());
    cargo.arg(which).args(lists);
    process::run(&mut cargo)
}

/// What became of the mutants of a campaign.
#[derive(Default)]
struct Outcome {
    /// How many there are of each fate.
    counts: BTreeMap<String, usize>,
    /// Those that no test noticed.
    missed: Vec<String>,
}

impl Outcome {
    /// Reads the lines, a fate and a mutant's name, of files below `folders`.
    fn read(text: &str, folders: &[&str]) -> Self {
        let mut outcome = Self::default();
        for (fate, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            if folders.iter().any(|files| name.starts_with(files)) {
                *outcome.counts.entry(fate.to_string()).or_default() += 1;
                if ["missed", "missed in part", "unreached"].contains(&fate) {
                    outcome.missed.push(without_place(name));
                }
            }
        }
        outcome
    }

    fn count(&self, fate: &str) -> usize {
        self.counts.get(fate).copied().unwrap_or_default()
    }

    fn caught(&self) -> usize {
        self.count("caught") + self.count("timeout")
    }

    fn percent(&self) -> usize {
        100 * self.caught() / (self.caught() + self.missed.len()).max(1)
    }

    fn summary(&self) -> String {
        let fates: Vec<String> = self.counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
        format!("{} % caught ({})", self.percent(), fates.join(", "))
    }

    /// What is wrong: too few caught, or missed ones that the text `accepted` does not name.
    fn problems(&self, accepted: &str) -> impl Iterator<Item = String> {
        let few = (self.percent() < LEAST_CAUGHT).then(|| format!("at least {LEAST_CAUGHT} % must be caught"));
        let unlisted = self.missed.iter().filter(|mutant| !accepted.contains(&format!("`{mutant}`")));
        few.into_iter().chain(unlisted.map(|mutant| format!("no test notices {mutant}; {ACCEPTED} does not list it")))
    }
}

/// A mutant as cargo-mutants names it, `src/a.rs:12:5: replace …`, without line and column, which every change moves.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_mutant_must_be_listed() {
        let text = "caught\tengine/src/a.rs:1:1: x\ntimeout\tengine/src/a.rs:2:1: x\n\
                    missed\tengine/src/a.rs:12:5: replace a -> b with c\nunviable\tengine/src/a.rs:3:1: x\n\
                    missed\tlearn/src/b.rs:1:1: y\n";
        let outcome = Outcome::read(text, &["engine/src/"]);
        assert_eq!(outcome.summary(), "66 % caught (1 caught, 1 missed, 1 timeout, 1 unviable)");
        let problems = |accepted: &str| outcome.problems(accepted).collect::<Vec<_>>();
        assert_eq!(problems("").len(), 2);
        assert_eq!(problems("- `engine/src/a.rs: replace a -> b with c`: no matter"), ["at least 90 % must be caught"]);
    }
}
