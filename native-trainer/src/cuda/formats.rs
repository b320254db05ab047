//! Number formats of a run: what a parameter costs, and what it can learn.

use std::fmt;

use half::bf16;
use rayon::prelude::*;

/// A number format on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// Brain float.
    Bf16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl Dtype {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// The formats of a device: one program is compiled for them. Sums are always made in f32. How a parameter is held
/// exactly is its [`paddock_learn::optim::Precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Formats {
    /// Activations, and parameters as products take them.
    pub values: Dtype,
    /// Gradients of parameters.
    pub gradients: Dtype,
    /// Moments of the optimiser that are not in eight bits.
    pub moments: Dtype,
}

impl Formats {
    /// f32 throughout.
    pub const F32: Self = Self { values: Dtype::F32, gradients: Dtype::F32, moments: Dtype::F32 };
    /// bf16 products; what adds up over steps is f32.
    pub const BF16: Self = Self { values: Dtype::Bf16, gradients: Dtype::F32, moments: Dtype::F32 };
    /// bf16 throughout: with stochastic rounding 8 bytes a parameter, so that 7 billion fit a card of 80 GB.
    pub const LEAN: Self = Self { values: Dtype::Bf16, gradients: Dtype::Bf16, moments: Dtype::Bf16 };
}

/// Values as bytes of `dtype`. Whatever CUDA runs on is little endian.
pub(super) fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => bytemuck::cast_slice(values).to_vec(),
        Dtype::Bf16 => {
            let words: Vec<u16> = values.par_iter().map(|value| bf16::from_f32(*value).to_bits()).collect();
            bytemuck::cast_slice(&words).to_vec()
        }
    }
}

/// Bytes of `dtype` as values.
pub(super) fn decode(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytemuck::pod_collect_to_vec(bytes),
        Dtype::Bf16 => {
            let widen = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            bytes.as_chunks().0.par_iter().map(widen).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_their_format() {
        let values = [0.0, -1.5, 3.0e38, f32::INFINITY];
        assert_eq!(decode(&encode(&values, Dtype::F32), Dtype::F32), values);
        assert_eq!(decode(&encode(&[1.0, -1.5, 1.0 + 1.0 / 256.0], Dtype::Bf16), Dtype::Bf16), [1.0, -1.5, 1.0]);
    }
}
