//! Activations and token ids on the device.

use std::cell::RefCell;
use std::rc::Rc;

use paddock_engine::{Error, Result};

use super::driver::{Driver, Slice};
use super::formats::{Dtype, decode, encode};
use super::{Cuda, launch};

/// A matrix of activations. Cloning clones the handle.
///
/// What the host brings (frequencies, seeds of gradients) and what it reads as numbers (log-probabilities) is f32; the
/// results of all other operations have the device's format of values.
pub struct Tensor<B>(Rc<Inner<B>>);

struct Inner<B> {
    shape: [usize; 2],
    dtype: Dtype,
    buffer: B,
    attended: RefCell<Option<Attended<B>>>,
}

/// What attention on fused rows gave, which its adjoint needs again: it stays with the rows for as long as they live.
pub(super) struct Attended<B> {
    /// `[rows, q_dim]`.
    pub out: Tensor<B>,
    /// The logarithm of the sum of exp(score): `[rows, heads]` f32.
    pub lse: Rc<B>,
}

impl<B> Clone for Attended<B> {
    fn clone(&self) -> Self {
        Self { out: self.out.clone(), lse: self.lse.clone() }
    }
}

impl<B> Clone for Tensor<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Tensor<B> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.0.shape
    }

    /// Format of its values.
    pub fn dtype(&self) -> Dtype {
        self.0.dtype
    }

    pub(super) fn at(&self) -> Slice<'_, B> {
        Slice::from(&self.0.buffer)
    }

    /// The place of row `row`.
    pub(super) fn row(&self, row: usize) -> Slice<'_, B> {
        self.at().after(row * self.0.shape[1] * self.0.dtype.bytes())
    }

    /// Number of values.
    pub(super) fn count(&self) -> u64 {
        self.0.shape[0] as u64 * self.0.shape[1] as u64
    }

    /// Whether no other handle is held.
    pub(super) fn is_unshared(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    pub(super) fn attended(&self) -> Option<Attended<B>> {
        self.0.attended.borrow().clone()
    }

    pub(super) fn set_attended(&self, attended: Attended<B>) {
        *self.0.attended.borrow_mut() = Some(attended);
    }
}

/// Token ids. Cloning clones the handle.
pub struct Tokens<B>(Rc<TokensInner<B>>);

struct TokensInner<B> {
    buffer: B,
    len: usize,
    /// As the host brought them; `None` for those that the device chose.
    ids: Option<Vec<u32>>,
}

impl<B> Clone for Tokens<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Tokens<B> {
    pub(super) fn new(buffer: B, len: usize, ids: Option<Vec<u32>>) -> Self {
        Self(Rc::new(TokensInner { buffer, len, ids }))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len
    }

    pub(super) fn at(&self) -> Slice<'_, B> {
        Slice::from(&self.0.buffer)
    }

    /// The ids, when the host brought them.
    pub(super) fn ids(&self, op: &'static str) -> Result<&[u32]> {
        self.0.ids.as_deref().ok_or_else(|| Error::Shape {
            op,
            expected: "tokens from the host".to_string(),
            got: "a token that the device chose".to_string(),
        })
    }
}

impl<D: Driver> Cuda<D> {
    /// A matrix with undefined contents.
    pub(super) fn take(&self, shape: [usize; 2], dtype: Dtype) -> Result<Tensor<D::Buffer>> {
        if shape.iter().any(|size| *size > i32::MAX as usize) {
            return Err(Error::Unsupported(format!("a matrix {shape:?} is too large for the GPU")));
        }
        let buffer = self.driver().alloc(shape[0] * shape[1] * dtype.bytes())?;
        Ok(Tensor(Rc::new(Inner { shape, dtype, buffer, attended: RefCell::default() })))
    }

    /// A result with undefined contents.
    pub(super) fn result(&self, shape: [usize; 2]) -> Result<Tensor<D::Buffer>> {
        self.take(shape, self.values())
    }

    pub(super) fn upload_tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Tensor<D::Buffer>> {
        if shape[0].checked_mul(shape[1]) != Some(values.len()) {
            return Err(Error::Shape {
                op: "tensor",
                expected: format!("the values of a matrix {shape:?}"),
                got: format!("{} values", values.len()),
            });
        }
        let tensor = self.take(shape, Dtype::F32)?;
        self.driver().write(tensor.at(), &encode(values, Dtype::F32))?;
        Ok(tensor)
    }

    pub(super) fn download(&self, x: &Tensor<D::Buffer>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; x.count() as usize * x.dtype().bytes()];
        self.driver().read(x.at(), &mut bytes)?;
        Ok(decode(&bytes, x.dtype()))
    }

    /// `x` in the format of values.
    pub(super) fn narrowed(&self, x: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        if x.dtype() == self.values() {
            return Ok(x.clone());
        }
        let out = self.result(x.shape())?;
        self.launch(launch::narrow(out.at(), x.at(), x.count()))?;
        Ok(out)
    }

    /// `x` in f32.
    pub(super) fn widened(&self, x: &Tensor<D::Buffer>) -> Result<Tensor<D::Buffer>> {
        if x.dtype() == Dtype::F32 {
            return Ok(x.clone());
        }
        let out = self.take(x.shape(), Dtype::F32)?;
        self.launch(launch::widen(out.at(), x.at(), x.count()))?;
        Ok(out)
    }
}
