//! What people without an NVIDIA GPU are told.

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
