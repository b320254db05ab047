//! How large everything beside the checks of CUDA is.

use serde_json::Value;

use super::synthetic::{llama_7b, smollm2_135m, tiny};

/// What runs through wgpu, PyTorch and llama.cpp.
pub struct Sizes {
    /// The word for it on the command line.
    pub name: &'static str,
    /// Whether an adapter that is emulated on the processor will do.
    pub emulated: bool,
    /// The shapes that read and write, with their names.
    pub decoded: Vec<(&'static str, Value)>,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub answer: usize,
}

impl Sizes {
    /// For a card.
    pub fn full() -> Self {
        let decoded = vec![("SmolLM2-135M's shape", smollm2_135m()), ("LLaMA-7B's shape", llama_7b())];
        Self { name: "full", emulated: false, decoded, prompt: 512, answer: 128 }
    }

    /// For a rehearsal on a machine without one.
    pub fn tiny() -> Self {
        Self { name: "tiny", emulated: true, decoded: vec![("A tiny shape", tiny())], prompt: 24, answer: 8 }
    }

    /// Those of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::full(), Self::tiny()].into_iter().find(|sizes| sizes.name == name)
    }
}
