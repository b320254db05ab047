//! Operands for the tests of the operations.

use half::{bf16, f16};

use super::{Cpu, Weight};
use crate::backend::{Device, WeightPart, sampling_noise};
use crate::weights::Encoding;

/// `count` numbers in (-1, 1).
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count).map(|i| 2.0 * sampling_noise(seed, 0, i as u32) - 1.0).collect()
}

/// An f32 weight.
pub(super) fn weight(cpu: &Cpu, [rows, cols]: [usize; 2], values: &[f32]) -> Weight {
    written(cpu, Encoding::F32, rows, cols, bytemuck::cast_slice(values))
}

/// A weight of random blocks whose scales are sane.
pub(super) fn quantised(cpu: &Cpu, encoding: Encoding, rows: usize, cols: usize, seed: u32) -> Weight {
    let values = numbers(rows * cols, seed);
    let bytes: Vec<u8> = match encoding {
        Encoding::F32 => bytemuck::cast_slice(&values).to_vec(),
        Encoding::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Encoding::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => {
            let mut bytes: Vec<u8> = (0..rows * encoding.row_bytes(cols).unwrap())
                .map(|i| (sampling_noise(seed, 1, i as u32) * 256.0) as u8)
                .collect();
            for (block, values) in bytes.chunks_exact_mut(encoding.block_bytes()).zip(values.chunks_exact(2)) {
                let start = if encoding == Encoding::Q6_K { 208 } else { 0 };
                block[start..start + 2].copy_from_slice(&f16::from_f32(values[0] / 100.0).to_le_bytes());
                if !matches!(encoding, Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q5_0 | Encoding::Q6_K) {
                    block[2..4].copy_from_slice(&f16::from_f32(values[1] / 10.0).to_le_bytes());
                }
            }
            bytes
        }
    };
    written(cpu, encoding, rows, cols, &bytes)
}

fn written(cpu: &Cpu, encoding: Encoding, rows: usize, cols: usize, bytes: &[u8]) -> Weight {
    let mut weight = cpu.create_weight("w", cols, &[WeightPart { rows, encoding }]).unwrap();
    cpu.write_rows(&mut weight, 0, bytes).unwrap();
    weight
}
