//! Learning from preferences.

pub mod reward;
