//! Safetensors files, written tensor by tensor.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use half::{bf16, f16};
use paddock_engine::weights::Encoding;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Result;

/// How the values of a tensor are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single.
    #[default]
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    Bf16,
}

impl Dtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The engine's name for it.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::F32 => Encoding::F32,
            Self::F16 => Encoding::F16,
            Self::Bf16 => Encoding::BF16,
        }
    }

    /// The dtype of an encoding; `None` for encodings that safetensors does not have.
    pub fn of(encoding: Encoding) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|dtype| dtype.encoding() == encoding)
    }

    /// PyTorch's name, as in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The name in the header of a safetensors file.
    fn header_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// `values` rounded to nearest, little endian.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; values.len() * self.bytes()];
        match self {
            Self::F32 => encode(values, &mut bytes, f32::to_le_bytes),
            Self::F16 => encode(values, &mut bytes, |value| f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => encode(values, &mut bytes, |value| bf16::from_f32(value).to_le_bytes()),
        }
        bytes
    }
}

fn encode<const N: usize>(values: &[f32], bytes: &mut [u8], encode: impl Fn(f32) -> [u8; N] + Sync) {
    const PIECE: usize = 1 << 16;
    bytes.par_chunks_mut(PIECE * N).zip(values.par_chunks(PIECE)).for_each(|(bytes, values)| {
        bytes.as_chunks_mut().0.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = encode(*value));
    });
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // PyTorch's and Trainer's names, too.
        match text {
            "f32" | "fp32" | "float32" => Ok(Self::F32),
            "f16" | "fp16" | "float16" | "half" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => Err(format!("\"{text}\" is not known; expected f32, f16 or bf16")),
        }
    }
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// How its values are written.
    pub dtype: Dtype,
}

impl TensorSpec {
    /// Bytes of its values in the file.
    pub fn bytes(&self) -> usize {
        self.dtype.bytes() * self.shape.iter().product::<usize>()
    }
}

/// The header of a file that holds `entries` one after the other.
pub(super) fn header(entries: &[TensorSpec]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_string(), json!({ "format": "pt" }));
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        let described =
            json!({ "dtype": entry.dtype.header_name(), "shape": entry.shape, "data_offsets": [offset, end] });
        header.insert(entry.name.clone(), described);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header].concat()
}

/// Writes `entries`; `values` returns the values of each by its index. Only one tensor is in memory at a time.
///
/// # Errors
/// When the file cannot be written, or `values` fails.
pub fn write_safetensors(
    file: &mut impl Write,
    entries: &[TensorSpec],
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    file.write_all(&header(entries))?;
    for (index, entry) in entries.iter().enumerate() {
        file.write_all(&entry.dtype.encode(&values(index)?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype as Known, SafeTensors};

    use super::*;

    #[test]
    fn every_dtype_is_read_back_by_the_reference_crate() {
        let values = [1.0f32, -2.5, 0.333_333_34, 65504.0];
        let all = [(Dtype::F32, Known::F32), (Dtype::F16, Known::F16), (Dtype::Bf16, Known::BF16)];
        for (dtype, known) in all {
            let mut file = Vec::new();
            let entry = TensorSpec { name: "x".to_string(), shape: vec![2, 2], dtype };
            write_safetensors(&mut file, &[entry], |_| Ok(values.to_vec())).unwrap();
            let read = SafeTensors::deserialize(&file).unwrap();
            let tensor = read.tensor("x").unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (known, &[2, 2][..]));
            assert_eq!(tensor.data().len(), 4 * dtype.bytes());
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        // 1/3 rounded to 8 bits of mantissa: 0.333984375.
        assert_eq!(Dtype::Bf16.encode(&values)[4..6], [0xab, 0x3e]);
        assert!("f64".parse::<Dtype>().is_err());
    }
}
