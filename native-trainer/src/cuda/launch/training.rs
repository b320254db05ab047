//! Adjoints of operations on rows, losses, the optimiser.

use super::{ELEMENTWISE, Launch, elementwise};
use crate::cuda::driver::Slice;
use paddock_learn::optim::{AdamWStep, MOMENT_BLOCK};

/// Blocks that share the rows of a norm's adjoint; each has a part of the gain's gradient.
pub const NORM_BLOCKS: u32 = 264;
/// Parts of a bias's gradient.
pub const BIAS_PARTS: u32 = 64;
/// Parts of the squared norm of `count` values: they depend on nothing else.
pub fn squared_norm_parts(count: u64) -> u32 {
    count.div_ceil(4096).clamp(1, 256) as u32
}

/// Rows that are added to other rows, as [`embed_adjoint`] takes them: `offsets[u] .. offsets[u + 1]` are the places in
/// `sources` of what goes to row `targets[u]`.
#[derive(Debug)]
pub struct Gather<'a, B> {
    /// Rows that are added to.
    pub targets: Slice<'a, B>,
    /// One more than targets.
    pub offsets: Slice<'a, B>,
    /// Rows that are added.
    pub sources: Slice<'a, B>,
    /// Number of targets.
    pub count: u32,
}

/// Adds rows of `grad` to those of a table's gradient.
pub fn embed_adjoint<'a, B>(
    table: Slice<'a, B>,
    grad: Slice<'a, B>,
    gather: Gather<'a, B>,
    cols: u32,
) -> Launch<'a, B> {
    gathered("embed_adjoint", table, grad, gather, cols)
}

/// Adds rows of `grad` to those of `out`.
pub fn select_rows_adjoint<'a, B>(
    out: Slice<'a, B>,
    grad: Slice<'a, B>,
    gather: Gather<'a, B>,
    cols: u32,
) -> Launch<'a, B> {
    gathered("select_rows_adjoint", out, grad, gather, cols)
}

fn gathered<'a, B>(
    kernel: &'static str,
    to: Slice<'a, B>,
    grad: Slice<'a, B>,
    gather: Gather<'a, B>,
    cols: u32,
) -> Launch<'a, B> {
    let pointers = [to, grad, gather.targets, gather.offsets, gather.sources];
    Launch::new(kernel, [gather.count, 1], 128).pointers(pointers).words([cols])
}

/// Adjoint of a norm, `"rms_norm_adjoint"` or `"layer_norm_adjoint"`: `gain_parts` is `[blocks, cols]` f32.
pub fn norm_adjoint<'a, B>(
    kernel: &'static str,
    [out, gain_parts, x, gain, grad]: [Slice<'a, B>; 5],
    [rows, cols]: [u32; 2],
    eps: f32,
) -> Launch<'a, B> {
    let launch = Launch { shared: 4 * cols, ..Launch::new(kernel, [rows.min(NORM_BLOCKS), 1], 128) };
    launch.pointers([out, gain_parts, x, gain, grad]).words([rows, cols]).floats([eps])
}

/// Sums of the rows of `grad` in parts: `[parts, cols]` f32, as many parts as the grid is wide.
pub fn bias_adjoint<'a, B>(parts: Slice<'a, B>, grad: Slice<'a, B>, [rows, cols]: [u32; 2]) -> Launch<'a, B> {
    let grid = [rows.min(BIAS_PARTS), cols.div_ceil(256)];
    Launch::new("bias_adjoint", grid, 256).pointers([parts, grad]).words([rows, cols])
}

/// Adds `count` parts to a gradient of `cols` values.
pub fn add_parts<'a, B>(to: Slice<'a, B>, parts: Slice<'a, B>, count: u32, cols: u32) -> Launch<'a, B> {
    Launch::new("add_parts", [cols.div_ceil(256), 1], 256).pointers([to, parts]).words([count, cols])
}

/// Log-probabilities of `rows` targets; logits are f32, their rows `stride` apart.
pub fn token_logprobs<'a, B>(
    [out, logits, targets]: [Slice<'a, B>; 3],
    rows: u32,
    [vocab, stride]: [u32; 2],
) -> Launch<'a, B> {
    Launch::new("token_logprobs", [rows, 1], 256).pointers([out, logits, targets]).words([vocab, stride])
}

/// The gradient of the logits, with rows `stride` apart.
pub fn token_logprobs_adjoint<'a, B>(
    [out, logits, targets, grad]: [Slice<'a, B>; 4],
    rows: u32,
    [vocab, stride]: [u32; 2],
) -> Launch<'a, B> {
    let launch = Launch::new("token_logprobs_adjoint", [rows, 1], 256);
    launch.pointers([out, logits, targets, grad]).words([vocab, stride])
}

/// The sum of the squares of `count` values, in f64 parts: as many as the grid is wide.
pub fn squared_norm<'a, B>(parts: Slice<'a, B>, values: Slice<'a, B>, count: u64) -> Launch<'a, B> {
    Launch::new("squared_norm", [squared_norm_parts(count), 1], 256).pointers([parts, values]).count(count)
}

/// Adds `count` parts to `total`, f64.
pub fn squared_norm_total<'a, B>(total: Slice<'a, B>, parts: Slice<'a, B>, count: u32) -> Launch<'a, B> {
    Launch::new("squared_norm_total", [1, 1], 256).pointers([total, parts]).words([count])
}

/// `out = x` of `[rows, cols]`, plus `scale` · delta of `[added, count]` from a row and a column on.
pub fn add_columns<'a, B>(
    [out, x, delta]: [Slice<'a, B>; 3],
    [rows, cols]: [u32; 2],
    [added, count]: [u32; 2],
    [first_row, first]: [u32; 2],
    scale: f32,
) -> Launch<'a, B> {
    let launch = Launch::new("add_columns", [rows, 1], 128).pointers([out, x, delta]);
    launch.words([cols, first_row, added, first, count]).floats([scale])
}

/// `scale` · the block `[rows, count]` of `grad`, whose rows are of `cols`, from a row and a column on.
pub fn add_columns_adjoint<'a, B>(
    [out, grad]: [Slice<'a, B>; 2],
    cols: u32,
    [rows, count]: [u32; 2],
    [first_row, first]: [u32; 2],
    scale: f32,
) -> Launch<'a, B> {
    let launch = Launch::new("add_columns_adjoint", [rows, 1], 128).pointers([out, grad]);
    launch.words([cols, first_row, first, count]).floats([scale])
}

/// A step of AdamW on `count` values: parameter and the rest of a split one, gradient, moments; `squares` is the sum of
/// the squares of all gradients, f64.
pub fn adamw<'a, B>(
    (param, rest): (Slice<'a, B>, Option<Slice<'a, B>>),
    [grad, first, second]: [Slice<'a, B>; 3],
    squares: Slice<'a, B>,
    count: u64,
    step: &AdamWStep,
) -> Launch<'a, B> {
    let launch = elementwise("adamw", count).pointers([param]).optional(rest).pointers([grad, first, second, squares]);
    numbers_of_step(launch.count(count), step)
}

/// The same with moments in eight bits: codes and scales of the first, of the second, the magnitudes of both maps.
pub fn adamw8<'a, B>(
    (param, rest): (Slice<'a, B>, Option<Slice<'a, B>>),
    grad: Slice<'a, B>,
    moments: [Slice<'a, B>; 5],
    squares: Slice<'a, B>,
    count: u64,
    step: &AdamWStep,
) -> Launch<'a, B> {
    // A block of threads has a block of values at a time.
    const { assert!(ELEMENTWISE as usize == MOMENT_BLOCK) };
    let launch = elementwise("adamw8", count)
        .pointers([param])
        .optional(rest)
        .pointers([grad])
        .pointers(moments)
        .pointers([squares]);
    numbers_of_step(launch.count(count), step)
}

fn numbers_of_step<'a, B>(launch: Launch<'a, B>, step: &AdamWStep) -> Launch<'a, B> {
    let launch = launch.words([step.noise, step.first]).floats([step.max_grad_norm as f32]);
    launch.floats([step.beta1, step.beta2, step.eps, step.decay, step.step_size, step.root_correction])
}
