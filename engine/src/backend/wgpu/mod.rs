//! The GPU backend: WGSL from `shaders/` through wgpu, natively and in the browser.

/// Computes on a GPU.
#[derive(Debug, Clone)]
pub struct Wgpu;
