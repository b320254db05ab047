//! Architectures, written once, generic over the backend: the browser, the CPU reference and (through the trainer's
//! tape) fine-tuning all run these files.

mod causal_lm;
mod llama;
mod loader;
mod score_model;

pub use causal_lm::CausalLm;
pub use llama::Llama;
pub use loader::{LoadProgress, Loader};
pub use score_model::ScoreModel;
