//! Weights of a model that runs, and parameters of one that learns.

use std::rc::Rc;

use paddock_engine::backend::{WeightPart, check};
use paddock_engine::weights::{Encoding, dequantize};
use paddock_engine::{Error, Result};

use super::Cuda;
use super::driver::{Driver, Slice};
use super::formats::{Dtype, decode, encode};
use paddock_learn::optim::{DynamicMap, MOMENT_BLOCK, Precision, join, moment_blocks_of, split};

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

/// A matrix that operations read: of a weight or of a parameter.
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
    pub(super) fn matrix(&self) -> Matrix<'_, B> {
        Matrix { shape: self.0.shape, at: Slice::from(&self.0.buffer) }
    }
}

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    Gradient,
    Moment,
    /// Codes on a dynamic map; the scales of their blocks lie behind them.
    Moment8 {
        signed: bool,
    },
}

/// A trained matrix, a gradient or a moment, each in its format.
pub struct Param<B> {
    shape: [usize; 2],
    pub(super) role: Role,
    buffer: B,
    /// The lower bits of a split parameter.
    rest: Option<B>,
}

impl<B> Param<B> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(super) fn count(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    pub(super) fn matrix(&self) -> Matrix<'_, B> {
        Matrix { shape: self.shape, at: self.at() }
    }

    pub(super) fn at(&self) -> Slice<'_, B> {
        Slice::from(&self.buffer)
    }

    /// Where the scales of a moment in eight bits begin.
    pub(super) fn scales(&self) -> Slice<'_, B> {
        self.at().after(self.count().next_multiple_of(MOMENT_BLOCK))
    }

    pub(super) fn rest(&self) -> Option<Slice<'_, B>> {
        self.rest.as_ref().map(Slice::from)
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn new_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight<D::Buffer>> {
        for part in parts {
            check::row_bytes(label, cols, part)?;
        }
        let shape = [parts.iter().map(|part| part.rows).sum(), cols];
        let buffer = self.driver().alloc(shape[0] * cols * self.values().bytes())?;
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

    /// The format of what a role holds.
    fn format(&self, role: Role) -> Dtype {
        match role {
            Role::Value => self.formats().values,
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

    /// A parameter: in f32, or in bf16 with 16 further bits unless its steps are rounded by chance.
    pub(super) fn new_value(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Param<D::Buffer>> {
        let is_split = match (self.values(), precision) {
            (Dtype::F32, Precision::F32) | (Dtype::Bf16, Precision::Bf16Stochastic) => false,
            (Dtype::Bf16, Precision::F32 | Precision::Bf16Split) => true,
            (Dtype::F32, Precision::Bf16Stochastic | Precision::Bf16Split) | (_, Precision::Dynamic8 { .. }) => {
                return Err(Error::Unsupported(format!("{label}: bf16 weights need a device that computes in bf16")));
            }
        };
        let mut param = self.new_param(label, shape, Role::Value)?;
        if is_split {
            param.rest = Some(self.zeros(2 * param.count())?);
        }
        Ok(param)
    }

    fn zeros(&self, bytes: usize) -> Result<D::Buffer> {
        let buffer = self.driver().alloc(bytes)?;
        self.driver().clear(Slice::from(&buffer), bytes)?;
        Ok(buffer)
    }

    pub(super) fn new_param(&self, label: &str, shape: [usize; 2], role: Role) -> Result<Param<D::Buffer>> {
        // As no format has more than four bytes, their number fits too.
        let count = shape[0].checked_mul(shape[1]).filter(|count| *count < usize::MAX / 8);
        let count = count.ok_or_else(|| Error::Unsupported(format!("{label}: {shape:?} is too large")))?;
        Ok(Param { shape, role, buffer: self.zeros(self.bytes(role, count))?, rest: None })
    }

    pub(super) fn write_values(&self, param: &Param<D::Buffer>, first: usize, values: &[f32]) -> Result<()> {
        if first.checked_add(values.len()).is_none_or(|end| end > param.count()) {
            return Err(Error::Shape {
                op: "write_param",
                expected: format!("at most {} values", param.count()),
                got: format!("{} from {first} on", values.len()),
            });
        }
        if let Role::Moment8 { signed } = param.role {
            return self.write_moment8(param, signed, first, values);
        }
        let dtype = self.format(param.role);
        let at = param.at().after(first * dtype.bytes());
        let Some(rest) = param.rest() else {
            return self.driver().write(at, &encode(values, dtype));
        };
        let (high, low): (Vec<_>, Vec<_>) = values.iter().map(|value| split(*value)).unzip();
        let high: Vec<u8> = high.iter().flat_map(|high| high.to_le_bytes()).collect();
        let low: Vec<u8> = low.iter().flat_map(|low| low.to_le_bytes()).collect();
        self.driver().write(at, &high)?;
        self.driver().write(rest.after(first * 2), &low)
    }

    /// Whole blocks, as the largest of a block is its scale.
    fn write_moment8(&self, param: &Param<D::Buffer>, signed: bool, first: usize, values: &[f32]) -> Result<()> {
        let blocks = moment_blocks_of(first..first + values.len());
        let places = blocks.start * MOMENT_BLOCK..(blocks.end * MOMENT_BLOCK).min(param.count());
        let (codes_at, scales_at) = (param.at().after(places.start), param.scales().after(4 * blocks.start));
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

    /// The values that operations compute with.
    pub(super) fn read_values(&self, param: &Param<D::Buffer>) -> Result<Vec<f32>> {
        if let Role::Moment8 { signed } = param.role {
            let codes = self.read_bytes(param.at(), param.count())?;
            let scales = self.read_bytes(param.scales(), 4 * param.count().div_ceil(MOMENT_BLOCK))?;
            return Ok(DynamicMap::of(signed).decode_blocks(&codes, &bytemuck::pod_collect_to_vec::<u8, f32>(&scales)));
        }
        let dtype = self.format(param.role);
        Ok(decode(&self.read_bytes(param.at(), param.count() * dtype.bytes())?, dtype))
    }

    /// The exact values of a split parameter.
    pub(super) fn read_exact(&self, param: &Param<D::Buffer>) -> Result<Option<Vec<f32>>> {
        let Some(rest) = param.rest() else { return Ok(None) };
        let high = self.read_bytes(param.at(), param.count() * 2)?;
        let low = self.read_bytes(rest, param.count() * 2)?;
        let pairs = high.as_chunks().0.iter().zip(low.as_chunks().0);
        Ok(Some(pairs.map(|(high, low)| join(half::bf16::from_le_bytes(*high), i16::from_le_bytes(*low))).collect()))
    }

    pub(super) fn clear_values(&self, param: &Param<D::Buffer>) -> Result<()> {
        self.driver().clear(param.at(), self.bytes(param.role, param.count()))?;
        param.rest().map_or(Ok(()), |rest| self.driver().clear(rest, param.count() * 2))
    }
}
