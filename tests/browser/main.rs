//! The page as a person uses it, in a browser. The tests need the built page, which `cargo xtask test` builds.

mod accessibility;
mod chat;
mod chats;
mod data;
mod fine_tuning;
mod first_minute;
mod injection;
mod large_model;
mod models;
mod recover;
mod runs;
mod score;
mod screens;
mod sharing;
mod start;
mod storage;
