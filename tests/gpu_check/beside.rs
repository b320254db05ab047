//! What can be rehearsed without a card: fine-tuning, and what runs beside it in processes of their own (PyTorch, wgpu,
//! llama.cpp).

use std::process::Command;
use std::time::Duration;

use paddock::{Error, Result};
use paddock_learn::{Adjoint, Store};

use super::machine::{Machine, with_cpu};
use super::sizes::Sizes;
use super::{BENCHMARK_SECONDS, child, llama_cpp, pytorch, training, wgpu};

/// Asks for what goes through wgpu: the name of the sizes and the memory's bytes a second follow.
pub const WGPU: &str = "--wgpu";

/// Most seconds that PyTorch may take, compiling included.
const PYTORCH_SECONDS: u64 = 150;
/// Most seconds that wgpu may take.
const WGPU_SECONDS: u64 = 120;
/// Most seconds for a model in llama.cpp.
const LLAMA_CPP_SECONDS: u64 = 40;

/// Those parts of the report, and whether all holds; `elapsed` seconds have gone by.
pub fn sections<B: Adjoint + Store<B>>(
    sizes: &Sizes,
    machine: &Machine<B>,
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
    section("Full fine-tuning", &|| (training::table(&sizes.steps, machine, || elapsed() <= BENCHMARK_SECONDS), true));
    section("Against PyTorch", &|| {
        pytorch::report(&sizes.training, machine, Duration::from_secs(PYTORCH_SECONDS))
            .unwrap_or_else(|error| (format!("Failed: {error}."), true))
    });
    section("Through wgpu", &|| wgpu_in_a_process(sizes, machine.bandwidth));
    section("llama.cpp", &|| (llama_cpp::report(sizes, Duration::from_secs(LLAMA_CPP_SECONDS)), true));
    (text, holds)
}

/// All of it at tiny sizes, on whatever there is.
///
/// # Errors
/// When the processor fails; what is missing is said.
pub fn rehearse() -> Result<bool> {
    let (text, holds) = with_cpu(|machine| sections(&Sizes::tiny(), machine, || 0))?;
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
