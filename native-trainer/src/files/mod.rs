//! Files on disk: models, adapters and records of data. They are read by range, and written whole or not at all.

mod adapter;
mod atomic;
mod convert;
mod description;
mod diff;
mod digest;
mod export;
mod folder;
mod hugging_face;
mod merge;
mod model_source;
mod pack;
mod random;
mod records;
mod safetensors;
mod token_cache;
mod torch;

pub use adapter::{ADAPTER_WEIGHTS, read_adapters, write_adapters};
pub(crate) use atomic::write_file;
pub use atomic::{AtomicFile, AtomicFolder, remove_partial};
pub use convert::{Written, convert};
pub use description::Description;
pub use diff::{ALPACA_7B_SUM, ExpectedSum, Recovered, make_diff, recover};
pub use digest::file_sha256;
pub use export::{Beside, DtypeChoice, Export, Exported, Rows, Stored, beside};
pub use folder::FolderSource;
pub use hugging_face::write_weights;
pub use merge::merge;
pub use model_source::ModelSource;
pub use pack::{Packed, pack};
pub use random::random;
pub use records::read_records;
pub use safetensors::{Dtype, TensorSpec, write_safetensors};
pub use token_cache::TokenCache;
pub(crate) use token_cache::user_cache;
pub use torch::{TorchFolder, TorchTensor, read_tensors};
