//! What a machine may lack: such a test is skipped aloud, or fails when `PADDOCK_REQUIRE` names what it needs.

use std::env;
use std::io::Write;
use std::path::PathBuf;

use paddock_engine::backend::Wgpu;

/// Says on standard error that the running test is skipped, and why. `what` is `gpu`, `browser`, `model`, `nvrtc`, `compiler`, `transformers`,
/// `torch`, `axe` or `llama-tokenizer`.
///
/// # Panics
/// When `PADDOCK_REQUIRE` (a comma-separated list; `cargo xtask test` sets it) contains `what`.
pub fn skip(what: &str, why: &str) {
    let required = env::var("PADDOCK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == what), "PADDOCK_REQUIRE asks for {what}, but {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    // Not eprintln: the test harness would keep that to itself.
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").ok();
}

/// The default model's GGUF file, from `PADDOCK_SMOLLM2`; `None`, after [`skip`], where it is not set.
pub fn smollm2() -> Option<PathBuf> {
    let path = env::var_os("PADDOCK_SMOLLM2").map(PathBuf::from);
    if path.is_none() {
        skip("model", "PADDOCK_SMOLLM2 does not name the default model's GGUF file (`cargo xtask test` sets it)");
    }
    path
}

/// The machine's GPU, or the software adapter that stands in for one; `None`, after [`skip`], where there is neither.
pub async fn gpu() -> Option<Wgpu> {
    match Wgpu::new(Default::default()).await {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            skip("gpu", &error.to_string());
            None
        }
    }
}
