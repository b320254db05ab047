//! The CPU backend: the reference, and what runs where there is no usable GPU.

/// Computes on this process's own processor.
#[derive(Debug, Clone)]
pub struct Cpu;
