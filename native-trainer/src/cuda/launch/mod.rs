//! How each kernel is started: its geometry, its shared memory and its arguments in their order, from one function a
//! kernel. The GPU, the emulation in the tests and the checks of limits all go by it.

mod attention;
mod rows;
mod training;

pub use attention::*;
pub use rows::*;
pub use training::*;

use super::driver::Slice;

/// A kernel about to be started.
#[derive(Debug)]
pub struct Launch<'a, B> {
    /// Its name in the program.
    pub kernel: &'static str,
    /// Blocks: x, y.
    pub grid: [u32; 2],
    /// Threads of a block: x, y.
    pub threads: [u32; 2],
    /// Bytes of shared memory that are not declared in the kernel.
    pub shared: u32,
    /// The arguments, in order.
    pub arguments: Vec<Argument<'a, B>>,
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a, B> {
    /// A pointer; `None` is null.
    Pointer(Option<Slice<'a, B>>),
    /// `u32`.
    U32(u32),
    /// `u64`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl<'a, B> Launch<'a, B> {
    fn new(kernel: &'static str, grid: [u32; 2], threads: u32) -> Self {
        Self { kernel, grid, threads: [threads, 1], shared: 0, arguments: Vec::new() }
    }

    fn pointers<const N: usize>(mut self, slices: [Slice<'a, B>; N]) -> Self {
        self.arguments.extend(slices.map(|slice| Argument::Pointer(Some(slice))));
        self
    }

    fn optional(mut self, slice: Option<Slice<'a, B>>) -> Self {
        self.arguments.push(Argument::Pointer(slice));
        self
    }

    fn words<const N: usize>(mut self, words: [u32; N]) -> Self {
        self.arguments.extend(words.map(Argument::U32));
        self
    }

    fn count(mut self, count: u64) -> Self {
        self.arguments.push(Argument::U64(count));
        self
    }

    fn floats<const N: usize>(mut self, floats: [f32; N]) -> Self {
        self.arguments.extend(floats.map(Argument::F32));
        self
    }

    /// What of it no device of compute capability 8.0 or more would take, if anything.
    pub fn excess(&self) -> Option<String> {
        /// Grids: y is the narrow one.
        const GRID: [u32; 2] = [i32::MAX as u32, 65_535];
        const THREADS: u32 = 1024;
        /// What a block may ask for on compute capability 8.0; declared shared memory stays below 16 KiB.
        const SHARED: u32 = (163 - 16) * 1024;
        let threads = self.threads[0] * self.threads[1];
        if self.grid[0] > GRID[0] || self.grid[1] > GRID[1] {
            Some(format!("{}: a grid of {:?} is more than {GRID:?}", self.kernel, self.grid))
        } else if threads == 0 || threads > THREADS || !threads.is_multiple_of(32) {
            Some(format!("{}: {threads} threads are not whole warps up to {THREADS}", self.kernel))
        } else if self.shared > SHARED {
            Some(format!("{}: {} bytes of shared memory are more than {SHARED}", self.kernel, self.shared))
        } else {
            None
        }
    }
}

/// Threads of the kernels whose threads have every so-manieth value.
const ELEMENTWISE: u32 = 256;
/// Values of a 16-byte load of the widest format: a thread of those kernels that load packs has at least as many.
const LEAST_PACK: u32 = 4;

/// A kernel over `count` values, of which a thread has every (number of threads)-th.
fn elementwise<'a, B>(kernel: &'static str, count: u64) -> Launch<'a, B> {
    /// Enough to fill any device several times over.
    const MOST_BLOCKS: u64 = 132 * 16;
    let blocks = count.div_ceil(u64::from(ELEMENTWISE)).min(MOST_BLOCKS) as u32;
    Launch::new(kernel, [blocks, 1], ELEMENTWISE)
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::HeadLayout;

    use super::*;

    const PLACE: Slice<'_, ()> = Slice { buffer: &(), offset: 0 };

    /// The largest that a card of 80 GB could be asked for, by kernel.
    fn largest() -> Vec<Launch<'static, ()>> {
        let (rows, hidden, wide) = (1 << 17, 8192, 28_672);
        let heads = HeadLayout { heads: 64, kv_heads: 8, head_dim: 128 };
        let tiles = Tiles { list: PLACE, count: rows / 64 };
        let all = [PLACE; 4];
        vec![
            embed(PLACE, PLACE, PLACE, rows, [128_256, hidden]),
            rms_norm(PLACE, PLACE, PLACE, [rows, hidden], 1e-5),
            norm_adjoint("rms_norm_adjoint", [PLACE; 5], [rows, hidden], 1e-5),
            add_bias(PLACE, PLACE, [rows, 128_256]),
            silu_mul(PLACE, PLACE, [rows, wide]),
            silu_mul_adjoint(PLACE, PLACE, PLACE, [rows, wide]),
            add(PLACE, PLACE, PLACE, u64::from(rows) * u64::from(wide)),
            rope(all, rows, [72, 128, 10_240], 1.0),
            bias_adjoint(PLACE, PLACE, [rows, 128_256]),
            token_logprobs([PLACE; 3], rows, [128_256, 128_256]),
            squared_norm(PLACE, PLACE, 1 << 33),
            attention(AttentionKind::Tiled, PLACE, None, [PLACE; 3], tiles, [10_240, 10_240], heads),
            attention(AttentionKind::Rows, PLACE, None, [PLACE; 3], tiles, [10_240, 10_240], heads),
            attention_query_adjoint(AttentionKind::Tiled, PLACE, all, tiles, heads),
            attention_key_adjoint(AttentionKind::Tiled, PLACE, all, tiles, heads),
        ]
    }

    #[test]
    fn the_largest_launches_fit_every_card() {
        for launch in largest() {
            assert_eq!(launch.excess(), None);
        }
    }

    #[test]
    fn what_no_card_takes_is_told() {
        let wide = norm_adjoint("rms_norm_adjoint", [PLACE; 5], [1, 50_000], 1e-5);
        assert!(wide.excess().is_some_and(|excess| excess.contains("200000 bytes of shared memory")));
        let high: Launch<'_, ()> = Launch::new("add_bias", [1, 70_000], 256);
        assert!(high.excess().is_some_and(|excess| excess.contains("grid")));
        let ragged: Launch<'_, ()> = Launch::new("add_bias", [1, 1], 100);
        assert!(ragged.excess().is_some_and(|excess| excess.contains("100 threads")));
    }

    #[test]
    fn tiles_of_attention_take_what_they_copy() {
        let heads = HeadLayout { heads: 2, kv_heads: 1, head_dim: 128 };
        let tiles = Tiles { list: PLACE, count: 3 };
        let forward = attention(AttentionKind::Tiled, PLACE, None, [PLACE; 3], tiles, [512, 512], heads);
        // 64 rows of 128 + 8 bf16 values, for keys and for values.
        assert_eq!((forward.kernel, forward.grid, forward.shared), ("attention_tiled_128", [3, 2], 2 * 64 * 136 * 2));
        let adjoint = attention_key_adjoint(AttentionKind::Tiled, PLACE, [PLACE; 4], tiles, heads);
        assert_eq!((adjoint.grid, adjoint.shared), ([3, 1], 4 * 64 * 136 * 2));
    }
}
