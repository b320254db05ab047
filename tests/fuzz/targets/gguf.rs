//! A GGUF file: header, configuration, vocabulary, and the rows of every tensor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paddock_engine::weights::{Checkpoint, MemorySource};
use pollster::block_on;

fuzz_target!(|data: &[u8]| {
    let source = MemorySource { files: [("model.gguf".to_string(), data.to_vec())].into() };
    let Ok(mut checkpoint) = block_on(Checkpoint::open(source)) else { return };
    let infos: Vec<_> = checkpoint.tensors().cloned().collect();
    for info in infos {
        let rows = info.shape[0];
        block_on(checkpoint.read_rows(&info.name, rows / 3..rows)).expect("an opened file holds its rows");
    }
    block_on(checkpoint.tokenizer_files()).expect("an opened file holds its vocabulary");
});
