//! The check of a GPU, as far as a machine without one can run it.

use std::process::Command;

use paddock_engine::backend::wgpu;
use paddock_tests::wgpu::{CHECKS, variants};
use paddock_tests::{block_on, skip};

#[test]
fn what_runs_beside_cuda_is_rehearsed() {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-check")).arg("--rehearse").output().expect("the check starts");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    match block_on(wgpu::probe()) {
        Ok(_) => {
            let hold = format!("| {} hold |", CHECKS.len() * variants().len());
            assert!(report.contains(&hold) && report.contains("of the memory's bandwidth"), "{report}");
        }
        Err(error) => skip("gpu", &error.to_string()),
    }
    if report.contains("## Against PyTorch\n\nNot run: ") {
        skip("transformers", "there is no Python with torch (PADDOCK_PYTHON names one)");
    } else {
        assert!(report.contains("| PyTorch, padded by fours | ") && report.contains("| PyTorch, packed, "), "{report}");
    }
    assert_eq!(report.matches(" GiB | ").count(), 7, "a row for each setting: {report}");
    assert!(!report.to_lowercase().contains("fail"), "{report}");
}
