//! Model files on disk: read by range, written whole or not at all.

mod atomic;
mod folder;
mod hugging_face;
mod model_source;
mod pack;
mod safetensors;
mod torch;

pub use atomic::{AtomicFile, AtomicFolder, remove_partial};
pub use folder::FolderSource;
pub use hugging_face::{Description, WEIGHTS, write_weights};
pub use model_source::ModelSource;
pub use pack::{Packed, pack};
pub use safetensors::{Entry, write_safetensors};
pub use torch::{TorchFolder, TorchTensor, read_tensors};
