//! Rows of data, one JSON value each: what is to be learned, what is to be scored, and which of two answers is better.
//!
//! All kinds are read from the same fields, so they know the same spellings and report the same problems in the same
//! words. Problems are parts of a sentence: [`Records`], which reads a file, adds the line.

mod asked;
mod comparison;
mod encoding;
mod fields;
mod file;
mod pair;
mod python_text;
mod record;
mod scorable;
mod spoken;
mod tools;

pub use asked::asked;
pub use comparison::{Comparison, Judged, Judgement};
pub use file::{Place, Records};
pub use pair::Pair;
pub use record::{Instruction, Record};
pub use scorable::Scorable;
pub use spoken::Turn;
