//! `cargo xtask test`: everything that must hold before a change goes in. `.ci/run` calls exactly this.

use std::time::Instant;

use xtask::{Result, default_model, page, process, tools, workspace};

mod cargo_test;
mod system;

/// The page's two WebAssembly files together are at most this long, compressed.
const PAGE_LIMIT: u64 = 2_000_000;

/// Runs every step, also after one has failed, and sums up.
pub fn run() -> Result<()> {
    let begin = Instant::now();
    let mut report = Report::default();
    report.step("tools", tools::ensure);
    report.step("browser and Vulkan driver", system::ensure);
    let mut model = None;
    report.step("default model", || default_model::ensure().map(|path| model = Some(path)));
    report.step("formatting", || process::run(workspace::cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || lint(&["--workspace", "--all-targets"]));
    report.step("lints of the page", || {
        lint(&[
            "--target",
            tools::WASM,
            "-p",
            "paddock-engine",
            "--features",
            "paddock-engine/wgpu",
            "-p",
            "paddock-app",
        ])
    });
    report.step("page", page::build);
    report.step("size of the page", size);
    let mut counts = cargo_test::Counts::default();
    report.step("tests", || cargo_test::run(model.as_deref(), &mut counts));

    println!("\n{:>8}  step", "seconds");
    for step in &report.steps {
        println!(
            "{:>8.1}  {}{}",
            step.seconds,
            step.name,
            step.problem.as_deref().map_or(String::new(), |p| format!(": FAILED, {p}"))
        );
    }
    let failed_steps = report.steps.iter().filter(|step| step.problem.is_some()).count();
    println!(
        "{} of {} steps succeeded in {:.0} s",
        report.steps.len() - failed_steps,
        report.steps.len(),
        begin.elapsed().as_secs_f64()
    );
    println!("{} passed, {} failed, {} ignored", counts.passed, counts.failed, counts.ignored);
    if failed_steps == 0 { Ok(()) } else { Err("cargo xtask test failed".to_string()) }
}

fn lint(what: &[&str]) -> Result<()> {
    process::run(workspace::cargo().arg("clippy").args(what).args(["--", "-D", "warnings"]))
}

fn size() -> Result<()> {
    let mut total = 0;
    for binary in page::binaries()? {
        println!("{}: {} bytes, {} with brotli", binary.name, binary.bytes, binary.compressed);
        total += binary.compressed;
    }
    println!("together {total} bytes with brotli (at most {PAGE_LIMIT})");
    match total {
        0 => Err("the built page has no WebAssembly".to_string()),
        total if total > PAGE_LIMIT => {
            Err(format!("the page is {total} bytes with brotli, at most {PAGE_LIMIT} are allowed"))
        }
        _ => Ok(()),
    }
}

/// The steps so far.
#[derive(Default)]
struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: &'static str,
    seconds: f64,
    problem: Option<String>,
}

impl Report {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let begin = Instant::now();
        let problem = work().err();
        if let Some(problem) = &problem {
            println!("{name}: {problem}");
        }
        self.steps.push(Step { name, seconds: begin.elapsed().as_secs_f64(), problem });
    }
}
