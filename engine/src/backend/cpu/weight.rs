//! Matrices in memory, in their file's encoding.

use std::sync::Arc;

use paddock_kernels::PackedRows;

use super::Cpu;
use crate::backend::{Device, WeightPart, check};
use crate::{Error, Result};

/// A matrix `[output features, input features]`, or a vector `[1, n]`.
#[derive(Debug, Clone)]
pub struct Weight(pub(super) Arc<Matrix>);

/// What a [`Weight`] is a handle of.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) label: String,
    pub(super) shape: [usize; 2],
    /// The parts that the weight was made of, which are what rows are written to.
    pub(super) specs: Vec<WeightPart>,
    /// What lies in memory: neighbouring parts of the same encoding are one.
    pub(super) parts: Vec<PackedRows>,
}

pub(super) fn create(cpu: &Cpu, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
    let mut packed = Vec::with_capacity(parts.len());
    for parts in parts.chunk_by(|a, b| a.encoding == b.encoding) {
        let encoding = parts[0].encoding;
        check::row_bytes(label, cols, &parts[0])?;
        let rows = parts.iter().map(|part| part.rows).sum();
        packed.push(PackedRows::zeros(encoding, rows, cols).ok_or_else(|| Error::Device {
            device: cpu.device().name,
            problem: format!("not enough memory for {label}; choose a smaller model or a stronger quantisation"),
        })?);
    }
    let rows = parts.iter().map(|part| part.rows).sum();
    Ok(Weight(Arc::new(Matrix { label: label.to_string(), shape: [rows, cols], specs: parts.to_vec(), parts: packed })))
}

pub(super) fn write_rows(cpu: &Cpu, weight: &mut Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
    let label = weight.0.label.clone();
    let Some(matrix) = Arc::get_mut(&mut weight.0) else {
        return Err(Error::Device {
            device: cpu.device().name,
            problem: format!("{label} is in use already; write its rows before cloning it"),
        });
    };
    let cols = matrix.shape[1];
    let (spec, ..) = check::rows_of_part(&label, cols, &matrix.specs, first_row, bytes.len())?;
    let row_bytes = check::row_bytes(&label, cols, &matrix.specs[spec])?;
    if let Some((part, first)) = place_of(&matrix.parts, first_row) {
        matrix.parts[part].write(first, bytes, row_bytes);
    }
    Ok(())
}

/// The part that row `row` of a weight is in, and where in the part it is.
fn place_of(parts: &[PackedRows], row: usize) -> Option<(usize, usize)> {
    let mut first = 0;
    for (index, part) in parts.iter().enumerate() {
        if row < first + part.rows() {
            return Some((index, row - first));
        }
        first += part.rows();
    }
    None
}

impl Matrix {
    /// Row `row` as floats into `out`, which has a value for each column.
    pub(super) fn unpack_row(&self, cpu: &Cpu, row: usize, out: &mut [f32]) {
        if let Some((part, row)) = place_of(&self.parts, row) {
            self.parts[part].unpack(cpu.simd, row..row + 1, self.shape[1], out);
        }
    }

    /// The only row of a vector as floats.
    pub(super) fn vector(&self, cpu: &Cpu) -> Vec<f32> {
        let mut out = vec![0.0; self.shape[1]];
        self.unpack_row(cpu, 0, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::weights::Encoding;

    /// Blocks of every kind and their values, as gguf-py reads them.
    const BLOCKS: &[u8] = include_bytes!("../../../../tests/fixtures/gguf-blocks/expected.safetensors");

    fn fixture(name: &str) -> &'static [u8] {
        let (length, rest) = BLOCKS.split_at(8);
        let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let offset = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        &data[offset(0)..offset(1)]
    }

    fn unpack_all(encoding: Encoding, cols: usize, bytes: &[u8]) -> Vec<f32> {
        let cpu = Cpu::with_threads(1);
        let rows = bytes.len() / encoding.row_bytes(cols).unwrap();
        let mut weight = create(&cpu, "w", cols, &[WeightPart { rows, encoding }]).unwrap();
        write_rows(&cpu, &mut weight, 0, bytes).unwrap();
        let mut out = vec![0.0; rows * cols];
        for (row, out) in out.chunks_exact_mut(cols).enumerate() {
            weight.0.unpack_row(&cpu, row, out);
        }
        out
    }

    #[test]
    fn blocks_unpack_to_the_fixture_values() {
        use Encoding::*;
        for encoding in [F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K] {
            let bytes = fixture(&format!("{encoding:?}.bytes"));
            let expected = fixture(&format!("{encoding:?}.values"));
            let expected: Vec<f32> = expected.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
            // As rows of one block, and as two rows of twelve (the scales of a row lie together).
            for blocks in [1, 12] {
                let got = unpack_all(encoding, encoding.block_values() * blocks, bytes);
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    // Exactly, but for the sign of a zero.
                    assert_eq!(got, expected, "{encoding:?} value {i}");
                }
            }
        }
    }

    #[test]
    fn floats_need_not_fill_groups() {
        let values: Vec<f32> = (0..3 * 37).map(|i| i as f32 - 50.5).collect();
        assert_eq!(unpack_all(Encoding::F32, 37, bytemuck::cast_slice(&values)), values);
    }

    #[test]
    fn rows_of_parts_are_written_piece_by_piece() {
        let cpu = Cpu::with_threads(1);
        let parts = [WeightPart { rows: 2, encoding: Encoding::F32 }, WeightPart { rows: 2, encoding: Encoding::F16 }];
        let mut weight = create(&cpu, "w", 2, &parts).unwrap();
        let half = |v: f32| f16::from_f32(v).to_bits();
        write_rows(&cpu, &mut weight, 3, bytemuck::cast_slice(&[half(7.0), half(8.0)])).unwrap();
        write_rows(&cpu, &mut weight, 0, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0])).unwrap();
        write_rows(&cpu, &mut weight, 2, bytemuck::cast_slice(&[half(5.0), half(6.0)])).unwrap();
        let mut row = [0.0; 2];
        for expected in [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]].iter().enumerate() {
            weight.0.unpack_row(&cpu, expected.0, &mut row);
            assert_eq!(&row, expected.1);
        }
        assert!(write_rows(&cpu, &mut weight, 1, &[0; 16]).is_err(), "rows of two parts at once");
        let clone = weight.clone();
        assert!(write_rows(&cpu, &mut weight, 0, &[0; 8]).is_err(), "a weight in use");
        drop(clone);
    }

    #[test]
    fn quantised_rows_are_whole_blocks() {
        let part = WeightPart { rows: 1, encoding: Encoding::Q4_K };
        let error = create(&Cpu::with_threads(1), "blk", 320, &[part]).unwrap_err();
        assert!(error.to_string().contains("blk"), "{error}");
    }
}
