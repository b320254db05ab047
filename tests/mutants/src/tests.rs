//! The tests, what they reach, and what they say of each mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::Excluded;
use crate::list::Mutant;

/// Tests that run at once.
const WORKERS: usize = 2;
/// Longer tests are left out.
const LONGEST: Duration = Duration::from_secs(150);
/// Mutants tried earlier whose outcome stands, if their code and place are as they were.
const SETTLED: [&str; 2] = ["caught", "timeout"];

/// A test and what its first run showed.
#[derive(Clone, Serialize, Deserialize)]
struct Test {
    program: usize,
    name: String,
    seconds: f64,
    reaches: BTreeSet<u32>,
}

/// The programs that hold the tests and when they were built.
type Built = Vec<(PathBuf, Option<SystemTime>)>;

/// All tests that pass without a mutant.
pub struct Suite {
    programs: Vec<(PathBuf, PathBuf)>,
    /// Where tests that build a program find it built.
    target: PathBuf,
    tests: Vec<Test>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    TooLong,
}

impl Suite {
    /// The tests as an earlier run recorded them, or as they are recorded now if anything was built anew since.
    pub fn read_or_record(programs: &[(PathBuf, PathBuf)], folder: &Path, mutants: usize) -> Result<Self> {
        let path = folder.join("suite.json");
        let built: Built = programs
            .iter()
            .map(|(program, _)| (program.clone(), fs::metadata(program).and_then(|file| file.modified()).ok()))
            .collect();
        let earlier = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let earlier: Option<(Built, Vec<Test>)> = earlier;
        if let Some((_, tests)) = earlier.filter(|(of, _)| *of == built) {
            println!("{} tests, as recorded earlier", tests.len());
            return Ok(Self { programs: programs.to_vec(), target: folder.join("target"), tests });
        }
        let suite = Self::record(programs, folder, mutants)?;
        let text = serde_json::to_vec(&(built, &suite.tests)).map_err(|error| error.to_string())?;
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(suite)
    }

    /// Runs every test by itself and records what it reaches.
    fn record(programs: &[(PathBuf, PathBuf)], folder: &Path, mutants: usize) -> Result<Self> {
        let mut names = Vec::new();
        for (index, (program, at)) in programs.iter().enumerate() {
            let list = |more: &[&str]| -> Result<Vec<String>> {
                let output =
                    Command::new(program).args(["--list", "--format", "terse"]).args(more).current_dir(at).output();
                let output = output.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_string).collect())
            };
            let ignored = list(&["--ignored"])?;
            names.extend(list(&[])?.into_iter().filter(|name| !ignored.contains(name)).map(|name| (index, name)));
        }
        println!("{} tests", names.len());
        let mut suite = Self { programs: programs.to_vec(), target: folder.join("target"), tests: Vec::new() };
        let (next, recorded) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some((program, name)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let reached = folder.join(format!("reached-{}", name.replace(':', "_")));
                        let _ = fs::remove_file(&reached);
                        let begin = Instant::now();
                        let environment = ("PADDOCK_MUTANTS_REACHED", reached.as_os_str().to_owned());
                        let verdict = suite.run(*program, &[name], LONGEST, environment);
                        let seconds = begin.elapsed().as_secs_f64();
                        let bytes = fs::read(&reached).unwrap_or_default();
                        let _ = fs::remove_file(&reached);
                        if verdict != Verdict::Passed {
                            println!("left out, because it fails or takes too long as it is: {name}");
                            continue;
                        }
                        let numbers = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                        let reaches = numbers.filter(|number| *number as usize <= mutants).collect();
                        let test = Test { program: *program, name: name.clone(), seconds, reaches };
                        recorded.lock().unwrap().push(test);
                    }
                });
            }
        });
        suite.tests = recorded.into_inner().unwrap();
        suite.tests.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let total: f64 = suite.tests.iter().map(|test| test.seconds).sum();
        println!("{} tests pass, in {total:.0} s", suite.tests.len());
        Ok(suite)
    }

    fn run(
        &self,
        program: usize,
        names: &[&String],
        limit: Duration,
        environment: (&str, std::ffi::OsString),
    ) -> Verdict {
        let (program, at) = &self.programs[program];
        let mut command = Command::new("prlimit");
        command.args(["--as=17179869184", "--core=0"]).arg(program).args(names).args([
            "--exact",
            "--test-threads=1",
            "-q",
        ]);
        command
            .current_dir(at)
            .env(environment.0, environment.1)
            .env("NODEVICE_SELECT", "1")
            .env("RUST_BACKTRACE", "0");
        command.env("CARGO_TARGET_DIR", &self.target).env("RUSTFLAGS", "-Awarnings").env("CARGO_INCREMENTAL", "1");
        // The program that tests run is built; asking cargo each time takes longer than most tests.
        command.env("CARGO", "true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let Ok(mut child) = command.spawn() else { return Verdict::Failed };
        // Read and dropped, so that a full pipe stops no test.
        let mut stderr = child.stderr.take();
        let reader = thread::spawn(move || stderr.as_mut().map(|stderr| stderr.read_to_end(&mut Vec::new())));
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        let verdict = loop {
            match child.try_wait() {
                Ok(Some(status)) => break if status.success() { Verdict::Passed } else { Verdict::Failed },
                Ok(None) if begin.elapsed() > limit => break Verdict::TooLong,
                Ok(None) => thread::sleep(pause),
                Err(_) => break Verdict::Failed,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if verdict != Verdict::Passed {
            // The whole group: a test may have started programs of its own.
            let _ = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
            let _ = child.wait();
        }
        drop(reader);
        verdict
    }

    /// What the tests say of a mutant, of which they may take so many seconds; with the seconds of tests not run.
    fn judge(&self, number: u32, seconds: f64) -> (Verdict, f64) {
        let reaching: Vec<&Test> = self.tests.iter().filter(|test| test.reaches.contains(&number)).collect();
        let (mut spent, mut left) = (0.0, 0.0);
        let mut at = 0;
        while at < reaching.len() {
            // A few quick tests of one program at a time: starting a program takes time, too.
            let program = reaching[at].program;
            let mut names = Vec::new();
            let mut expected = 0.0;
            while let Some(test) = reaching.get(at).filter(|test| test.program == program) {
                if !names.is_empty() && expected + test.seconds > 0.3 {
                    break;
                }
                names.push(&test.name);
                expected += test.seconds;
                at += 1;
            }
            if spent + expected > seconds {
                left += expected;
                continue;
            }
            spent += expected;
            let limit = Duration::from_secs_f64(10.0 + 5.0 * expected);
            match self.run(program, &names, limit, ("PADDOCK_MUTANT", number.to_string().into())) {
                Verdict::Passed => {}
                verdict => return (verdict, 0.0),
            }
        }
        (Verdict::Passed, left)
    }

    /// Tries every mutant that is in the build, `again` only those that no test has caught, and writes what became of all.
    pub fn try_mutants(
        &self,
        mutants: &[Mutant],
        excluded: &Excluded,
        folder: &Path,
        seconds: f64,
        again: bool,
    ) -> Result<()> {
        let path = folder.join("outcomes.txt");
        let earlier = if again { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let settled: BTreeMap<&str, &str> = earlier
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(outcome, _)| SETTLED.contains(outcome))
            .map(|(outcome, name)| (name, outcome))
            .collect();
        let (mut tried, mut known) = (Vec::new(), Vec::new());
        for mutant in mutants {
            if excluded.unviable.contains(&mutant.number) || excluded.unswitched.contains(&mutant.number) {
                continue;
            }
            match settled.get(&*mutant.name) {
                Some(outcome) => known.push((mutant.name.clone(), *outcome)),
                None => tried.push(mutant),
            }
        }
        let next = AtomicUsize::new(0);
        let outcomes: Mutex<Vec<(String, &str)>> = Mutex::new(known);
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(mutant) = tried.get(index) else { break };
                        let reached = self.tests.iter().any(|test| test.reaches.contains(&mutant.number));
                        let outcome = match self.judge(mutant.number, seconds) {
                            (Verdict::Failed, _) => "caught",
                            (Verdict::TooLong, _) => "timeout",
                            (Verdict::Passed, _) if !reached => "unreached",
                            (Verdict::Passed, left) if left > 0.0 => "missed in part",
                            (Verdict::Passed, _) => "missed",
                        };
                        outcomes.lock().unwrap().push((mutant.name.clone(), outcome));
                        if index.is_multiple_of(100) {
                            println!("{index} of {} after {:.0} s", tried.len(), begin.elapsed().as_secs_f64());
                        }
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap();
        let without = |numbers: &BTreeSet<u32>, what: &'static str| -> Vec<(String, &'static str)> {
            let of = mutants.iter().filter(|mutant| numbers.contains(&mutant.number));
            of.map(|mutant| (mutant.name.clone(), what)).collect()
        };
        outcomes.extend(without(&excluded.unviable, "unviable"));
        outcomes.extend(without(&excluded.unswitched, "unswitched"));
        outcomes.sort();
        let lines: Vec<String> = outcomes.iter().map(|(name, outcome)| format!("{outcome}\t{name}\n")).collect();
        fs::write(&path, lines.concat()).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}
