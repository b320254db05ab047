//! What the steps took, and which of them failed.

use std::time::Instant;

use xtask::Result;

use crate::cargo_test::Counts;

/// The steps so far.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: &'static str,
    seconds: f64,
    problem: Option<String>,
}

impl Report {
    /// Runs one step and notes how long it took and whether it succeeded.
    pub fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let begin = Instant::now();
        let problem = work().err();
        if let Some(problem) = &problem {
            println!("{name}: {problem}");
        }
        self.steps.push(Step { name, seconds: begin.elapsed().as_secs_f64(), problem });
    }

    /// Sums up for the person at the terminal.
    ///
    /// # Errors
    /// When a step failed.
    pub fn finish(&self, command: &str, counts: &Counts) -> Result<()> {
        self.print();
        println!("{counts}, and {} of {} steps succeeded", self.succeeded(), self.steps.len());
        if self.succeeded() == self.steps.len() { Ok(()) } else { Err(format!("{command} failed")) }
    }

    fn succeeded(&self) -> usize {
        self.steps.iter().filter(|step| step.problem.is_none()).count()
    }

    fn print(&self) {
        println!("\n{:>8}  step", "seconds");
        for Step { name, seconds, problem } in &self.steps {
            match problem {
                None => println!("{seconds:>8.1}  {name}"),
                Some(problem) => println!("{seconds:>8.1}  {name}: FAILED, {problem}"),
            }
        }
        let total: f64 = self.steps.iter().map(|step| step.seconds).sum();
        println!("{total:>8.1}  together");
    }
}
