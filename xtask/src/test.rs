//! `cargo xtask test`: everything that must hold before a change goes in. `.ci/run` calls exactly this.

use std::time::Instant;

use crate::cargo_test;
use xtask::{Result, default_model, nvrtc, page, process, tools, workspace};

mod system;

/// The page's two WebAssembly files together are at most this long, compressed.
const PAGE_LIMIT: u64 = 2_000_000;

/// Runs every step, also after one has failed, and sums up.
pub fn run() -> Result<()> {
    let mut report = Report::default();
    report.step("tools", tools::ensure);
    report.step("browser and Vulkan driver", system::ensure);
    let mut model = None;
    report.step("default model", || default_model::ensure().map(|path| model = Some(path)));
    report.step("formatting", || process::run(workspace::cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || lint("--workspace --all-targets"));
    report.step("lints of the page", || {
        lint(&format!("--target {} -p paddock-app -p paddock-engine --features paddock-engine/wgpu", tools::WASM))
    });
    report.step("page", page::build);
    report.step("size of the page", size);
    let mut nvrtc = None;
    report.step("CUDA compiler", || match (nvrtc::ensure(), cargo_test::is_required("nvrtc")) {
        (Ok(folder), _) => {
            nvrtc = Some(folder);
            Ok(())
        }
        (Err(problem), true) => Err(problem),
        (Err(problem), false) => {
            println!("SKIPPED: the CUDA kernels are not compiled: {problem}");
            Ok(())
        }
    });
    let mut counts = cargo_test::Counts::default();
    report.step("tests", || cargo_test::run(&[], model.as_deref(), nvrtc.clone(), &mut counts));

    report.print();
    println!("{counts}, and {} of {} steps succeeded", report.succeeded(), report.steps.len());
    if report.succeeded() == report.steps.len() { Ok(()) } else { Err("cargo xtask test failed".to_string()) }
}

fn lint(what: &str) -> Result<()> {
    process::run(workspace::cargo().arg("clippy").args(what.split(' ')).args(["--", "-D", "warnings"]))
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
