//! Weights, and the gradients and moments of those that are trained.

use std::rc::Rc;

use paddock_engine::backend::{WeightPart, check};
use paddock_engine::weights::{Encoding, dequantize};
use paddock_engine::{Error, Result};

use super::Cuda;
use super::driver::{Driver, Slice};
use super::formats::{Dtype, decode, encode};
use paddock_learn::optim::{DynamicMap, MOMENT_BLOCK, join, moment_blocks_of, split};

/// A matrix in the device's format of values, whatever its file had. Cloning clones the handle.
pub struct Weight<B>(Rc<Inner<B>>);

struct Inner<B> {
    label: String,
    shape: [usize; 2],
    parts: Vec<WeightPart>,
    buffer: B,
}

impl<B> Clone for Weight<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A weight as operations read it.
pub(super) struct Matrix<'a, B> {
    pub shape: [usize; 2],
    pub at: Slice<'a, B>,
}

// Derived, they would ask the same of the buffer.
impl<B> Clone for Matrix<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Matrix<'_, B> {}

impl<B> Weight<B> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.0.shape
    }

    pub(super) fn label(&self) -> &str {
        &self.0.label
    }

    pub(super) fn count(&self) -> usize {
        self.0.shape[0] * self.0.shape[1]
    }

    pub(super) fn at(&self) -> Slice<'_, B> {
        Slice::from(&self.0.buffer)
    }

    pub(super) fn matrix(&self) -> Matrix<'_, B> {
        Matrix { shape: self.0.shape, at: Slice::from(&self.0.buffer) }
    }
}

/// What an array of the optimiser holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Gradient,
    Moment,
    /// Codes on a dynamic map; the scales of their blocks lie behind them.
    Moment8 {
        signed: bool,
    },
}

/// A gradient or a moment, in its format.
pub struct Gradient<B> {
    shape: [usize; 2],
    pub(super) role: Role,
    buffer: B,
}

impl<B> Gradient<B> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(super) fn count(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    pub(super) fn at(&self) -> Slice<'_, B> {
        Slice::from(&self.buffer)
    }

    /// Where the scales of a moment in eight bits begin.
    pub(super) fn scales(&self) -> Slice<'_, B> {
        self.at().after(self.count().next_multiple_of(MOMENT_BLOCK))
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight<D::Buffer>> {
        for part in parts {
            check::row_bytes(label, cols, part)?;
        }
        let shape = [parts.iter().map(|part| part.rows).sum(), cols];
        let buffer = self.zeros(shape[0] * cols * self.values().bytes())?;
        Ok(Weight(Rc::new(Inner { label: label.to_string(), shape, parts: parts.to_vec(), buffer })))
    }

    pub(super) fn write_weight(&self, weight: &Weight<D::Buffer>, first_row: usize, bytes: &[u8]) -> Result<()> {
        let Inner { label, shape, parts, buffer } = &*weight.0;
        let (part, _, rows) = check::rows_of_part(label, shape[1], parts, first_row, bytes.len())?;
        let encoding = parts[part].encoding;
        let dtype = self.values();
        let at = Slice::from(buffer).after(first_row * shape[1] * dtype.bytes());
        if matches!((encoding, dtype), (Encoding::BF16, Dtype::Bf16) | (Encoding::F32, Dtype::F32)) {
            return self.driver().write(at, bytes);
        }
        let mut values = vec![0.0; rows * shape[1]];
        dequantize(encoding, bytes, &mut values)?;
        self.driver().write(at, &encode(&values, dtype))
    }

    /// Puts `values` at the row-major places of a weight from `first` on, rounded to nearest.
    pub(super) fn write_floats(&self, weight: &Weight<D::Buffer>, first: usize, values: &[f32]) -> Result<()> {
        within("write_values", weight.count(), first, values.len())?;
        let dtype = self.values();
        self.driver().write(weight.at().after(first * dtype.bytes()), &encode(values, dtype))
    }

    /// The values of a weight.
    pub(super) fn read_floats(&self, weight: &Weight<D::Buffer>) -> Result<Vec<f32>> {
        let dtype = self.values();
        Ok(decode(&self.read_bytes(weight.at(), weight.count() * dtype.bytes())?, dtype))
    }

    /// Writes a weight of bf16 and the lower bits of its master.
    pub(super) fn write_split(
        &self,
        weight: &Weight<D::Buffer>,
        low: &D::Buffer,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        within("write_master", weight.count(), first, values.len())?;
        let (high, rest): (Vec<_>, Vec<_>) = values.iter().map(|value| split(*value)).unzip();
        let high: Vec<u8> = high.iter().flat_map(|high| high.to_le_bytes()).collect();
        let rest: Vec<u8> = rest.iter().flat_map(|low| low.to_le_bytes()).collect();
        self.driver().write(weight.at().after(first * 2), &high)?;
        self.driver().write(Slice::from(low).after(first * 2), &rest)
    }

    /// The master of a weight of bf16.
    pub(super) fn read_split(&self, weight: &Weight<D::Buffer>, low: &D::Buffer) -> Result<Vec<f32>> {
        let high = self.read_bytes(weight.at(), weight.count() * 2)?;
        let low = self.read_bytes(low.into(), weight.count() * 2)?;
        let pairs = high.as_chunks().0.iter().zip(low.as_chunks().0);
        Ok(pairs.map(|(high, low)| join(half::bf16::from_le_bytes(*high), i16::from_le_bytes(*low))).collect())
    }

    /// New memory of zeros.
    pub(super) fn zeros(&self, bytes: usize) -> Result<D::Buffer> {
        let buffer = self.driver().alloc(bytes)?;
        self.driver().clear(Slice::from(&buffer), bytes)?;
        Ok(buffer)
    }

    /// The format of what a role holds.
    fn format(&self, role: Role) -> Dtype {
        match role {
            Role::Gradient => self.formats().gradients,
            Role::Moment | Role::Moment8 { .. } => self.formats().moments,
        }
    }

    /// Bytes of `count` values.
    fn bytes(&self, role: Role, count: usize) -> usize {
        match role {
            Role::Moment8 { .. } => count.next_multiple_of(MOMENT_BLOCK) + 4 * count.div_ceil(MOMENT_BLOCK),
            _ => count * self.format(role).bytes(),
        }
    }

    /// A gradient or a moment of zeros.
    pub(super) fn new_array(&self, label: &str, shape: [usize; 2], role: Role) -> Result<Gradient<D::Buffer>> {
        // As no format has more than four bytes, their number fits too.
        let count = shape[0].checked_mul(shape[1]).filter(|count| *count < usize::MAX / 8);
        let count = count.ok_or_else(|| Error::Unsupported(format!("{label}: {shape:?} is too large")))?;
        Ok(Gradient { shape, role, buffer: self.zeros(self.bytes(role, count))? })
    }

    /// Puts `values` at the places of an array from `first` on.
    pub(super) fn write_array(&self, array: &Gradient<D::Buffer>, first: usize, values: &[f32]) -> Result<()> {
        within("write", array.count(), first, values.len())?;
        if let Role::Moment8 { signed } = array.role {
            return self.write_moment8(array, signed, first, values);
        }
        let dtype = self.format(array.role);
        self.driver().write(array.at().after(first * dtype.bytes()), &encode(values, dtype))
    }

    /// Whole blocks, as the largest of a block is its scale.
    fn write_moment8(&self, array: &Gradient<D::Buffer>, signed: bool, first: usize, values: &[f32]) -> Result<()> {
        let blocks = moment_blocks_of(first..first + values.len());
        let places = blocks.start * MOMENT_BLOCK..(blocks.end * MOMENT_BLOCK).min(array.count());
        let (codes_at, scales_at) = (array.at().after(places.start), array.scales().after(4 * blocks.start));
        let mut codes = self.read_bytes(codes_at, places.len())?;
        let mut scales: Vec<f32> = bytemuck::pod_collect_to_vec(&self.read_bytes(scales_at, 4 * blocks.len())?);
        DynamicMap::of(signed).replace(&mut codes, &mut scales, first - places.start, values);
        self.driver().write(codes_at, &codes)?;
        self.driver().write(scales_at, bytemuck::cast_slice(&scales))
    }

    fn read_bytes(&self, from: Slice<'_, D::Buffer>, bytes: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; bytes];
        self.driver().read(from, &mut out)?;
        Ok(out)
    }

    /// The values of a gradient or a moment.
    pub(super) fn read_array(&self, array: &Gradient<D::Buffer>) -> Result<Vec<f32>> {
        if let Role::Moment8 { signed } = array.role {
            let codes = self.read_bytes(array.at(), array.count())?;
            let scales = self.read_bytes(array.scales(), 4 * array.count().div_ceil(MOMENT_BLOCK))?;
            return Ok(DynamicMap::of(signed).decode_blocks(&codes, &bytemuck::pod_collect_to_vec::<u8, f32>(&scales)));
        }
        let dtype = self.format(array.role);
        Ok(decode(&self.read_bytes(array.at(), array.count() * dtype.bytes())?, dtype))
    }

    /// Sets every value to 0.
    pub(super) fn clear_array(&self, array: &Gradient<D::Buffer>) -> Result<()> {
        self.driver().clear(array.at(), self.bytes(array.role, array.count()))
    }
}

fn within(op: &'static str, size: usize, first: usize, count: usize) -> Result<()> {
    if first.checked_add(count).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(Error::Shape { op, expected: format!("at most {size} values"), got: format!("{count} from {first} on") })
}
