//! Operations on rows.

use paddock_learn::dropout::Dropout;

use super::{ELEMENTWISE, LEAST_PACK, Launch, elementwise};
use crate::cuda::driver::Slice;

/// Threads for one row.
const ROW: u32 = 128;

/// `out[i] = table[ids[i]]`; `[rows, cols]` is the table's shape.
pub fn embed<'a, B>(
    out: Slice<'a, B>,
    table: Slice<'a, B>,
    ids: Slice<'a, B>,
    count: u32,
    [rows, cols]: [u32; 2],
) -> Launch<'a, B> {
    Launch::new("embed", [count, 1], ROW).pointers([out, table, ids]).words([rows, cols])
}

/// `out[i] = x[rows[i]]`.
pub fn select_rows<'a, B>(
    out: Slice<'a, B>,
    x: Slice<'a, B>,
    rows: Slice<'a, B>,
    count: u32,
    cols: u32,
) -> Launch<'a, B> {
    Launch::new("select_rows", [count, 1], ROW).pointers([out, x, rows]).words([cols])
}

/// RMSNorm of `[rows, cols]`.
pub fn rms_norm<'a, B>(
    out: Slice<'a, B>,
    x: Slice<'a, B>,
    gain: Slice<'a, B>,
    [rows, cols]: [u32; 2],
    eps: f32,
) -> Launch<'a, B> {
    Launch::new("rms_norm", [rows, 1], ROW).pointers([out, x, gain]).words([cols]).floats([eps])
}

/// LayerNorm of `[rows, cols]`.
pub fn layer_norm<'a, B>(
    out: Slice<'a, B>,
    x: Slice<'a, B>,
    gain: Slice<'a, B>,
    bias: Slice<'a, B>,
    [rows, cols]: [u32; 2],
    eps: f32,
) -> Launch<'a, B> {
    Launch::new("layer_norm", [rows, 1], ROW).pointers([out, x, gain, bias]).words([cols]).floats([eps])
}

/// `x[row] += bias`.
pub fn add_bias<'a, B>(x: Slice<'a, B>, bias: Slice<'a, B>, [rows, cols]: [u32; 2]) -> Launch<'a, B> {
    Launch::new("add_bias", [rows, cols.div_ceil(256)], 256).pointers([x, bias]).words([cols])
}

/// SwiGLU of `[rows, 2 · cols]` to `[rows, cols]`.
pub fn silu_mul<'a, B>(out: Slice<'a, B>, gate_up: Slice<'a, B>, shape: [u32; 2]) -> Launch<'a, B> {
    gated("silu_mul", shape).pointers([out, gate_up]).words([shape[1]])
}

/// The adjoint of [`silu_mul`]: `[rows, cols]` to `[rows, 2 · cols]`.
pub fn silu_mul_adjoint<'a, B>(
    out: Slice<'a, B>,
    gate_up: Slice<'a, B>,
    grad: Slice<'a, B>,
    shape: [u32; 2],
) -> Launch<'a, B> {
    gated("silu_mul_adjoint", shape).pointers([out, gate_up, grad]).words([shape[1]])
}

/// A thread has a pack of a row, or one value where the width is not made of packs.
fn gated<'a, B>(kernel: &'static str, [rows, cols]: [u32; 2]) -> Launch<'a, B> {
    // 8 bf16 or 4 f32 divide the width, or the kernel goes by single values.
    let least = if cols.is_multiple_of(2 * LEAST_PACK) { LEAST_PACK } else { 1 };
    Launch::new(kernel, [rows, cols.div_ceil(256 * least)], 256)
}

/// `out = a + b` of `count` values; `out` may be `a`.
pub fn add<'a, B>(out: Slice<'a, B>, a: Slice<'a, B>, b: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    elementwise("add", count).pointers([out, a, b]).count(count)
}

/// `out = max(x, 0)` of `count` values.
pub fn relu<'a, B>(out: Slice<'a, B>, x: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    elementwise("relu", count).pointers([out, x]).count(count)
}

/// The adjoint of [`relu`].
pub fn relu_adjoint<'a, B>(out: Slice<'a, B>, x: Slice<'a, B>, grad: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    elementwise("relu_adjoint", count).pointers([out, x, grad]).count(count)
}

/// Dropout of `count` values in rows of `cols`, whose keys are `keys`.
pub fn dropout<'a, B>([out, x, keys]: [Slice<'a, B>; 3], count: u64, cols: u32, dropout: Dropout) -> Launch<'a, B> {
    let numbers = [cols, dropout.seed, dropout.threshold()];
    elementwise("dropout", count).pointers([out, x, keys]).count(count).words(numbers).floats([dropout.scale()])
}

/// f32 to the format of activations.
pub fn narrow<'a, B>(out: Slice<'a, B>, x: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    elementwise("narrow", count).pointers([out, x]).count(count)
}

/// The format of activations to f32.
pub fn widen<'a, B>(out: Slice<'a, B>, x: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    elementwise("widen", count).pointers([out, x]).count(count)
}

/// Turns the first `rotated` heads of `rows` fused rows of `width` columns; `direction` -1 is the adjoint.
pub fn rope<'a, B>(
    [out, qkv, frequencies, positions]: [Slice<'a, B>; 4],
    rows: u32,
    [rotated, head_dim, width]: [u32; 3],
    direction: f32,
) -> Launch<'a, B> {
    // 32 threads share the pairs of a head, 8 rows of them the heads.
    let launch = Launch { threads: [32, 8], ..Launch::new("rope", [rows, 1], 256) };
    launch.pointers([out, qkv, frequencies, positions]).words([rotated, head_dim, width]).floats([direction])
}

/// Stores k and v of `rows` fused rows at their slots.
pub fn cache_append<'a, B>(
    [keys, values, qkv, slots]: [Slice<'a, B>; 4],
    rows: u32,
    [q_dim, kv_dim]: [u32; 2],
) -> Launch<'a, B> {
    Launch::new("cache_append", [rows, 1], ROW).pointers([keys, values, qkv, slots]).words([q_dim, kv_dim])
}

/// Marks `count` ids as seen by a slot whose words begin at `seen`.
pub fn set_seen<'a, B>(seen: Slice<'a, B>, ids: Slice<'a, B>, count: u32) -> Launch<'a, B> {
    Launch::new("set_seen", [count.div_ceil(ELEMENTWISE), 1], ELEMENTWISE).pointers([seen, ids]).words([count])
}

/// Chooses a token from each of `rows` rows of `vocab` logits; `how` has 8 words a row, which the kernel names.
pub fn sample<'a, B>([out, scores, seen, logits, how]: [Slice<'a, B>; 5], rows: u32, vocab: u32) -> Launch<'a, B> {
    Launch::new("sample", [rows, 1], 1024).pointers([out, scores, seen, logits, how]).words([vocab])
}
