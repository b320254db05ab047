//! Attention and its adjoint.

use paddock_engine::backend::HeadLayout;

use super::Launch;
use crate::cuda::driver::Slice;

/// Rows of a document that a block of the tiled kernels has.
pub const TILE_ROWS: usize = 64;
/// Widest head.
pub const WIDEST_HEAD: usize = 256;

/// The kernels that a batch goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// A row and head a block, every width of head and both formats.
    Rows,
    /// 64 rows a block, on the tensor cores: bf16, heads of 64 or 128 columns.
    Tiled,
}

impl AttentionKind {
    /// Rows of a tile.
    pub fn tile_rows(self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Tiled => TILE_ROWS,
        }
    }
}

/// Tiles on the device, and how many.
#[derive(Debug)]
pub struct Tiles<'a, B> {
    /// Five words each, see kernels/attention.cu.
    pub list: Slice<'a, B>,
    /// Number of them.
    pub count: u32,
}

// Derived, they would ask the same of the buffer.
impl<B> Clone for Tiles<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Tiles<'_, B> {}

fn scale(heads: HeadLayout) -> f32 {
    1.0 / (heads.head_dim as f32).sqrt()
}

/// Bytes of shared memory for `count` tiles of bf16 rows, each 16 bytes wider than a head.
fn tile_bytes(heads: HeadLayout, count: usize) -> u32 {
    (count * TILE_ROWS * (heads.head_dim + 8) * 2) as u32
}

/// One of two kernels, by the width of a head.
fn by_width(heads: HeadLayout, [narrow, wide]: [&'static str; 2]) -> &'static str {
    if heads.head_dim == 64 { narrow } else { wide }
}

/// `out` `[rows, q_dim]` and, if wanted, `lse` `[rows, heads]` f32, of queries whose rows are `strides[0]` apart and of
/// keys and values whose rows are `strides[1]` apart.
pub fn attention<'a, B>(
    kind: AttentionKind,
    out: Slice<'a, B>,
    lse: Option<Slice<'a, B>>,
    [q, k, v]: [Slice<'a, B>; 3],
    tiles: Tiles<'a, B>,
    strides: [u32; 2],
    heads: HeadLayout,
) -> Launch<'a, B> {
    let grid = [tiles.count, heads.heads as u32];
    let group = (heads.heads / heads.kv_heads) as u32;
    let with = |launch: Launch<'a, B>| {
        launch.pointers([out]).optional(lse).pointers([q, k, v, tiles.list]).words(strides).words([group])
    };
    match kind {
        AttentionKind::Rows => {
            with(Launch::new("attention", grid, 256)).words([heads.head_dim as u32]).floats([scale(heads)])
        }
        AttentionKind::Tiled => {
            let kernel = by_width(heads, ["attention_tiled_64", "attention_tiled_128"]);
            let launch = Launch { shared: tile_bytes(heads, 2), ..Launch::new(kernel, grid, 128) };
            with(launch).floats([scale(heads)])
        }
    }
}

/// `delta` `[rows, heads]` f32 of the outputs and their gradients.
pub fn attention_delta<'a, B>(
    delta: Slice<'a, B>,
    out: Slice<'a, B>,
    grad: Slice<'a, B>,
    rows: u32,
    heads: HeadLayout,
) -> Launch<'a, B> {
    let count = rows * heads.heads as u32;
    let launch = Launch::new("attention_delta", [count.div_ceil(256 / 32), 1], 256);
    launch.pointers([delta, out, grad]).words([count, heads.head_dim as u32])
}

/// The gradient of the queries, in the q columns of fused rows; `inputs` are the fused rows, the gradient, lse, delta.
pub fn attention_query_adjoint<'a, B>(
    kind: AttentionKind,
    out: Slice<'a, B>,
    inputs: [Slice<'a, B>; 4],
    tiles: Tiles<'a, B>,
    heads: HeadLayout,
) -> Launch<'a, B> {
    let grid = [tiles.count, heads.heads as u32];
    let tiled = ["attention_tiled_query_adjoint_64", "attention_tiled_query_adjoint_128"];
    adjoint(kind, "attention_query_adjoint", tiled, grid, heads)
        .pointers([out])
        .pointers(inputs)
        .pointers([tiles.list])
        .words([heads.kv_heads as u32])
        .finish(kind, heads)
}

/// The gradients of keys and values, in the k and v columns of fused rows.
pub fn attention_key_adjoint<'a, B>(
    kind: AttentionKind,
    out: Slice<'a, B>,
    inputs: [Slice<'a, B>; 4],
    tiles: Tiles<'a, B>,
    heads: HeadLayout,
) -> Launch<'a, B> {
    let grid = [tiles.count, heads.kv_heads as u32];
    let tiled = ["attention_tiled_key_adjoint_64", "attention_tiled_key_adjoint_128"];
    adjoint(kind, "attention_key_adjoint", tiled, grid, heads)
        .pointers([out])
        .pointers(inputs)
        .pointers([tiles.list])
        .words([heads.heads as u32])
        .finish(kind, heads)
}

fn adjoint<'a, B>(
    kind: AttentionKind,
    plain: &'static str,
    tiled: [&'static str; 2],
    grid: [u32; 2],
    heads: HeadLayout,
) -> Launch<'a, B> {
    match kind {
        AttentionKind::Rows => Launch::new(plain, grid, 256),
        AttentionKind::Tiled => {
            Launch { shared: tile_bytes(heads, 4), ..Launch::new(by_width(heads, tiled), grid, 128) }
        }
    }
}

impl<B> Launch<'_, B> {
    /// The last arguments: only the kernels that serve every width take it.
    fn finish(self, kind: AttentionKind, heads: HeadLayout) -> Self {
        let launch = match kind {
            AttentionKind::Rows => self.words([heads.head_dim as u32]),
            AttentionKind::Tiled => self,
        };
        launch.floats([scale(heads)])
    }
}
