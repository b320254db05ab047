//! The copy of the project with the mutants in it, and its build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;
use crate::list::Mutant;
use crate::sites::{self, Piece};

/// Added to the kernels, which every other crate is built on; the engine passes it on.
const SWITCH: &str = include_str!("switch.rs");
const PASSED_ON: &str = "\n#[doc(hidden)]\npub use paddock_kernels::mutant;\n";

/// Where the copy comes from and goes to.
pub struct Copy {
    pub project: PathBuf,
    pub folder: PathBuf,
}

/// Mutants that are not in the build.
#[derive(Default)]
pub struct Excluded {
    /// Their own code does not compile.
    pub unviable: BTreeSet<u32>,
    /// No switch can be put there.
    pub unswitched: BTreeSet<u32>,
}

impl Excluded {
    fn contains(&self, number: u32) -> bool {
        self.unviable.contains(&number) || self.unswitched.contains(&number)
    }
}

impl Copy {
    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Copies what git knows of and rewrites the mutants' files; takes mutants out until the rest compiles.
    pub fn write_until_it_compiles(&self, mutants: &[Mutant]) -> Result<Excluded> {
        let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants {
            by_file.entry(&mutant.file).or_default().push(mutant);
        }
        self.copy_others(&by_file)?;
        let mut excluded = Excluded::default();
        loop {
            let mut pieces = BTreeMap::new();
            for (file, mutants) in &by_file {
                pieces.insert(file.to_string(), self.write_rewritten(file, mutants, &mut excluded)?);
            }
            let before = excluded.unviable.len() + excluded.unswitched.len();
            if self.check(&pieces, &mut excluded)? {
                let (unviable, unswitched) = (excluded.unviable.len(), excluded.unswitched.len());
                println!("compiled; {unviable} mutants do not, {unswitched} have no switch");
                return Ok(excluded);
            }
            let after = excluded.unviable.len() + excluded.unswitched.len();
            println!("{} mutants taken out", after - before);
            if after == before {
                return Err("the copy does not compile for another reason than its mutants".to_string());
            }
        }
    }

    fn copy_others(&self, rewritten: &BTreeMap<&str, Vec<&Mutant>>) -> Result<()> {
        let list = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.project)
            .output()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        for file in String::from_utf8_lossy(&list.stdout).split('\0').filter(|file| !file.is_empty()) {
            if !rewritten.contains_key(file) && self.project.join(file).is_file() {
                let mut content = read(&self.project.join(file))?;
                match file {
                    "engine/kernels/src/lib.rs" => content.extend_from_slice(SWITCH.as_bytes()),
                    "engine/src/lib.rs" => content.extend_from_slice(PASSED_ON.as_bytes()),
                    _ => {}
                }
                self.write(file, &content)?;
            }
        }
        Ok(())
    }

    /// Writes a file unless it is there already, so that cargo need not compile it again.
    fn write(&self, file: &str, content: &[u8]) -> Result<()> {
        let path = self.tree().join(file);
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        let problem = |error| format!("cannot write {}: {error}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(problem)?;
        fs::write(&path, content).map_err(problem)
    }

    fn write_rewritten(&self, file: &str, mutants: &[&Mutant], excluded: &mut Excluded) -> Result<Vec<Piece>> {
        let source = String::from_utf8(read(&self.project.join(file))?).map_err(|error| format!("{file}: {error}"))?;
        let in_engine = file.starts_with("engine/");
        let switch = if in_engine { "crate::mutant::is" } else { "::paddock_engine::mutant::is" };
        let wanted: Vec<&Mutant> = mutants.iter().copied().filter(|mutant| !excluded.contains(mutant.number)).collect();
        let rewritten = sites::rewrite(&source, &wanted, switch).map_err(|error| format!("{file}: {error}"))?;
        excluded.unswitched.extend(rewritten.unplaced);
        self.write(file, rewritten.text.as_bytes())?;
        Ok(rewritten.pieces)
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(command).current_dir(self.tree());
        cargo.env("CARGO_TARGET_DIR", self.folder.join("target")).env("RUSTFLAGS", "-Awarnings");
        cargo.env("CARGO_INCREMENTAL", "1");
        cargo
    }

    /// Whether the crates compile; if not, takes out what the compiler names.
    fn check(&self, pieces: &BTreeMap<String, Vec<Piece>>, excluded: &mut Excluded) -> Result<bool> {
        let mut cargo = self.cargo("check");
        cargo.args(["--workspace", "--lib", "--profile", "test", "--keep-going", "--message-format", "json"]);
        let output =
            cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
        let mut unknown = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let message = &message["message"];
            if message["level"] != "error" || message["spans"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            if !take_out(message, pieces, excluded) {
                unknown.push(message["rendered"].as_str().unwrap_or_default().to_string());
            }
        }
        if !output.status.success() && !unknown.is_empty() {
            println!("not understood:\n{}", unknown.join("\n"));
        }
        Ok(output.status.success())
    }

    /// Builds the tests; gives their programs with the folders they run in.
    pub fn programs(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        let status = self.cargo("build").args(["--workspace", "--bin", "paddock"]).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err("the program does not compile".to_string());
        }
        let mut cargo = self.cargo("test");
        cargo.args(["--workspace", "--no-run", "--lib", "--bins", "--test", "it", "--message-format", "json"]);
        let output =
            cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
        if !output.status.success() {
            return Err("the tests do not compile".to_string());
        }
        let mut programs = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            if message["profile"]["test"] == true
                && let (Some(program), Some(manifest)) =
                    (message["executable"].as_str(), message["manifest_path"].as_str())
            {
                let folder = Path::new(manifest).parent().unwrap_or(Path::new(".")).to_path_buf();
                programs.push((PathBuf::from(program), folder));
            }
        }
        Ok(programs)
    }
}

/// Finds the mutants that an error is about. Of a mutant's own code it is the mutant's; of what chooses, all its
/// mutants lose their switch.
fn take_out(message: &Value, pieces: &BTreeMap<String, Vec<Piece>>, excluded: &mut Excluded) -> bool {
    let mut spans: Vec<&Value> = message["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    for span in spans {
        let Some(of_file) = span["file_name"].as_str().and_then(|file| pieces.get(file)) else { continue };
        let number = |name: &str| span[name].as_u64().unwrap_or(0) as usize;
        let (start, end) = (number("byte_start"), number("byte_end"));
        let around = of_file.iter().filter(|piece| piece.range.start <= start && end <= piece.range.end);
        if let Some(piece) = around.min_by_key(|piece| piece.range.len()) {
            let list = if piece.is_change { &mut excluded.unviable } else { &mut excluded.unswitched };
            list.extend(&piece.mutants);
            return true;
        }
        // The error spans more than one place, such as a whole function that may no longer be `const`.
        let within: Vec<&Piece> =
            of_file.iter().filter(|piece| start <= piece.range.start && piece.range.end <= end).collect();
        if !within.is_empty() && within.len() < 40 {
            for piece in within {
                excluded.unswitched.extend(&piece.mutants);
            }
            return true;
        }
    }
    false
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
