//! Mutants (cargo-mutants): every small change to the engine's and the learning code that compiles must fail a test.

use std::fs;
use std::path::Path;

use xtask::{Result, tools, workspace};

/// Sources, and the tests that are to notice what changes in them.
struct Campaign {
    name: &'static str,
    /// The crate that holds the sources.
    package: &'static str,
    files: &'static str,
    /// Beginnings of the tests' names, of unit tests and of modules of `it`.
    tests: &'static [&'static str],
}

const CAMPAIGNS: [Campaign; 5] = [
    Campaign {
        name: "generate",
        package: "paddock-engine",
        files: "engine/src/generate/**/*.rs",
        tests: &["generate::", "candidates::", "score::", "wgpu_model::"],
    },
    Campaign {
        name: "tokenizer",
        package: "paddock-engine",
        files: "engine/src/tokenizer/**/*.rs",
        tests: &["tokenizer", "prompt", "weights_gguf::"],
    },
    Campaign {
        name: "weights",
        package: "paddock-engine",
        files: "engine/src/weights/**/*.rs",
        tests: &["weights", "cli_diff::", "cli_convert::"],
    },
    Campaign {
        name: "cpu",
        package: "paddock-engine",
        files: "engine/src/backend/cpu/**/*.rs",
        tests: &["backend::cpu", "parity::", "exactness::", "gradients::"],
    },
    Campaign {
        name: "learn",
        package: "paddock-learn",
        files: "learn/src/**/*.rs",
        tests: &[
            "adapters::",
            "collective",
            "cpu::",
            "data::",
            "distributed::",
            "gradients::",
            "lora",
            "loss::",
            "optim::",
            "preference::",
            "recipes::",
            "tape::",
            "trainer::",
            "training",
        ],
    },
];

/// Mutants that no test can or need notice, each with the reason.
const ACCEPTED: &str = "docs/mutants.md";
/// Part of the mutants that must be caught, in percent; the others must be in [`ACCEPTED`].
const LEAST_CAUGHT: usize = 90;
/// Seconds after which a mutant counts as caught: it loops.
const TIMEOUT: &str = "300";

/// Which mutants to try.
#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Sources whose mutants are tried: generate, tokenizer, weights, cpu, learn; all by default.
    #[arg(long, value_name = "CAMPAIGN")]
    mutants: Vec<String>,
    /// Try the K-th of N parts of a campaign's mutants, K from 0 on.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
}

/// Tries the mutants and compares those that no test noticed with docs/mutants.md.
///
/// # Errors
/// When too few are caught, or one that is not is not listed.
pub fn run(options: &Options) -> Result<()> {
    let unknown = options.mutants.iter().find(|name| !CAMPAIGNS.iter().any(|campaign| campaign.name == **name));
    if let Some(name) = unknown {
        let names: Vec<&str> = CAMPAIGNS.iter().map(|campaign| campaign.name).collect();
        return Err(format!("there are no mutants of \"{name}\"; expected {}", names.join(", ")));
    }
    tools::ensure_mutants()?;
    let accepted = workspace::root().join(ACCEPTED);
    let accepted = fs::read_to_string(&accepted).map_err(|error| format!("cannot read {ACCEPTED}: {error}"))?;
    let mut problems = Vec::new();
    for campaign in CAMPAIGNS {
        if options.mutants.is_empty() || options.mutants.iter().any(|name| name == campaign.name) {
            let outcome = try_mutants(&campaign, options.shard.as_deref())?;
            println!("{}: {}", campaign.name, outcome.summary());
            problems.extend(outcome.problems(&accepted).map(|problem| format!("{}: {problem}", campaign.name)));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Runs the crate's own unit tests on each mutant, which takes seconds, and the integration tests, which takes more, on
/// those that got through.
fn try_mutants(campaign: &Campaign, shard: Option<&str>) -> Result<Outcome> {
    let folder = workspace::target().join("mutants").join(campaign.name);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    run_tests(campaign, shard, &folder, Tests::Unit)?;
    let unit = Outcome::read(&folder.join("mutants.out"))?;
    if unit.missed.is_empty() && unit.slow == 0 {
        return Ok(unit);
    }
    run_tests(campaign, shard, &folder, Tests::Integration)?;
    let rest = Outcome::read(&folder.join("mutants.out"))?;
    Ok(Outcome { caught: unit.caught + rest.caught, ..rest })
}

fn run_tests(campaign: &Campaign, shard: Option<&str>, folder: &Path, tests: Tests) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["mutants", "--no-shuffle", "--jobs", "1", "--timeout", TIMEOUT, "--file", campaign.files]);
    cargo.arg("--output").arg(folder);
    let targets: &[&str] = match tests {
        Tests::Unit => {
            cargo.args(["--test-package", campaign.package]);
            &["--lib"]
        }
        Tests::Integration => {
            // Only those that the folder does not call caught. Without mutants cargo-mutants would run the tests of the
            // mutated crate, which has no target `it`; the unit tests' pass has shown that it compiles.
            cargo.args(["--test-package", "paddock-tests", "--iterate", "--baseline", "skip"]);
            &["--test", "it"]
        }
    };
    if let Some(shard) = shard {
        cargo.args(["--shard", shard]);
    }
    // Most of the time is the compiler's, even though the tests run slower for it.
    for package in ["paddock-engine", "paddock-learn"] {
        cargo.arg(format!("--cargo-arg=--config=profile.dev.package.{package}.opt-level=1"));
    }
    cargo.arg("--").args(targets).arg("--").args(campaign.tests);
    cargo.env("CARGO_TARGET_DIR", workspace::target().join("mutants/build")).env("PATH", tools::path()?);
    let status = cargo.status().map_err(|error| format!("cargo mutants cannot be run: {error}"))?;
    // 2: some were missed; 3: some took too long. Which ones is in its output.
    match status.code() {
        Some(0 | 2 | 3) => Ok(()),
        _ => Err(format!("cargo mutants failed on {} ({status})", campaign.name)),
    }
}

/// Tests that are to notice mutants.
#[derive(Clone, Copy)]
enum Tests {
    Unit,
    Integration,
}

/// What became of the mutants.
struct Outcome {
    /// How many failed a test.
    caught: usize,
    /// How many were stopped because a test took too long, which it does not without them.
    slow: usize,
    missed: Vec<String>,
}

impl Outcome {
    /// Reads the lists in cargo-mutants' output.
    fn read(folder: &Path) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<String>> {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok(text.lines().map(without_place).collect())
        };
        let (caught, slow) = (list("caught.txt")?.len(), list("timeout.txt")?.len());
        Ok(Self { caught, slow, missed: list("missed.txt")? })
    }

    fn percent(&self) -> usize {
        let noticed = self.caught + self.slow;
        100 * noticed / (noticed + self.missed.len()).max(1)
    }

    fn summary(&self) -> String {
        let Self { caught, slow, missed } = self;
        format!("{} mutants caught, {} missed: {} %", caught + slow, missed.len(), self.percent())
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
        let mutant = without_place("engine/src/a.rs:12:5: replace a -> b with c");
        assert_eq!(mutant, "engine/src/a.rs: replace a -> b with c");
        let outcome = Outcome { caught: 18, slow: 1, missed: vec![mutant] };
        let problems = |accepted: &str| outcome.problems(accepted).count();
        assert_eq!((problems(""), problems("- `engine/src/a.rs: replace a -> b with c`: no matter")), (1, 0));
        let few = Outcome { caught: 5, slow: 0, missed: vec![String::new(); 5] };
        assert_eq!(few.problems("``").count(), 1);
    }

    #[test]
    fn lists_of_mutants_are_read() {
        let folder = tempfile::TempDir::new().unwrap();
        for (name, text) in [("caught.txt", "a:1:1: x\nb:1:1: y\n"), ("timeout.txt", "c:1:1: z\n"), ("missed.txt", "")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let outcome = Outcome::read(folder.path()).unwrap();
        assert_eq!(outcome.summary(), "3 mutants caught, 0 missed: 100 %");
        assert!(Outcome::read(&folder.path().join("none")).is_err());
    }
}
