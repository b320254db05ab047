//! Keys and values of the tokens so far.

use std::sync::Arc;

use super::Tensor;
use crate::backend::{HeadLayout, Segments, check};
use crate::{Error, Result};

/// Keys (rotated) and values of all layers. Grows with its sequences.
#[derive(Debug)]
pub struct KvCache {
    pub(super) heads: HeadLayout,
    pub(super) layers: Vec<Arc<Layer>>,
    sequences: usize,
    capacity: usize,
}

/// One layer: `sequences[s][h]` are key and value head `h` of sequence `s`.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) sequences: Vec<Vec<HeadCache>>,
}

/// `[tokens, head_dim]`, row by row.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl KvCache {
    pub(super) fn new(layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Self {
        let layer = || Arc::new(Layer { sequences: vec![vec![HeadCache::default(); heads.kv_heads]; sequences] });
        Self { heads, layers: (0..layers).map(|_| layer()).collect(), sequences, capacity }
    }

    /// The layer, when the cache was made for these heads and has room for the segments.
    pub(super) fn layer(
        &self,
        op: &'static str,
        layer: usize,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<&Arc<Layer>> {
        check::cache_room(op, segments, self.sequences, self.capacity)?;
        self.layers.get(layer).filter(|_| self.heads == heads).ok_or_else(|| Error::Shape {
            op,
            expected: format!("one of {} layers of {:?}", self.layers.len(), self.heads),
            got: format!("layer {layer} of {heads:?}"),
        })
    }
}

pub(super) fn cache_append(
    cache: &mut KvCache,
    layer: usize,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
) -> Result<()> {
    const OP: &str = "cache_append";
    check::fused_rows(OP, qkv.shape, heads, segments)?;
    let held = cache.layer(OP, layer, heads, segments)?.clone();
    for segment in segments.iter() {
        let tokens = held.sequences[segment.sequence].first().map_or(0, |head| head.keys.len() / heads.head_dim);
        if segment.past > tokens {
            return Err(Error::Shape {
                op: OP,
                expected: format!("a past of at most {tokens} tokens in sequence {}", segment.sequence),
                got: format!("a past of {}", segment.past),
            });
        }
    }
    drop(held);
    let layer = Arc::make_mut(&mut cache.layers[layer]);
    for segment in segments.iter() {
        for (index, head) in layer.sequences[segment.sequence].iter_mut().enumerate() {
            head.keys.truncate(segment.past * heads.head_dim);
            head.values.truncate(segment.past * heads.head_dim);
            for row in segment.rows() {
                let row = &qkv.values[row * heads.qkv_dim()..][..heads.qkv_dim()];
                let key = heads.q_dim() + index * heads.head_dim;
                head.keys.extend_from_slice(&row[key..][..heads.head_dim]);
                head.values.extend_from_slice(&row[key + heads.kv_dim()..][..heads.head_dim]);
            }
        }
    }
    Ok(())
}

pub(super) fn cache_fork(cache: &mut KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
    check::cache_fork(from, to, tokens, cache.sequences, cache.capacity)?;
    let values = tokens * cache.heads.head_dim;
    for layer in &mut cache.layers {
        let layer = Arc::make_mut(layer);
        let forked = layer.sequences[from].iter().map(|head| {
            let (keys, held) = (head.keys.get(..values), head.values.get(..values));
            let both = keys.zip(held).ok_or_else(|| Error::Shape {
                op: "cache_fork",
                expected: format!("{tokens} tokens in sequence {from}"),
                got: format!("{}", head.keys.len() / cache.heads.head_dim),
            });
            both.map(|(keys, values)| HeadCache { keys: keys.to_vec(), values: values.to_vec() })
        });
        layer.sequences[to] = forked.collect::<Result<_>>()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: HeadLayout = HeadLayout { heads: 1, kv_heads: 1, head_dim: 2 };

    fn row(value: f32) -> Vec<f32> {
        vec![0.0, 0.0, value, value + 0.25, value + 0.5, value + 0.75]
    }

    #[test]
    fn appending_at_a_shorter_past_shortens_the_sequence() {
        let mut cache = KvCache::new(2, HEADS, 2, 4);
        let rows = Tensor::new([3, 6], [row(1.0), row(2.0), row(3.0)].concat());
        cache_append(&mut cache, 1, &rows, HEADS, &Segments::continuation(3, 0, 1)).unwrap();
        let one = Tensor::new([1, 6], row(9.0));
        cache_append(&mut cache, 1, &one, HEADS, &Segments::continuation(1, 1, 1)).unwrap();
        let head = &cache.layers[1].sequences[1][0];
        assert_eq!(head.keys, [1.0, 1.25, 9.0, 9.25]);
        assert_eq!(head.values, [1.5, 1.75, 9.5, 9.75]);
        assert!(cache.layers[0].sequences[1][0].keys.is_empty());
        assert!(cache.layers[1].sequences[0][0].keys.is_empty());
    }

    #[test]
    fn gaps_and_overflows_are_refused() {
        let mut cache = KvCache::new(1, HEADS, 1, 2);
        let rows = Tensor::new([1, 6], row(1.0));
        let mut append = |layer, past, sequence| {
            cache_append(&mut cache, layer, &rows, HEADS, &Segments::continuation(1, past, sequence))
        };
        assert!(append(0, 1, 0).is_err(), "a gap");
        assert!(append(0, 0, 1).is_err(), "no such sequence");
        assert!(append(1, 0, 0).is_err(), "no such layer");
        assert!(append(0, 0, 0).is_ok());
        assert!(append(0, 1, 0).is_ok());
        assert!(append(0, 2, 0).is_err(), "beyond the capacity");
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let mut cache = KvCache::new(1, HEADS, 2, 4);
        let rows = Tensor::new([2, 6], [row(1.0), row(2.0)].concat());
        cache_append(&mut cache, 0, &rows, HEADS, &Segments::continuation(2, 0, 0)).unwrap();
        cache_fork(&mut cache, 0, 1, 1).unwrap();
        let one = Tensor::new([1, 6], row(9.0));
        cache_append(&mut cache, 0, &one, HEADS, &Segments::continuation(1, 1, 1)).unwrap();
        let keys = |sequence: usize| cache.layers[0].sequences[sequence][0].keys.clone();
        assert_eq!(keys(0), [1.0, 1.25, 2.0, 2.25]);
        assert_eq!(keys(1), [1.0, 1.25, 9.0, 9.25]);
        for (from, to, tokens) in [(0, 0, 1), (0, 2, 1), (0, 1, 3), (0, 1, 5)] {
            assert!(cache_fork(&mut cache, from, to, tokens).is_err(), "{tokens} tokens from {from} to {to}");
        }
    }
}
