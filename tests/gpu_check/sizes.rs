//! How large everything is that can be rehearsed without a card.

use serde_json::Value;

use super::synthetic::{llama_1b, llama_7b, smollm2_135m, tiny};

/// What is trained, and what runs through wgpu, PyTorch and llama.cpp.
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
    /// What is trained in all settings.
    pub steps: Steps,
    /// What is trained beside PyTorch.
    pub training: Training,
}

/// Steps of full fine-tuning.
pub struct Steps {
    pub name: &'static str,
    pub model: Value,
    /// Documents of a step.
    pub documents: usize,
    /// Tokens of a document.
    pub length: usize,
    pub micro_batch_tokens: usize,
}

/// Fine-tuning and attention beside PyTorch's.
pub struct Training {
    pub name: &'static str,
    pub model: Value,
    /// PyTorch's name of the device.
    pub device: &'static str,
    pub steps: usize,
    /// Steps that are not counted.
    pub warm: usize,
    /// Examples of a step.
    pub batch: usize,
    /// The lengths are divided by this.
    pub shorter: usize,
    /// Most tokens of a packed micro-batch.
    pub packed_tokens: usize,
    pub learning_rate: f64,
    /// Heads, those of keys, and their width.
    pub attention: Vec<[usize; 3]>,
    pub attention_length: usize,
    pub attention_documents: usize,
}

impl Training {
    /// Number of token ids.
    pub fn vocab(&self) -> usize {
        self.model["vocab_size"].as_u64().unwrap_or(1) as usize
    }
}

impl Sizes {
    /// For a card.
    pub fn full() -> Self {
        let decoded = vec![("SmolLM2-135M's shape", smollm2_135m()), ("LLaMA-7B's shape", llama_7b())];
        let training = Training {
            name: "TinyLlama-1.1B's shape, which PyTorch has room for",
            model: llama_1b(),
            device: "cuda",
            steps: 8,
            warm: 3,
            batch: 64,
            shorter: 1,
            packed_tokens: 8192,
            learning_rate: 1e-4,
            attention: vec![[32, 32, 128], [32, 8, 128], [32, 32, 64]],
            attention_length: 2048,
            attention_documents: 8,
        };
        let (name, model) = ("LLaMA-7B's shape", llama_7b());
        let steps = Steps { name, model, documents: 4, length: 2048, micro_batch_tokens: 4096 };
        Self { name: "full", emulated: false, decoded, prompt: 512, answer: 128, steps, training }
    }

    /// For a rehearsal on a machine without one.
    pub fn tiny() -> Self {
        let training = Training {
            name: "A tiny shape",
            model: tiny(),
            device: "cpu",
            steps: 6,
            warm: 1,
            batch: 16,
            shorter: 8,
            packed_tokens: 128,
            learning_rate: 1e-2,
            attention: vec![[4, 2, 16]],
            attention_length: 64,
            attention_documents: 2,
        };
        let decoded = vec![("A tiny shape", tiny())];
        let (name, model) = ("A tiny shape", tiny());
        let steps = Steps { name, model, documents: 4, length: 24, micro_batch_tokens: 48 };
        Self { name: "tiny", emulated: true, decoded, prompt: 24, answer: 8, steps, training }
    }

    /// Those of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::full(), Self::tiny()].into_iter().find(|sizes| sizes.name == name)
    }
}
