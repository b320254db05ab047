//! The page as a person uses it, in a browser. They need a built page (`cargo xtask test` builds it).

mod chat;
mod fine_tuning;
mod large_model;
mod recover;
mod runs;
mod score;
