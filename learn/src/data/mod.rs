//! Training data: records as token ids, examples as ragged batches.

mod encode;
mod micro_batch;
mod order;
mod pair;
mod share;
mod special_tokens;

pub use encode::{Encoder, Example};
pub use micro_batch::MicroBatch;
pub use order::Order;
pub use pair::{Extent, PairBatch, PairExample, PairRows, PairShare};
pub use share::{Passes, Share};
pub use special_tokens::add_missing_tokens;
