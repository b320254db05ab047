//! The page as a person uses it, in a browser. The tests need the built page, which `cargo xtask test` builds.

mod chat;
mod fine_tuning;
mod large_model;
mod recover;
mod runs;
mod score;
mod start;
