//! Training data on disk: files of records, and encoded examples kept for the next run.

mod cache;
mod records;

pub use cache::TokenCache;
pub(crate) use cache::user_cache;
pub use records::read_records;
