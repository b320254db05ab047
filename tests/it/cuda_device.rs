//! What people without an NVIDIA GPU are told.

use std::process::Command;

use paddock::cuda::has_driver;
use paddock_tests::program::refuses;
use paddock_tests::{fixtures, skip};

#[test]
fn without_a_driver_cuda_is_refused_in_one_sentence() {
    if has_driver() {
        return skip("no NVIDIA driver", "there is one");
    }
    let model = fixtures().join("sft");
    let says = ["no NVIDIA driver found", "--device cpu"];
    refuses(&[&"generate", &"--model", &model, &"--prompt", &"x", &"--device", &"cuda"], &says);
    let (data, output) = (model.join("data.json"), std::env::temp_dir().join("paddock-no-cuda"));
    for dtype in ["f32", "bf16"] {
        refuses(
            &[
                &"sft",
                &"--model",
                &model,
                &"--data",
                &data,
                &"--output",
                &output,
                &"--dtype",
                &dtype,
                &"--device",
                &"cuda",
            ],
            &says,
        );
    }
    assert!(!output.exists(), "nothing was begun");
}

#[test]
fn without_a_gpu_the_check_says_so() {
    if has_driver() {
        return skip("no NVIDIA driver", "there is one");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-check")).output().expect("the check starts");
    assert_eq!(output.status.code(), Some(1));
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    assert!(sentence.contains("no NVIDIA driver found"), "{sentence}");
}
