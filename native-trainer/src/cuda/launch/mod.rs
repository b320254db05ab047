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
