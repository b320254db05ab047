//! Training data: files of records, records as token ids, examples as ragged batches.

mod cache;
mod encode;
mod micro_batch;
mod order;
mod records;
mod share;
mod special_tokens;

pub use cache::TokenCache;
pub(crate) use cache::user_cache;
pub use encode::{Encoder, Example};
pub use micro_batch::{MicroBatch, micro_batches};
pub use order::Order;
pub use records::{Record, read_records};
pub use share::Share;
pub use special_tokens::add_missing_tokens;
