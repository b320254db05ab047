//! Causal attention, on the batch itself or on a cache: the same arithmetic, in the same order, on different strides.

use std::ops::Range;
use std::sync::Arc;

use paddock_kernels::{Attend, Strided};

use super::kv_cache::{KvCache, Layer};
use super::{Cpu, Tensor};
use crate::backend::{HeadLayout, Segment, Segments, check};
use crate::{Error, Result};

/// Products that are worth another thread: some 20 µs.
const PARALLEL_PRODUCTS: usize = 200_000;
/// Rows of a segment that one job takes.
const ROWS_PER_JOB: usize = 16;

pub(super) fn attention(cpu: &Cpu, qkv: &Tensor, heads: HeadLayout, segments: &Segments) -> Result<Tensor> {
    check::fused_rows("attention", qkv.shape, heads, segments)?;
    if let Some(segment) = segments.iter().find(|segment| segment.past > 0) {
        return Err(Error::Shape {
            op: "attention",
            expected: "segments without a past".to_string(),
            got: format!("a past of {} tokens", segment.past),
        });
    }
    Ok(run(cpu, qkv, None, heads, segments))
}

pub(super) fn attention_cached(
    cpu: &Cpu,
    cache: &KvCache,
    layer: usize,
    qkv: &Tensor,
    heads: HeadLayout,
    segments: &Segments,
) -> Result<Tensor> {
    const OP: &str = "attention_cached";
    check::fused_rows(OP, qkv.shape, heads, segments)?;
    let layer = cache.layer(OP, layer, heads, segments)?;
    for segment in segments.iter() {
        let tokens = layer.sequences[segment.sequence].first().map_or(0, |head| head.keys.len() / heads.head_dim);
        if tokens < segment.past + segment.len {
            return Err(Error::Shape {
                op: OP,
                expected: format!("{} tokens in the cache, appended before", segment.past + segment.len),
                got: format!("{tokens}"),
            });
        }
    }
    Ok(run(cpu, qkv, Some(layer.clone()), heads, segments))
}

/// Some rows of a segment, in the query heads of one key head.
struct Job {
    segment: Segment,
    kv_head: usize,
    rows: Range<usize>,
}

/// Attends to the cache's layer, or without one to the batch.
fn run(cpu: &Cpu, qkv: &Tensor, layer: Option<Arc<Layer>>, heads: HeadLayout, segments: &Segments) -> Tensor {
    let mut jobs = Vec::new();
    let mut products = 0;
    for segment in segments.iter() {
        products += segment.len * (segment.past + segment.len) * heads.q_dim();
        for start in (0..segment.len).step_by(ROWS_PER_JOB) {
            let rows = start..segment.len.min(start + ROWS_PER_JOB);
            jobs.extend((0..heads.kv_heads).map(|kv_head| Job { segment: *segment, kv_head, rows: rows.clone() }));
        }
    }
    let jobs = Arc::new(jobs);
    let (head_dim, group) = (heads.head_dim, heads.heads / heads.kv_heads);
    let attend = {
        let (simd, jobs, qkv) = (cpu.simd, jobs.clone(), qkv.values.clone());
        move |index: usize| {
            let Job { segment, kv_head, ref rows } = jobs[index];
            let stride = heads.qkv_dim();
            let batch = &qkv[segment.start * stride..];
            let (keys, values) = match &layer {
                Some(layer) => {
                    let head = &layer.sequences[segment.sequence][kv_head];
                    (Strided { data: &head.keys, stride: head_dim }, Strided { data: &head.values, stride: head_dim })
                }
                None => {
                    let key = heads.q_dim() + kv_head * head_dim;
                    let keys = Strided { data: &batch[key..], stride };
                    (keys, Strided { data: &batch[key + heads.kv_dim()..], stride })
                }
            };
            let queries = Strided { data: &batch[kv_head * group * head_dim..], stride };
            let (past, rows) = (segment.past, rows.clone());
            paddock_kernels::attention(simd, Attend { queries, keys, values, head_dim, group, past, rows })
        }
    };
    let results: Vec<Vec<f32>> = if products < PARALLEL_PRODUCTS {
        (0..jobs.len()).map(attend).collect()
    } else {
        cpu.team.map(jobs.len(), attend)
    };

    let (q_dim, width) = (heads.q_dim(), group * head_dim);
    let mut out = vec![0.0; segments.rows() * q_dim];
    for (job, result) in jobs.iter().zip(results) {
        for (row, result) in job.rows.clone().zip(result.chunks_exact(width)) {
            out[(job.segment.start + row) * q_dim + job.kv_head * width..][..width].copy_from_slice(result);
        }
    }
    Tensor::new([segments.rows(), q_dim], out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cache;
    use crate::backend::cpu::testing::numbers;

    /// Softmax attention of one row in f64.
    fn reference(qkv: &[f32], heads: HeadLayout, row: usize, head: usize) -> Vec<f64> {
        let at = |row: usize, column: usize| f64::from(qkv[row * heads.qkv_dim() + column]);
        let d = heads.head_dim;
        let key = heads.q_dim() + head / (heads.heads / heads.kv_heads) * d;
        let score = |j: usize| (0..d).map(|i| at(row, head * d + i) * at(j, key + i)).sum::<f64>() / (d as f64).sqrt();
        let weights: Vec<f64> = (0..=row).map(|j| score(j).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..d).map(|i| (0..=row).map(|j| weights[j] / sum * at(j, key + heads.kv_dim() + i)).sum()).collect()
    }

    #[test]
    fn is_softmax_attention_for_every_grouping_and_width() {
        let cpu = Cpu::with_threads(2);
        for (heads, kv_heads, head_dim) in [(4, 4, 16), (6, 2, 32), (3, 1, 10), (2, 1, 44), (2, 2, 12), (1, 1, 72)] {
            let heads = HeadLayout { heads, kv_heads, head_dim };
            let rows = 37;
            let qkv: Vec<f32> = numbers(rows * heads.qkv_dim(), 11).iter().map(|v| v * 3.0).collect();
            let x = Tensor::new([rows, heads.qkv_dim()], qkv.clone());
            let got = attention(&cpu, &x, heads, &Segments::documents(&[rows])).unwrap();
            for row in 0..rows {
                for head in 0..heads.heads {
                    for (i, expected) in reference(&qkv, heads, row, head).into_iter().enumerate() {
                        let got = f64::from(got.values[row * heads.q_dim() + head * head_dim + i]);
                        assert!((got - expected).abs() < 1e-5, "row {row} head {head}: {got} not {expected}");
                    }
                }
            }
        }
    }

    const HEADS: HeadLayout = HeadLayout { heads: 4, kv_heads: 2, head_dim: 40 };

    #[test]
    fn packed_documents_have_the_bits_of_separate_ones() {
        let cpu = Cpu::with_threads(2);
        let lengths = [1, 23, 40, 2];
        let rows = lengths.iter().sum();
        let qkv = Tensor::new([rows, HEADS.qkv_dim()], numbers(rows * HEADS.qkv_dim(), 5));
        let packed = attention(&cpu, &qkv, HEADS, &Segments::documents(&lengths)).unwrap();
        let mut start = 0;
        for len in lengths {
            let document = Tensor::new(
                [len, HEADS.qkv_dim()],
                qkv.values[start * HEADS.qkv_dim()..][..len * HEADS.qkv_dim()].to_vec(),
            );
            let alone = attention(&cpu, &document, HEADS, &Segments::documents(&[len])).unwrap();
            assert_eq!(*alone.values, packed.values[start * HEADS.q_dim()..][..len * HEADS.q_dim()]);
            start += len;
        }
    }

    #[test]
    fn cached_pieces_have_the_bits_of_the_whole() {
        let cpu = Cpu::with_threads(2);
        let rows = 90;
        let values = numbers(rows * HEADS.qkv_dim(), 6);
        let qkv = Tensor::new([rows, HEADS.qkv_dim()], values.clone());
        let whole = attention(&cpu, &qkv, HEADS, &Segments::documents(&[rows])).unwrap();
        let mut cache = cpu.kv_cache(1, HEADS, 2, rows).unwrap();
        let mut past = 0;
        for len in [50, 1, 1, 7, 31] {
            let piece = values[past * HEADS.qkv_dim()..][..len * HEADS.qkv_dim()].to_vec();
            let piece = Tensor::new([len, HEADS.qkv_dim()], piece);
            let segments = Segments::continuation(len, past, 1);
            cpu.cache_append(&mut cache, 0, &piece, HEADS, &segments).unwrap();
            let got = attention_cached(&cpu, &cache, 0, &piece, HEADS, &segments).unwrap();
            assert_eq!(*got.values, whole.values[past * HEADS.q_dim()..][..len * HEADS.q_dim()]);
            past += len;
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let cpu = Cpu::with_threads(1);
        let heads = HeadLayout { heads: 1, kv_heads: 1, head_dim: 2 };
        // Row 1 scores far higher on key 0 than on itself, so it copies value 0.
        let qkv = Tensor::new([2, 6], vec![0.0, 0.0, 1e3, 0.0, 7.0, 8.0, 1e3, 0.0, 0.0, 0.0, -1.0, -2.0]);
        let out = attention(&cpu, &qkv, heads, &Segments::documents(&[2])).unwrap();
        assert_eq!(*out.values, [7.0, 8.0, 7.0, 8.0]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let cpu = Cpu::with_threads(1);
        let qkv = Tensor::new([2, HEADS.qkv_dim()], vec![0.0; 2 * HEADS.qkv_dim()]);
        assert!(attention(&cpu, &qkv, HEADS, &Segments::documents(&[3])).is_err());
        assert!(attention(&cpu, &qkv, HEADS, &Segments::continuation(2, 1, 0)).is_err());
        let cache = cpu.kv_cache(1, HEADS, 1, 8).unwrap();
        let nothing_appended = attention_cached(&cpu, &cache, 0, &qkv, HEADS, &Segments::documents(&[2]));
        assert!(nothing_appended.is_err());
        let mut cache = cpu.kv_cache(1, HEADS, 1, 8).unwrap();
        cpu.cache_append(&mut cache, 0, &qkv, HEADS, &Segments::documents(&[2])).unwrap();
        let segments = Segments::continuation(2, 3, 0);
        let text = attention_cached(&cpu, &cache, 0, &qkv, HEADS, &segments).unwrap_err().to_string();
        assert!(text.contains("5 tokens in the cache"), "{text}");
        let text = cpu.cache_append(&mut cache, 0, &qkv, HEADS, &segments).unwrap_err().to_string();
        assert!(text.contains("a past of at most 2 tokens"), "{text}");
    }
}
