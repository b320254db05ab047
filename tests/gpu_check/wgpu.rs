//! The same card through wgpu: every WGSL operation, and how fast a model at 4 bits reads and writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use paddock_engine::backend::{Device, DeviceKind, Sampling, Wgpu};
use paddock_engine::generate::Session;
use paddock_engine::model::CausalLm;
use paddock_engine::weights::{Checkpoint, Encoding};
use paddock_tests::block_on;
use paddock_tests::wgpu::{CHECKS, variants};
use serde_json::Value;

use super::sizes::Sizes;
use super::synthetic::Synthetic;

/// Prints this part of the report, against `bandwidth` bytes a second of the same memory; whether all holds.
pub fn report(sizes: &Sizes, bandwidth: f64) -> bool {
    let gpu = match block_on(Wgpu::new(Default::default())) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("Not run: {error}. (A container shows Vulkan where NVIDIA_DRIVER_CAPABILITIES has graphics.)");
            return true;
        }
    };
    let info = gpu.device();
    if info.kind != DeviceKind::Gpu && !sizes.emulated {
        println!("Not run: Vulkan shows {}, which is no card.", info.name);
        return true;
    }
    println!(
        "{}; subgroups {}, f16 {}.\n\n| | |\n|---|---:|",
        info.name,
        gpu.subgroup_size().map_or("not used".into(), |size| format!("of {size}")),
        if gpu.uses_f16() { "used" } else { "not used" },
    );
    drop(gpu);
    let holds = parity();
    for (name, config) in &sizes.decoded {
        match speed(config, sizes, bandwidth) {
            Ok(found) => println!("| {name} at 4 bits | {found} |"),
            Err(error) => println!("| {name} at 4 bits | failed: {error} |"),
        }
    }
    holds
}

/// Every check on every variant of the kernels.
fn parity() -> bool {
    let mut failed = Vec::new();
    for options in variants() {
        let gpu = match block_on(Wgpu::new(options)) {
            Ok(gpu) => gpu,
            Err(error) => {
                failed.push(format!("| {options:?} | FAILS: {error} |"));
                continue;
            }
        };
        for (name, check) in CHECKS {
            let problem = match catch_unwind(AssertUnwindSafe(|| check(&gpu))) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into()),
            };
            failed.push(format!("| {name}, {options:?} | FAILS: {problem} |"));
        }
    }
    let count = CHECKS.len() * variants().len();
    println!("| {count} checks of operations, in all variants of the kernels | {} hold |", count - failed.len());
    failed.iter().for_each(|line| println!("{line}"));
    failed.is_empty()
}

/// Reads a prompt and writes an answer.
fn speed(config: &Value, sizes: &Sizes, bandwidth: f64) -> paddock_engine::Result<String> {
    block_on(async {
        let began = Instant::now();
        let gpu = Wgpu::new(Default::default()).await?;
        let mut checkpoint = Checkpoint::open(Synthetic::at_4_bits(config)?).await?;
        let model = CausalLm::load(&gpu, &mut checkpoint, &mut |_| {}).await?;
        let config = model.config().clone();
        let loaded = began.elapsed().as_secs_f64();
        let mut session = Session::new(model, 2 * (sizes.prompt + sizes.answer))?;
        let prompt = |first: usize| -> Vec<u32> {
            (first..first + sizes.prompt).map(|i| (i % config.vocab_size) as u32).collect()
        };
        let (mut prefill, mut decode) = (f64::INFINITY, f64::INFINITY);
        // The first round makes the pipelines, and another prompt keeps none of the last one's rows.
        for round in 0..3 {
            let began = Instant::now();
            session.begin(&prompt(1 + round))?;
            while session.unread() > 0 {
                session.read().await?;
            }
            prefill = prefill.min(began.elapsed().as_secs_f64());
            let mut written = session.decode(1, &Sampling::default()).await?.len();
            let began = Instant::now();
            while written <= sizes.answer {
                written += session.decode(1 + sizes.answer - written, &Sampling::default()).await?.len();
            }
            decode = decode.min(began.elapsed().as_secs_f64());
        }
        // All matrices but the table of tokens, of which one row is read.
        let matrices = config.params().into_iter().filter(|p| p.shape[0] > 1 && !p.name.contains("embed_tokens"));
        let bytes: usize =
            matrices.map(|p| p.shape[0] * Encoding::Q4_1.row_bytes(p.shape[1]).unwrap_or_default()).sum();
        let written = sizes.answer as f64 / decode;
        Ok(format!(
            "reads {:.0}, writes {written:.1} tokens/s: {:.0} % of the memory's bandwidth (loaded in {loaded:.1} s)",
            sizes.prompt as f64 / prefill,
            100.0 * bytes as f64 * written / bandwidth
        ))
    })
}
