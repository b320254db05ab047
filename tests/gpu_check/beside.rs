//! What runs beside CUDA, each in a process of its own: PyTorch, wgpu, llama.cpp.

use std::process::Command;
use std::time::{Duration, Instant};

use paddock::autograd::Adjoint;
use paddock::optim::Precision;
use paddock::{Error, Result};
use paddock_engine::backend::Cpu;

use super::pytorch::Ours;
use super::sizes::Sizes;
use super::{BENCHMARK_SECONDS, child, llama_cpp, pytorch, wgpu};

/// Asks for what goes through wgpu: the name of the sizes and the memory's bytes a second follow.
pub const WGPU: &str = "--wgpu";

/// Most seconds that PyTorch may take, compiling included.
const PYTORCH_SECONDS: u64 = 150;
/// Most seconds that wgpu may take.
const WGPU_SECONDS: u64 = 120;
/// Most seconds for a model in llama.cpp.
const LLAMA_CPP_SECONDS: u64 = 40;

/// Those parts of the report, and whether all holds; `elapsed` seconds have gone by.
pub fn sections<B: Adjoint>(
    sizes: &Sizes,
    ours: &Ours<B>,
    bandwidth: f64,
    elapsed: impl Fn() -> u64,
) -> (String, bool) {
    let mut holds = true;
    let mut text = String::new();
    let mut section = |title: &str, run: &dyn Fn() -> (String, bool)| {
        text += &format!("\n## {title}\n\n");
        if elapsed() > BENCHMARK_SECONDS {
            text += "Not run: no time was left.\n";
            return;
        }
        eprintln!("measuring: {title} …");
        let (lines, good) = run();
        text += lines.trim_end();
        text += "\n";
        holds &= good;
    };
    section("Against PyTorch", &|| {
        pytorch::report(&sizes.training, ours, Duration::from_secs(PYTORCH_SECONDS))
            .unwrap_or_else(|error| (format!("Failed: {error}."), true))
    });
    section("Through wgpu", &|| wgpu_in_a_process(sizes, bandwidth));
    section("llama.cpp", &|| (llama_cpp::report(sizes, Duration::from_secs(LLAMA_CPP_SECONDS)), true));
    (text, holds)
}

/// All of it at tiny sizes, on whatever there is.
///
/// # Errors
/// Never: what is missing is said.
pub fn rehearse() -> Result<bool> {
    let ours = Ours { open: &|| Ok(Cpu::with_threads(2)), precision: Precision::F32, wait: &|_| Ok(()) };
    let (text, holds) = sections(&Sizes::tiny(), &ours, host_bandwidth(), || 0);
    println!("A rehearsal at tiny sizes: its numbers mean nothing.\n{text}");
    Ok(holds)
}

/// What [`WGPU`] asks for.
///
/// # Errors
/// When the words behind it are others.
pub fn wgpu_alone(sizes: &str, bandwidth: &str) -> Result<bool> {
    match (Sizes::of(sizes), bandwidth.parse()) {
        (Some(sizes), Ok(bandwidth)) => Ok(wgpu::report(&sizes, bandwidth)),
        _ => Err(Error::Request(format!("{WGPU} takes full or tiny and bytes a second, not {sizes} {bandwidth}"))),
    }
}

/// A driver that dies there leaves this process alone, and CUDA's memory is not in its way.
fn wgpu_in_a_process(sizes: &Sizes, bandwidth: f64) -> (String, bool) {
    let run = || {
        let mut command = Command::new(std::env::current_exe()?);
        child::run(command.args([WGPU, sizes.name, &bandwidth.to_string()]), Duration::from_secs(WGPU_SECONDS))
    };
    match run() {
        Ok((text, Some(status))) if status.success() => (text, true),
        Ok((text, Some(status))) => (format!("{text}\nIt FAILS ({status})."), false),
        Ok((text, None)) => (format!("{text}\nIt was stopped after {WGPU_SECONDS} s."), true),
        Err(error) => (format!("Not run: {error}."), true),
    }
}

/// Bytes a second that this processor copies, read and written: what stands for the card's in a rehearsal.
fn host_bandwidth() -> f64 {
    let (from, mut to) = (vec![1u8; 64 << 20], vec![0u8; 64 << 20]);
    let began = Instant::now();
    to.copy_from_slice(&from);
    2.0 * std::hint::black_box(&to).len() as f64 / began.elapsed().as_secs_f64()
}
