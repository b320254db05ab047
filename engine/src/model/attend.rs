//! What the rows of a batch attend to.

use crate::Result;
use crate::backend::{Cache, HeadLayout, Operations, Segments};

/// How the blocks of a trunk attend: to the rows of their own segment ([`Fresh`]), or to a KV cache as well ([`Cached`]).
pub trait Attend<B: Operations> {
    /// Attention of block `layer` on fused rows `[q | k | v]`, which are rotated first where the model has
    /// `frequencies` (see [`Operations::rope`]): `[tokens, q_dim]`.
    ///
    /// # Errors
    /// When the rows do not fit the heads, the segments or the cache, or the device fails.
    fn attend(
        &mut self,
        backend: &B,
        layer: usize,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: Option<&B::Tensor>,
    ) -> Result<B::Tensor>;
}

/// Every segment is a whole document.
#[derive(Debug, Clone, Copy)]
pub struct Fresh;

/// Rows attend to their sequence's past in this cache and are appended to it.
pub struct Cached<'a, B: Cache>(pub &'a mut B::KvCache);

impl<B: Operations> Attend<B> for Fresh {
    fn attend(
        &mut self,
        backend: &B,
        _layer: usize,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        match frequencies {
            Some(frequencies) => backend.attention(&backend.rope(qkv, heads, segments, frequencies)?, heads, segments),
            None => backend.attention(qkv, heads, segments),
        }
    }
}

impl<B: Cache> Attend<B> for Cached<'_, B> {
    fn attend(
        &mut self,
        backend: &B,
        layer: usize,
        qkv: &B::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let cache = &mut *self.0;
        if let Some(frequencies) = frequencies {
            return backend.rope_attention_cached(cache, layer, qkv, heads, segments, frequencies);
        }
        backend.cache_append(cache, layer, qkv, heads, segments)?;
        backend.attention_cached(cache, layer, qkv, heads, segments)
    }
}
