//! A file of `torch.save`: its archive, its pickle, and every tensor that it describes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paddock_engine::weights::MemorySource;
use pollster::block_on;

// By path: the rest of the trainer need not be instrumented.
#[allow(dead_code, unused_imports)]
#[path = "../../../native-trainer/src/files/torch/mod.rs"]
mod torch;

fuzz_target!(|data: &[u8]| {
    let source = MemorySource { files: [("model.pt".to_string(), data.to_vec())].into() };
    let Ok(tensors) = block_on(torch::read_tensors(&source, "model.pt")) else { return };
    for tensor in tensors {
        let bytes = block_on(tensor.read(&source, "model.pt", 0..tensor.rows())).expect("a described tensor is there");
        assert_eq!(bytes.len() as u64, tensor.rows() * tensor.row_bytes());
        assert!(bytes.len() <= data.len(), "{tensor:?} is larger than its file");
    }
});
