//! The KV cache: keys and values of sequences that go on.

use super::{HeadLayout, Operations, Segments};
use crate::Result;

/// A device that keeps the keys and values of sequences, so that a token attends to its past without computing it anew.
pub trait Cache: Operations {
    /// Keys (rotated) and values of all layers for a number of sequences.
    type KvCache;

    /// Room for `capacity` tokens in each of `sequences` sequences, for `layers` layers.
    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<Self::KvCache>;

    /// Stores the k and v columns of rotated fused rows at each segment's `past` onwards. What a cache held at those
    /// positions is overwritten; that is also how a sequence is shortened.
    fn cache_append(
        &self,
        cache: &mut Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()>;

    /// Makes the first `tokens` tokens of sequence `to` those of sequence `from`, in all layers. What `to` held is
    /// overwritten.
    fn cache_fork(&self, cache: &mut Self::KvCache, from: usize, to: usize, tokens: usize) -> Result<()>;

    /// Causal attention of each segment's rows, already appended, on its sequence in the cache: row `i` of a segment
    /// sees positions `0 ..= past + i`. `[tokens, q_dim]`.
    fn attention_cached(
        &self,
        cache: &Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Self::Tensor>;

    /// Fused: [`Operations::rope`], [`Cache::cache_append`], [`Cache::attention_cached`].
    fn rope_attention_cached(
        &self,
        cache: &mut Self::KvCache,
        layer: usize,
        qkv: &Self::Tensor,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let rotated = self.rope(qkv, heads, segments, frequencies)?;
        self.cache_append(cache, layer, &rotated, heads, segments)?;
        self.attention_cached(cache, layer, &rotated, heads, segments)
    }
}
