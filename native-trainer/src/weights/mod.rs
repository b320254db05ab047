//! Model files on disk: read by range, written whole or not at all.

mod atomic;
mod convert;
mod diff;
mod digest;
mod export;
mod folder;
mod hugging_face;
mod merge;
mod model_source;
mod pack;
mod random;
mod safetensors;
mod torch;

pub use atomic::{AtomicFile, AtomicFolder, remove_partial};
pub use convert::{Written, convert};
pub use diff::{ALPACA_7B_SUM, ExpectedSum, Recovered, make_diff, recover};
pub use digest::file_sha256;
pub use export::{Beside, DtypeChoice, Export, Exported, Rows, Stored, beside};
pub use folder::FolderSource;
pub(crate) use hugging_face::write_file;
pub use hugging_face::{Description, write_weights};
pub use merge::merge;
pub use model_source::ModelSource;
pub use pack::{Packed, pack};
pub use random::random;
pub use safetensors::{Dtype, Entry, write_safetensors};
pub use torch::{TorchFolder, TorchTensor, read_tensors};
