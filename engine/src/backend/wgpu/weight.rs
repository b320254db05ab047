//! Weights as they lie on the device: which encoding, how many buffers.

use std::rc::Rc;

use super::buffers::{Buffer, Purpose};
use super::context::{Context, Wgpu};
use super::encoding::WeightEncoding;
use super::repack::{BLOCK, repack};
use crate::backend::{WeightPart, check};
use crate::weights::Encoding;
use crate::{Error, Result};

/// Rows of a weight that share a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WeightPiece {
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) quant_bytes: u64,
    pub(super) scale_bytes: u64,
}

/// How a weight lies on the device. [`layout`] alone decides it, for loading and for the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WeightLayout {
    pub(super) encoding: WeightEncoding,
    pub(super) pieces: Vec<WeightPiece>,
}

/// The encoding is the widest of the parts'; vectors are f32. Rows are cut into pieces that `max_binding` takes.
pub(super) fn layout(label: &str, cols: usize, parts: &[WeightPart], max_binding: u64) -> Result<WeightLayout> {
    let rows: usize = parts.iter().map(|part| part.rows).sum();
    let mut encoding = parts
        .iter()
        .map(|part| WeightEncoding::of(part.encoding))
        .reduce(WeightEncoding::widest)
        .unwrap_or(WeightEncoding::F32);
    for part in parts {
        check::row_bytes(label, cols, part)?;
    }
    if rows == 1 || !cols.is_multiple_of(encoding.chunk()) {
        encoding = WeightEncoding::F32;
    }
    if rows > 1 && !cols.is_multiple_of(encoding.chunk()) {
        return Err(Error::Unsupported(format!(
            "{label}: rows of {cols} values cannot run on the GPU, which takes multiples of 4; use the CPU"
        )));
    }
    let quant_row = match encoding {
        WeightEncoding::F32 => cols * 4,
        WeightEncoding::F16 | WeightEncoding::BF16 => cols * 2,
        WeightEncoding::Q8 => cols,
        WeightEncoding::Q4 => cols / 2,
    } as u64;
    let scale_row =
        if matches!(encoding, WeightEncoding::Q8 | WeightEncoding::Q4) { cols / BLOCK * 4 } else { 0 } as u64;
    let most = (max_binding / quant_row.max(scale_row).max(1)) as usize;
    if most == 0 {
        return Err(Error::Unsupported(format!("{label}: a row of {cols} values is more than the GPU can bind")));
    }
    let pieces = (0..rows)
        .step_by(most)
        .map(|first| {
            let rows = most.min(rows - first);
            WeightPiece { first, rows, quant_bytes: quant_row * rows as u64, scale_bytes: scale_row * rows as u64 }
        })
        .collect();
    Ok(WeightLayout { encoding, pieces })
}

/// A weight on the device. Cloning clones the handle.
#[derive(Clone)]
pub struct Weight(Rc<Inner>);

struct Inner {
    label: String,
    shape: [usize; 2],
    parts: Vec<WeightPart>,
    layout: WeightLayout,
    /// Quants and scales of each piece.
    buffers: Vec<(Buffer, Buffer)>,
}

impl Weight {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.0.shape
    }

    /// The encoding on the device.
    pub fn encoding(&self) -> WeightEncoding {
        self.0.layout.encoding
    }

    /// Chunks of a row.
    pub(super) fn chunks(&self) -> u32 {
        (self.0.shape[1] / self.encoding().chunk()) as u32
    }

    /// Each piece with its quants and its scales.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&WeightPiece, &Buffer, &Buffer)> {
        self.0.layout.pieces.iter().zip(&self.0.buffers).map(|(piece, (quants, scales))| (piece, quants, scales))
    }

    /// The one buffer of a vector or of a weight that is not cut.
    pub(super) fn whole(&self) -> Option<&Buffer> {
        match self.0.buffers.as_slice() {
            [(quants, _)] => Some(quants),
            _ => None,
        }
    }
}

pub(super) fn create_weight(gpu: &Wgpu, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
    let context = &*gpu.0;
    let layout = layout(label, cols, parts, context.max_binding)?;
    let buffers = layout.pieces.iter().map(|piece| {
        let create = |bytes| context.pool.create(&context.device, label, bytes, Purpose::Weights);
        let scales = if piece.scale_bytes > 0 { create(piece.scale_bytes) } else { context.zero() };
        (create(piece.quant_bytes), scales)
    });
    let buffers = buffers.collect();
    context.fault.check()?;
    let shape = [parts.iter().map(|part| part.rows).sum(), cols];
    Ok(Weight(Rc::new(Inner { label: label.into(), shape, parts: parts.to_vec(), layout, buffers })))
}

pub(super) fn write_rows(gpu: &Wgpu, weight: &Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
    let Inner { label, shape, parts, .. } = &*weight.0;
    let (part, _, rows) = check::rows_of_part(label, shape[1], parts, first_row, bytes.len())?;
    if rows == 0 {
        return Ok(());
    }
    let row_bytes = bytes.len() / rows;
    for (piece, quants, scales) in weight.pieces() {
        let first = first_row.max(piece.first);
        let end = (first_row + rows).min(piece.first + piece.rows);
        if first < end {
            let bytes = &bytes[(first - first_row) * row_bytes..(end - first_row) * row_bytes];
            let at = (first - piece.first) as u64;
            write_piece(&gpu.0, parts[part].encoding, weight.encoding(), bytes, |bytes, is_scales| {
                let (buffer, total) = if is_scales { (scales, piece.scale_bytes) } else { (quants, piece.quant_bytes) };
                gpu.0.write(buffer, at * total / piece.rows as u64, bytes)
            })?;
        }
    }
    Ok(())
}

/// Converts and writes rows; what needs no conversion is not copied.
fn write_piece(
    context: &Context,
    encoding: Encoding,
    to: WeightEncoding,
    bytes: &[u8],
    mut write: impl FnMut(&[u8], bool) -> Result<()>,
) -> Result<()> {
    if to == WeightEncoding::of(encoding) && !encoding.is_quantized() && bytes.len().is_multiple_of(4) {
        return write(bytes, false);
    }
    let packed = repack(encoding, to, bytes)?;
    write(&packed.quants, false)?;
    if !packed.scales.is_empty() {
        write(&packed.scales, true)?;
    }
    context.fault.check()
}
