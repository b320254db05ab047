//! Instruction data, and what it is judged by, all of it plain text: how similar instructions are, which rows say the same,
//! how long they are, what they ask for.

mod diversity;
mod minhash;
mod repeats;
mod rouge;
mod row;
mod stats;
mod sunburst;
mod verbs;

pub use diversity::{Diversity, Verb};
pub use minhash::{MinHash, normalized};
pub use repeats::Repeats;
pub use rouge::{Pattern, Pool, f_measure, rouge_l, tokens};
pub use row::{Row, words};
pub use stats::{Lengths, Stats};
pub use sunburst::{Label, Sector};
pub use verbs::{Request, request};
