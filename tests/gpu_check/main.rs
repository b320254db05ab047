//! `cargo xtask gpu-check`: what the CUDA backend computes and how fast, on this machine's NVIDIA GPU.
//!
//! It writes one report and exits with 1 when anything is wrong, or when there is no GPU.
#![allow(clippy::print_stdout, reason = "a command talks to the person who typed it")]

mod benchmarks;
mod beside;
mod child;
mod correctness;
mod llama_cpp;
mod machine;
mod pytorch;
mod sizes;
mod synthetic;
mod training;
mod wgpu;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use paddock::cuda::{Cuda, Device, DeviceOptions, Formats};
use paddock_engine::backend::Device as _;

use self::machine::with_gpu;
use self::sizes::Sizes;

/// Seconds after which no further benchmark is begun.
const BENCHMARK_SECONDS: u64 = 420;

/// Asks for small checks alone: what compute-sanitizer, which is slow, is given to watch.
const SMALL: &str = "--small";
/// Asks for everything that runs beside CUDA, at tiny sizes: what a machine without an NVIDIA GPU can show of it.
const REHEARSE: &str = "--rehearse";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [SMALL] => small(),
        [REHEARSE] => beside::rehearse(),
        [beside::WGPU, sizes, bandwidth] => beside::wgpu_alone(sizes, bandwidth),
        [] => run(None),
        [report] if !report.starts_with("--") => run(Some(report.into())),
        _ => {
            eprintln!("expected nothing, a file for the report, {SMALL} or {REHEARSE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A device for `formats`; poisoned, it shows what a kernel leaves unwritten.
fn open(formats: Formats, poison: bool) -> paddock::Result<Cuda<Device>> {
    Ok(Cuda::new(Device::open(DeviceOptions { ordinal: 0, formats, poison })?))
}

/// Makes the report and tells whether everything is as it should be.
fn run(report: Option<PathBuf>) -> paddock::Result<bool> {
    let began = Instant::now();
    let device = open(Formats::F32, true)?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs() as u32);
    let (_, total) = device.driver().memory()?;
    let mut text = format!(
        "# The CUDA backend on a GPU\n\nWritten by `cargo xtask gpu-check`.\n\n- Date: {}\n- Device: {}, {:.1} GiB\n- \
         Driver: {}\n- Seed of the inputs: {seed}\n\n## Correctness\n\nErrors against the CPU backend in f32, by \
         FlashAttention's rule: at most twice (values) or three times (gradients) that of a plain implementation in \
         the same format. New memory is filled with NaN.\n\n",
        command("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        device.device().name,
        total as f64 / f64::from(1 << 30),
        command("nvidia-smi", &["--query-gpu=driver_version", "--format=csv,noheader"]),
    );
    drop(device);
    let mut holds = true;
    for (name, formats) in [("f32", Formats::F32), ("bf16", Formats::BF16), ("bf16 throughout", Formats::LEAN)] {
        eprintln!("checking {name} …");
        let (lines, good) = correctness::check(&open(formats, true)?, name, seed, correctness::FULL)?;
        text += &lines;
        holds &= good;
    }
    text += "\n## Speed\n\nMedians of several runs.\n\n| | |\n|---|---:|\n";
    for (name, benchmark) in benchmarks::ALL {
        if began.elapsed().as_secs() > BENCHMARK_SECONDS {
            text += &format!("| {name} | not run: no time was left |\n");
            continue;
        }
        eprintln!("measuring: {name} …");
        // A device of its own, so that the memory of the last one is free.
        text += &match open(Formats::LEAN, false).and_then(|cuda| benchmark(&cuda)) {
            Ok(found) => format!("| {name} | {found} |\n"),
            Err(error) => format!("| {name} | failed: {error} |\n"),
        };
    }
    let (lines, good) = with_gpu(|machine| beside::sections(&Sizes::full(), machine, || began.elapsed().as_secs()))?;
    text += &lines;
    holds &= good;
    let (sentence, good) = sanitizer(began.elapsed().as_secs());
    text += &format!("\n## Memory\n\n{sentence}\n");
    holds &= good;
    text += &format!("\nTogether {:.0} s.\n", began.elapsed().as_secs_f64());
    println!("{text}");
    if let Some(path) = report {
        std::fs::write(&path, &text).map_err(paddock::Error::path("write", &path))?;
    }
    Ok(holds)
}

/// The small checks, in the formats that have all kernels.
fn small() -> paddock::Result<bool> {
    let (lines, holds) = correctness::check(&open(Formats::BF16, false)?, "bf16", 1, correctness::SMALL)?;
    println!("{lines}");
    Ok(holds)
}

/// Has compute-sanitizer watch the small checks, where it is installed and time is left.
fn sanitizer(elapsed: u64) -> (String, bool) {
    const ENOUGH: u64 = 480;
    const END: u64 = 590;
    let program = std::env::current_exe().ok();
    let (Some(program), true) = (program, elapsed < ENOUGH) else {
        return ("compute-sanitizer was not run: no time was left.".into(), true);
    };
    eprintln!("watching memory …");
    let mut command = Command::new("compute-sanitizer");
    command.args(["--error-exitcode", "9"]).arg(program).arg(SMALL);
    match child::run(&mut command, Duration::from_secs(END - elapsed)) {
        Ok((_, Some(status))) if status.success() => {
            ("compute-sanitizer finds nothing in the small checks.".into(), true)
        }
        Ok((_, Some(status))) => {
            (format!("compute-sanitizer ended with {status} in the small checks: it FAILS."), false)
        }
        Ok((_, None)) => ("compute-sanitizer was stopped: no time was left.".into(), true),
        Err(error) => (format!("compute-sanitizer was not run ({error})."), true),
    }
}

/// What a command prints, or that it is not there.
fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
