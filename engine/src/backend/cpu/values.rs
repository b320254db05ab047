//! What a caller may see and change of a weight: its shape, its rows as floats, and in place what an optimiser updates.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;
use paddock_kernels::GROUP;

use super::{Cpu, Weight};
use crate::backend::{WeightPart, check};
use crate::weights::Encoding;
use crate::{Error, Result};

/// The values of a weight of floats, row by row; rows are [`Weight::stride`] apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// All rows are f32.
    F32(&'a [f32]),
    /// All rows are bf16.
    Bf16(&'a [bf16]),
}

/// [`Values`] that can be changed in place. What lies between a row's last column and the next row must stay 0.
#[derive(Debug, PartialEq)]
pub enum ValuesMut<'a> {
    /// All rows are f32.
    F32(&'a mut [f32]),
    /// All rows are bf16.
    Bf16(&'a mut [bf16]),
}

impl Weight {
    /// Rows (output features) and columns (input features).
    pub fn shape(&self) -> [usize; 2] {
        self.0.shape
    }

    /// The name that messages call it by.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The parts that it was made of, in the order of their rows.
    pub fn parts(&self) -> &[WeightPart] {
        &self.0.specs
    }

    /// Values from one row to the next in [`Self::values`] and [`Self::values_mut`]: the columns, filled up with zeros
    /// to a multiple of 32.
    pub fn stride(&self) -> usize {
        self.0.shape[1].next_multiple_of(GROUP)
    }

    /// The values of a weight whose parts are all f32, or all bf16, without copying: `rows · stride` of them. `None` for
    /// other encodings, whose values [`Self::read_rows`] gives.
    pub fn values(&self) -> Option<Values<'_>> {
        match &self.0.parts[..] {
            [part] if part.encoding() == Encoding::F32 => Some(Values::F32(bytemuck::cast_slice(part.words()))),
            [part] if part.encoding() == Encoding::BF16 => Some(Values::Bf16(bytemuck::cast_slice(part.words()))),
            _ => None,
        }
    }

    /// The values of a weight whose parts are all f32, or all bf16, to be changed in place.
    ///
    /// # Errors
    /// When the weight has another encoding, or another handle of it exists.
    pub fn values_mut(&mut self) -> Result<ValuesMut<'_>> {
        let label = self.0.label.clone();
        let Some(matrix) = Arc::get_mut(&mut self.0) else {
            return Err(Error::Unsupported(format!("{label} cannot be updated while it is shared; drop its clones")));
        };
        if let [part] = &mut matrix.parts[..] {
            match part.encoding() {
                Encoding::F32 => return Ok(ValuesMut::F32(bytemuck::cast_slice_mut(part.words_mut()))),
                Encoding::BF16 => return Ok(ValuesMut::Bf16(bytemuck::cast_slice_mut(part.words_mut()))),
                _ => {}
            }
        }
        Err(Error::Unsupported(format!(
            "{label} cannot be updated: its rows are neither all f32 nor all bf16; load it unquantised"
        )))
    }

    /// Rows of a weight in any encoding as f32 into `out`, `[rows, columns]` row by row.
    ///
    /// # Errors
    /// When there are no such rows, or `out` is not as large as they are.
    pub fn read_rows(&self, cpu: &Cpu, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let [count, cols] = self.0.shape;
        if rows.end > count || rows.start > rows.end {
            return Err(Error::Shape {
                op: "read_rows",
                expected: format!("rows below {count} of {}", self.0.label),
                got: format!("rows {} to {}", rows.start, rows.end),
            });
        }
        check::shape("read_rows", "room for", [1, out.len()], [1, rows.len() * cols])?;
        let (mut first, mut out) = (0, out);
        for part in &self.0.parts {
            let within = rows.start.max(first)..rows.end.min(first + part.rows());
            if !within.is_empty() {
                let (now, rest) = out.split_at_mut(within.len() * cols);
                part.unpack(cpu.simd, within.start - first..within.end - first, cols, now);
                out = rest;
            }
            first += part.rows();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::testing::{numbers, quantised, weight};
    use crate::backend::{Device, Operations};

    #[test]
    fn what_is_changed_in_place_is_what_products_see() {
        let cpu = Cpu::with_threads(1);
        let parts = [2, 1].map(|rows| WeightPart { rows, encoding: Encoding::F32 });
        let mut fused = cpu.create_weight("qkv", 3, &parts).unwrap();
        cpu.write_rows(&mut fused, 2, bytemuck::cast_slice(&[7.0f32, 8.0, 9.0])).unwrap();
        let stride = fused.stride();
        assert_eq!((fused.label(), fused.shape(), stride, fused.parts()), ("qkv", [3, 3], 32, &parts[..]));
        let Ok(ValuesMut::F32(values)) = fused.values_mut() else { panic!("parts of one encoding are one matrix") };
        assert_eq!((values.len(), &values[2 * stride..][..4]), (3 * stride, &[7.0, 8.0, 9.0, 0.0][..]));
        values[stride..][..3].copy_from_slice(&[1.0, 2.0, 3.0]);
        assert!(matches!(fused.values(), Some(Values::F32(values)) if values[stride..][..3] == [1.0, 2.0, 3.0]));
        let x = cpu.tensor([1, 3], &[1.0, 10.0, 100.0]).unwrap();
        assert_eq!(cpu.linear(&x, &fused, None).unwrap().values(), [0.0, 321.0, 987.0]);
    }

    #[test]
    fn brain_floats_are_changed_in_place() {
        let cpu = Cpu::with_threads(1);
        let mut brains = quantised(&cpu, Encoding::BF16, 2, 32, 1);
        let Ok(ValuesMut::Bf16(values)) = brains.values_mut() else { panic!("bf16 can be updated") };
        values[32..].fill(bf16::from_f32(-0.5));
        let mut row = [0.0; 32];
        brains.read_rows(&cpu, 1..2, &mut row).unwrap();
        assert_eq!(row, [-0.5; 32]);
        assert!(matches!(brains.values(), Some(Values::Bf16(values)) if values[32] == bf16::from_f32(-0.5)));
    }

    #[test]
    fn what_is_shared_or_packed_is_not_changed() {
        let cpu = Cpu::with_threads(1);
        let mut shared = weight(&cpu, [1, 2], &[1.0, 2.0]);
        let clone = shared.clone();
        assert!(shared.values_mut().is_err());
        drop(clone);
        assert!(shared.values_mut().is_ok());
        let mut packed = quantised(&cpu, Encoding::Q4_K, 1, 256, 1);
        assert_eq!(packed.values(), None);
        assert!(packed.values_mut().unwrap_err().to_string().contains('w'));
    }

    #[test]
    fn rows_are_read_across_parts() {
        let cpu = Cpu::with_threads(1);
        let parts = [Encoding::F32, Encoding::BF16].map(|encoding| WeightPart { rows: 2, encoding });
        let mut mixed = cpu.create_weight("w", 2, &parts).unwrap();
        cpu.write_rows(&mut mixed, 0, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0])).unwrap();
        cpu.write_rows(&mut mixed, 2, bytemuck::cast_slice(&[5.0, 6.0, 7.0, 8.0].map(bf16::from_f32))).unwrap();
        let mut out = [0.0; 6];
        mixed.read_rows(&cpu, 1..4, &mut out).unwrap();
        assert_eq!(out, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(mixed.values(), None);
        assert!(mixed.read_rows(&cpu, 1..3, &mut out).is_err(), "room for three rows");
        assert!(mixed.read_rows(&cpu, 2..5, &mut out).is_err(), "four rows");
        assert!(mixed.read_rows(&cpu, 2..2, &mut []).is_ok(), "no rows");
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = 3..2;
        assert!(mixed.read_rows(&cpu, backwards, &mut []).is_err());
    }

    #[test]
    fn rows_of_every_encoding_are_those_that_embed_gives() {
        let cpu = Cpu::with_threads(1);
        for encoding in [Encoding::F32, Encoding::F16, Encoding::Q8_0, Encoding::Q5_1, Encoding::Q6_K] {
            let table = quantised(&cpu, encoding, 4, 256, 3);
            let mut out = numbers(2 * 256, 1);
            table.read_rows(&cpu, 1..3, &mut out).unwrap();
            let expected = cpu.embed(&table, &cpu.tokens(&[1, 2]).unwrap()).unwrap();
            assert_eq!(out, expected.values(), "{encoding:?}");
        }
    }
}
