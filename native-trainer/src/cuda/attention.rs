//! Attention on the batch or on a cache, and its adjoint.

use std::rc::Rc;

use paddock_engine::backend::{HeadLayout, Segments, check};
use paddock_engine::{Error, Result};

use super::driver::{Driver, Slice};
use super::launch::AttentionKind;
use super::tensor::Attended;
use super::{Cuda, Dtype, KvCache, Tensor, expect, launch};

/// Rows of a document from which a tile of 64 is worth its empty rows.
const TILED_ROWS: usize = 16;

/// Where queries, keys and values lie.
struct Places<'a, B> {
    qkv: [Slice<'a, B>; 3],
    strides: [u32; 2],
    capacity: Option<usize>,
}

impl<D: Driver> Cuda<D> {
    fn kind(&self, heads: HeadLayout, segments: &Segments) -> Result<AttentionKind> {
        if heads.head_dim > launch::WIDEST_HEAD {
            return Err(Error::Unsupported(format!(
                "attention: the GPU takes heads of at most {} columns, not {}; use the CPU",
                launch::WIDEST_HEAD,
                heads.head_dim
            )));
        }
        let fits = self.values() == Dtype::Bf16 && matches!(heads.head_dim, 64 | 128);
        let long = segments.rows() >= TILED_ROWS * segments.len();
        Ok(if fits && long { AttentionKind::Tiled } else { AttentionKind::Rows })
    }

    fn attend(
        &self,
        places: &Places<'_, D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
        lse: Option<&D::Buffer>,
    ) -> Result<Tensor<D::Buffer>> {
        let kind = self.kind(heads, segments)?;
        let tables = self.tables(segments, places.capacity)?;
        let out = self.result([segments.rows(), heads.q_dim()])?;
        let lse = lse.map(Slice::from);
        self.launch(launch::attention(kind, out.at(), lse, places.qkv, tables.tiles(kind), places.strides, heads))?;
        Ok(out)
    }

    /// Attention of the batch on itself; what it gave stays with `qkv` for the adjoint.
    pub(super) fn attention_of(
        &self,
        qkv: &Tensor<D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Attended<D::Buffer>> {
        const OP: &str = "attention";
        check::fused_rows(OP, qkv.shape(), heads, segments)?;
        if let Some(segment) = segments.iter().find(|segment| segment.past > 0) {
            return Err(Error::Shape {
                op: OP,
                expected: "segments without a past".to_string(),
                got: format!("a past of {} tokens", segment.past),
            });
        }
        if let Some(attended) = qkv.attended() {
            return Ok(attended);
        }
        let narrow = self.narrowed(qkv)?;
        let value = self.values().bytes();
        let k = narrow.at().after(heads.q_dim() * value);
        let stride = heads.qkv_dim() as u32;
        let places = Places {
            qkv: [narrow.at(), k, k.after(heads.kv_dim() * value)],
            strides: [stride, stride],
            capacity: None,
        };
        let lse = self.driver().alloc(4 * segments.rows() * heads.heads)?;
        let out = self.attend(&places, heads, segments, Some(&lse))?;
        let attended = Attended { out, lse: Rc::new(lse) };
        qkv.set_attended(attended.clone());
        Ok(attended)
    }

    pub(super) fn attention_on_cache(
        &self,
        cache: &KvCache<D::Buffer>,
        layer: usize,
        qkv: &Tensor<D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Tensor<D::Buffer>> {
        const OP: &str = "attention_cached";
        check::fused_rows(OP, qkv.shape(), heads, segments)?;
        let slots = cache.slots(OP, layer, heads, segments)?;
        let qkv = self.narrowed(qkv)?;
        let places = Places {
            qkv: [qkv.at(), Slice::from(&slots.keys), Slice::from(&slots.values)],
            strides: [heads.qkv_dim() as u32, heads.kv_dim() as u32],
            capacity: Some(cache.capacity()),
        };
        self.attend(&places, heads, segments, None)
    }

    pub(super) fn attention_gradient(
        &self,
        qkv: &Tensor<D::Buffer>,
        heads: HeadLayout,
        segments: &Segments,
        grad: &Tensor<D::Buffer>,
    ) -> Result<Tensor<D::Buffer>> {
        expect("attention_adjoint", "a gradient", grad.shape(), [segments.rows(), heads.q_dim()])?;
        let attended = self.attention_of(qkv, heads, segments)?;
        let (qkv, grad) = (self.narrowed(qkv)?, self.narrowed(grad)?);
        let kind = self.kind(heads, segments)?;
        let tables = self.tables(segments, None)?;
        let rows = segments.rows();
        let delta = self.driver().alloc(4 * rows * heads.heads)?;
        let delta = Slice::from(&delta);
        self.launch(launch::attention_delta(delta, attended.out.at(), grad.at(), rows as u32, heads))?;
        let out = self.result(qkv.shape())?;
        let inputs = [qkv.at(), grad.at(), Slice::from(&*attended.lse), delta];
        let tiles = tables.tiles(kind);
        self.launch(launch::attention_query_adjoint(kind, out.at(), inputs, tiles, heads))?;
        self.launch(launch::attention_key_adjoint(kind, out.at(), inputs, tiles, heads))?;
        Ok(out)
    }
}
