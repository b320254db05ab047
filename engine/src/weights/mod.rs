//! Checkpoints: where the bytes of a model come from and what they mean.
//!
//! A [`Source`] hands out byte ranges of named files; a checkpoint finds out which format they are in
//! (Hugging Face folder, GGUF file, web pack) and from then on a tensor is a name, a shape, an [`Encoding`] and rows
//! of bytes. Weights are streamed: no more than one chunk of rows is in memory at a time.

mod checkpoint;
pub mod diff;
mod digest;
mod first_bytes;
mod folder;
mod foreign;
pub mod gguf;
mod layout;
pub mod manifest;
mod overlay;
pub mod pack;
mod pack_reader;
mod quant;
pub mod safetensors;
mod source;
mod stored;
#[cfg(test)]
mod tiny_model;
mod tokenizer_files;

pub use checkpoint::{Checkpoint, Format, half_split};
pub use digest::hexadecimal;
pub use first_bytes::check_first_bytes;
pub use folder::{Index, parts};
pub use layout::TensorInfo;
pub use overlay::{LowRank, TensorChange};
pub use paddock_kernels::Encoding;
pub use quant::{dequantize, quantize, recode};
pub use source::{MemorySource, Source};
pub use tokenizer_files::folder_tokenizer_files;
