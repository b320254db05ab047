//! The CUDA kernels compile to machine code, with NVIDIA's own compiler, and keep within the registers.

use std::collections::BTreeMap;
use std::io::Write;

use paddock::cuda::source::kernels;
use paddock::cuda::{Formats, compile, has_nvrtc};
use paddock_tests::skip;

/// A100 and its like, and H100.
const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90"];
/// What a thread can have.
const MOST_REGISTERS: u32 = 255;

/// Kernels with more are worth a line: they bound how many warps a GPU runs side by side.
const NOTABLE_REGISTERS: u32 = 64;

/// What the assembler says of a kernel.
#[derive(Debug, Default)]
struct Usage {
    registers: u32,
    spilled: u32,
    shared: u32,
}

/// The number before `unit` in `text`: `32` in "used 32 registers, …".
fn number_before(text: &str, unit: &str) -> Option<u32> {
    text[..text.find(unit)?].split_whitespace().next_back()?.parse().ok()
}

fn usage(log: &str) -> BTreeMap<String, Usage> {
    let mut found = BTreeMap::<String, Usage>::new();
    let mut kernel = String::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_string();
        }
        let usage = found.entry(kernel.clone()).or_default();
        usage.spilled += number_before(line, " bytes spill stores").unwrap_or(0);
        usage.spilled += number_before(line, " bytes spill loads").unwrap_or(0);
        usage.registers = usage.registers.max(number_before(line, " registers").unwrap_or(0));
        usage.shared = usage.shared.max(number_before(line, " bytes smem").unwrap_or(0));
    }
    found.remove("");
    found
}

#[test]
fn kernels_compile_for_each_architecture_without_spilling() {
    if !has_nvrtc() {
        return skip("nvrtc", "NVIDIA's runtime compiler is not here (`cargo xtask test` fetches it)");
    }
    let mut report =
        format!("kernels of more than {NOTABLE_REGISTERS} registers, and their shared memory; none spills:\n");
    for architecture in ARCHITECTURES {
        for formats in [Formats::F32, Formats::BF16, Formats::LEAN] {
            let compiled = compile(formats, architecture).unwrap_or_else(|error| panic!("{formats:?}: {error}"));
            assert!(compiled.cubin.starts_with(b"\x7fELF"));
            let usage = usage(&compiled.log);
            let mut names = kernels(formats);
            names.sort_unstable();
            assert_eq!(usage.keys().collect::<Vec<_>>(), names, "{formats:?} for {architecture}");
            for (kernel, Usage { registers, spilled, shared }) in &usage {
                if *registers > NOTABLE_REGISTERS {
                    report += &format!("{architecture} {:?} {kernel}: {registers}, {shared} bytes\n", formats.values);
                }
                assert!((1..=MOST_REGISTERS).contains(registers), "{kernel}: {registers} registers");
                assert_eq!(*spilled, 0, "{kernel} spills {spilled} bytes for {architecture}");
                // ../launch adds what it asks for to at most 16 KiB.
                assert!(*shared <= 16 * 1024, "{kernel} declares {shared} bytes of shared memory");
            }
        }
    }
    // Not eprintln: the test harness would keep that to itself.
    std::io::stderr().write_all(report.as_bytes()).ok();
}

#[test]
fn an_unknown_architecture_is_an_error() {
    if has_nvrtc() {
        let error = compile(Formats::F32, "sm_12").unwrap_err().to_string();
        assert!(error.contains("NVRTC") && error.contains("sm_12"), "{error}");
    } else {
        let error = compile(Formats::F32, "sm_80").unwrap_err().to_string();
        assert!(error.contains("libnvrtc.so"), "{error}");
    }
}
