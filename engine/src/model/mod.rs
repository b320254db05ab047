//! The architectures. Each is written once, generic over the backend: the browser, the CPU reference and, through a
//! tape, training run the same code.

mod adapters;
mod attend;
mod causal_lm;
mod gate;
mod llama;
mod loader;
mod opt;
mod score_model;
mod trunk;

use llama::Llama;
use opt::Opt;

pub use adapters::Adapter;
pub use attend::{Attend, Cached, Fresh};
pub use causal_lm::CausalLm;
pub use loader::{LoadProgress, Loader};
pub use score_model::ScoreModel;
pub use trunk::Trunk;
