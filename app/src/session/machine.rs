//! What the worker runs on, and how it does.

use leptos::prelude::*;

use crate::protocol::Gpu;

/// Measurements for the status line and the choice of device.
#[derive(Clone, Copy)]
pub struct Machine {
    /// The GPU; `None` while it is being looked for.
    pub gpu: RwSignal<Option<Gpu>>,
    /// The worker's heap in bytes.
    pub heap_bytes: RwSignal<u64>,
    /// The speed of the current or last answer, in tokens per second.
    pub speed: RwSignal<Option<f64>>,
}

impl Machine {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { gpu: RwSignal::new(None), heap_bytes: RwSignal::new(0), speed: RwSignal::new(None) }
    }
}
