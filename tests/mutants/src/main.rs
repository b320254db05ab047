//! Tries mutants fast: all of them are compiled into one build of a copy of the project, each behind a switch, and a
//! run of the tests turns one on. A first run of each test records which mutants it reaches; a mutant is then tried on
//! the tests that reach it, the quickest first, until one fails.

mod build;
mod list;
mod sites;
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use list::Mutant;

/// What went wrong, for a person.
pub type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(problem) = run() {
        eprintln!("error: {problem}");
        std::process::exit(1);
    }
}

/// `paddock-mutants PROJECT FOLDER SECONDS all|again LIST…`: the project's root, a folder to work in, how many seconds of
/// tests a mutant gets, whether those that an earlier run caught are tried, too, and lists of cargo-mutants
/// (`--list --json`).
fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("the {what} is missing"));
    let (project, folder) = (PathBuf::from(next("project")?), PathBuf::from(next("folder")?));
    let seconds: f64 = next("seconds")?.parse().map_err(|error| format!("seconds: {error}"))?;
    let again = match &*next("choice between all and again")? {
        "all" => false,
        "again" => true,
        other => return Err(format!("expected all or again, found {other}")),
    };
    let mutants = read_lists(arguments)?;
    println!("{} mutants", mutants.len());
    let copy = build::Copy { project, folder: folder.clone() };
    let excluded = copy.write_until_it_compiles(&mutants)?;
    let programs = copy.programs()?;
    let suite = tests::Suite::read_or_record(&programs, &folder, mutants.len())?;
    suite.try_mutants(&mutants, &excluded, &folder, seconds, again)
}

fn read_lists(paths: impl Iterator<Item = String>) -> Result<Vec<Mutant>> {
    let mut all: BTreeMap<String, Mutant> = BTreeMap::new();
    for path in paths {
        let text = fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let list: Vec<Mutant> = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
        all.extend(list.into_iter().map(|mutant| (mutant.name.clone(), mutant)));
    }
    let mut mutants: Vec<Mutant> = all.into_values().collect();
    for (index, mutant) in mutants.iter_mut().enumerate() {
        mutant.number = index as u32 + 1;
    }
    Ok(mutants)
}
