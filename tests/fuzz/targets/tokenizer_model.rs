//! A SentencePiece `tokenizer.model`: the parser, then the tokenizer made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};

fuzz_target!(|data: &[u8]| {
    let files = TokenizerFiles::SentencePiece { model: data.to_vec(), beside: Beside::default() };
    let Ok(tokenizer) = Tokenizer::from_files(&files) else { return };
    if let Ok(ids) = tokenizer.encode("Hello, wörld 🦊", true) {
        tokenizer.decode(&ids, false).ok();
    }
});
