//! Training itself: names of parameters, the schedule, the loop and its checkpoints.

mod named;

pub use named::{Named, named};
