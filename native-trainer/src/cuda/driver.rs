//! What the backend needs of a device: memory, kernels, products. The GPU has one implementation of it; the tests have
//! another, which runs the same kernels on the processor.

use paddock_engine::Result;
use paddock_engine::backend::DeviceInfo;

use super::formats::{Dtype, Formats};
use super::launch::Launch;

/// A device with a compiled program. Calls are carried out in their order; only [`Driver::read`] waits for them.
pub trait Driver: Clone + 'static {
    /// Memory on the device, at least 256-byte aligned, freed when it is dropped.
    type Buffer;

    /// What the device is.
    fn info(&self) -> DeviceInfo;

    /// The formats that the program was compiled for.
    fn formats(&self) -> Formats;

    /// Memory whose contents are not defined.
    ///
    /// # Errors
    /// When there is not enough.
    fn alloc(&self, bytes: usize) -> Result<Self::Buffer>;

    /// Puts `bytes` there.
    ///
    /// # Errors
    /// When the device fails.
    fn write(&self, to: Slice<'_, Self::Buffer>, bytes: &[u8]) -> Result<()>;

    /// Brings bytes back, after everything that was asked for before.
    ///
    /// # Errors
    /// When the device fails, then or in what it did before.
    fn read(&self, from: Slice<'_, Self::Buffer>, bytes: &mut [u8]) -> Result<()>;

    /// Makes `bytes` bytes zero.
    ///
    /// # Errors
    /// When the device fails.
    fn clear(&self, at: Slice<'_, Self::Buffer>, bytes: usize) -> Result<()>;

    /// Copies `bytes` bytes on the device; the two do not overlap.
    ///
    /// # Errors
    /// When the device fails.
    fn copy(&self, from: Slice<'_, Self::Buffer>, to: Slice<'_, Self::Buffer>, bytes: usize) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// When the device refuses it.
    fn launch(&self, launch: &Launch<'_, Self::Buffer>) -> Result<()>;

    /// `out = a · b + add`.
    ///
    /// # Errors
    /// When the device refuses it.
    fn multiply(&self, product: &Product, operands: Operands<'_, Self::Buffer>) -> Result<()>;
}

/// A place in a buffer.
#[derive(Debug)]
pub struct Slice<'a, B> {
    /// The buffer.
    pub buffer: &'a B,
    /// Bytes from its beginning.
    pub offset: usize,
}

// Derived, they would ask the same of the buffer.
impl<B> Clone for Slice<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Slice<'_, B> {}

impl<'a, B> From<&'a B> for Slice<'a, B> {
    fn from(buffer: &'a B) -> Self {
        Self { buffer, offset: 0 }
    }
}

impl<B> Slice<'_, B> {
    /// The place `bytes` further on.
    pub fn after(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

/// A product of matrices that lie row by row: `[m, k] · [k, n]`, summed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Columns of the first operand, rows of the second.
    pub k: usize,
    /// Format of both operands.
    pub input: Dtype,
    /// Format of the result, and of what is added.
    pub output: Dtype,
    /// The first operand.
    pub a: Layout,
    /// The second operand.
    pub b: Layout,
    /// Values from a row of the result to the next; what is added has the same.
    pub out_stride: usize,
}

/// How an operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Whether the transposed matrix lies there.
    pub transposed: bool,
    /// Values from a row, as it lies there, to the next.
    pub stride: usize,
}

/// The places of a product's operands.
#[derive(Debug)]
pub struct Operands<'a, B> {
    /// The first.
    pub a: Slice<'a, B>,
    /// The second.
    pub b: Slice<'a, B>,
    /// What is added; it may be `out`.
    pub add: Option<Slice<'a, B>>,
    /// The result.
    pub out: Slice<'a, B>,
}

impl Product {
    /// `x · weightᵀ`: x `[tokens, cols]`, weight `[outputs, cols]`.
    pub fn linear(tokens: usize, outputs: usize, cols: usize, input: Dtype, output: Dtype) -> Self {
        let rows = |stride| Layout { transposed: false, stride };
        let b = Layout { transposed: true, stride: cols };
        Self { m: tokens, n: outputs, k: cols, input, output, a: rows(cols), b, out_stride: outputs }
    }

    /// `grad · weight`: grad `[tokens, outputs]`, weight `[outputs, cols]`.
    pub fn linear_adjoint(tokens: usize, outputs: usize, cols: usize, dtype: Dtype) -> Self {
        let rows = |stride| Layout { transposed: false, stride };
        let (a, b) = (rows(outputs), rows(cols));
        Self { m: tokens, n: cols, k: outputs, input: dtype, output: dtype, a, b, out_stride: cols }
    }

    /// `gradᵀ · x`: grad `[tokens, outputs]`, x `[tokens, cols]`.
    pub fn linear_weight_adjoint(tokens: usize, outputs: usize, cols: usize, input: Dtype, output: Dtype) -> Self {
        let a = Layout { transposed: true, stride: outputs };
        let b = Layout { transposed: false, stride: cols };
        Self { m: outputs, n: cols, k: tokens, input, output, a, b, out_stride: cols }
    }
}
