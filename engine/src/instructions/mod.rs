//! What instruction data is judged by, all of it plain text: how similar instructions are, which rows say the same, what
//! they ask for.

mod diversity;
mod minhash;
mod rouge;
mod verbs;

pub use diversity::{Diversity, Verb};
pub use minhash::{MinHash, normalized};
pub use rouge::{Pattern, Pool, f_measure, rouge_l, tokens};
pub use verbs::{Request, request};
