//! Products, tables and operations on rows.

use paddock_engine::Result;
use paddock_engine::backend::{Device, Operations, WeightPart, Wgpu};
use paddock_engine::weights::Encoding;

use super::{TOLERANCE, close, doubles, f32_weight, noise, read, weight};

/// A row of blocks and what they mean: (encoding, bytes, values).
pub(super) fn encoded(encoding: Encoding, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let half = |value: f32| half::f16::from_f32(value);
    let mut bytes = Vec::new();
    let mut meaning = Vec::new();
    match encoding {
        Encoding::F32 => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            meaning.extend(values);
        }
        Encoding::F16 => {
            for value in values {
                bytes.extend(half(*value).to_le_bytes());
                meaning.push(half(*value).to_f32());
            }
        }
        Encoding::BF16 => {
            for value in values {
                let held = half::bf16::from_f32(*value);
                bytes.extend(held.to_le_bytes());
                meaning.push(held.to_f32());
            }
        }
        Encoding::Q8_0 => {
            for block in values.chunks(32) {
                let scale = half(1.0 / 127.0);
                bytes.extend(scale.to_le_bytes());
                for value in block {
                    let quant = (value * 127.0).round() as i8;
                    bytes.push(quant as u8);
                    meaning.push(scale.to_f32() * f32::from(quant));
                }
            }
        }
        Encoding::Q4_1 => {
            for block in values.chunks(32) {
                let (scale, minimum) = (half(2.0 / 15.0), half(-1.0));
                bytes.extend(scale.to_le_bytes());
                bytes.extend(minimum.to_le_bytes());
                let quants: Vec<u8> = block.iter().map(|value| ((value + 1.0) * 7.5).round() as u8).collect();
                bytes.extend((0..16).map(|i| quants[i] | quants[i + 16] << 4));
                meaning.extend(quants.iter().map(|q| scale.to_f32() * f32::from(*q) + minimum.to_f32()));
            }
        }
        other => panic!("{other:?} is not made here"),
    }
    (bytes, meaning)
}

/// x · weightᵀ + bias.
pub(super) fn linear(x: &[f64], weight: &[f32], cols: usize, bias: Option<&[f32]>) -> Vec<f64> {
    let rows = weight.len() / cols;
    x.chunks(cols)
        .flat_map(|x| {
            (0..rows).map(move |row| {
                let dot: f64 = weight[row * cols..][..cols].iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
                dot + bias.map_or(0.0, |bias| f64::from(bias[row]))
            })
        })
        .collect()
}

fn rms_norm(x: &[f32], gain: &[f32], eps: f64) -> Vec<f64> {
    x.chunks(gain.len())
        .flat_map(|row| {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
            row.iter().zip(gain).map(move |(v, g)| f64::from(*v) / (mean + eps).sqrt() * f64::from(*g))
        })
        .collect()
}

fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
    x.chunks(gain.len())
        .flat_map(|row| {
            let count = row.len() as f64;
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
            row.iter()
                .zip(gain)
                .zip(bias)
                .map(move |((v, g), b)| (f64::from(*v) - mean) / (var + eps).sqrt() * f64::from(*g) + f64::from(*b))
        })
        .collect()
}

fn silu_mul(gate_up: &[f64], cols: usize) -> Vec<f64> {
    gate_up
        .chunks(2 * cols)
        .flat_map(|row| (0..cols).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[cols + i]))
        .collect()
}

pub(super) const ENCODINGS: [Encoding; 5] =
    [Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::Q8_0, Encoding::Q4_1];

/// Projections with and without bias, norm, residual and SwiGLU, for one row and many.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn linear_and_its_fusions_multiply_every_encoding(gpu: &Wgpu) -> Result<()> {
    let (cols, half) = (96, 35);
    let out = 2 * half;
    let gain = noise(3, cols);
    let gain_weight = f32_weight(gpu, 1, cols, &gain)?;
    let bias = noise(4, out);
    let bias_weight = f32_weight(gpu, 1, out, &bias)?;
    for encoding in ENCODINGS {
        let (bytes, values) = encoded(encoding, &noise(1, cols * out));
        let weight = weight(gpu, cols, &[(out, encoding, bytes)])?;
        for rows in [1, 3, 5, 70] {
            let what = format!("{encoding:?}, {rows} rows");
            let x = noise(2, rows * cols);
            let tensor = gpu.tensor([rows, cols], &x)?;
            let got = read(gpu, &gpu.linear(&tensor, &weight, Some(&bias_weight))?);
            close(&what, &got, &linear(&doubles(&x), &values, cols, Some(&bias)), TOLERANCE);
            let got = read(gpu, &gpu.linear(&tensor, &weight, None)?);
            close(&what, &got, &linear(&doubles(&x), &values, cols, None), TOLERANCE);

            let residual = noise(5, rows * out);
            let residual_tensor = gpu.tensor([rows, out], &residual)?;
            let got = read(gpu, &gpu.linear_add(&tensor, &weight, Some(&bias_weight), &residual_tensor)?);
            let mut expected = linear(&doubles(&x), &values, cols, Some(&bias));
            expected.iter_mut().zip(&residual).for_each(|(sum, value)| *sum += f64::from(*value));
            close(&format!("{what}, add"), &got, &expected, TOLERANCE);

            let normal = rms_norm(&x, &gain, 1e-5);
            let got = read(gpu, &gpu.rms_norm_linear(&tensor, &gain_weight, 1e-5, &weight, Some(&bias_weight))?);
            let expected = linear(&normal, &values, cols, Some(&bias));
            close(&format!("{what}, norm"), &got, &expected, TOLERANCE);

            let got = read(gpu, &gpu.rms_norm_gate_up(&tensor, &gain_weight, 1e-5, &weight, Some(&bias_weight))?);
            close(&format!("{what}, gate_up"), &got, &silu_mul(&expected, half), TOLERANCE);
        }
    }
    Ok(())
}

/// Fused weights whose parts have other encodings.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn a_weight_takes_the_widest_of_its_parts(gpu: &Wgpu) -> Result<()> {
    let cols = 64;
    let (four, mut values) = encoded(Encoding::Q4_1, &noise(1, cols * 8));
    let (eight, more) = encoded(Encoding::Q8_0, &noise(2, cols * 4));
    values.extend(more);
    let fused = weight(gpu, cols, &[(8, Encoding::Q4_1, four), (4, Encoding::Q8_0, eight)])?;
    let x = noise(3, cols);
    let got = read(gpu, &gpu.linear(&gpu.tensor([1, cols], &x)?, &fused, None)?);
    close("q4 and q8", &got, &linear(&doubles(&x), &values, cols, None), TOLERANCE);
    Ok(())
}

/// Rows of a table.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn embed_reads_rows_of_every_encoding(gpu: &Wgpu) -> Result<()> {
    let (cols, rows) = (96, 33);
    for encoding in ENCODINGS {
        let (bytes, values) = encoded(encoding, &noise(1, cols * rows));
        let table = weight(gpu, cols, &[(rows, encoding, bytes)])?;
        let ids = [32_u32, 0, 7, 7];
        let got = read(gpu, &gpu.embed(&table, &gpu.tokens(&ids)?)?);
        let expected: Vec<f64> = ids.iter().flat_map(|id| doubles(&values[*id as usize * cols..][..cols])).collect();
        close(&format!("{encoding:?}"), &got, &expected, 1e-6);
    }
    Ok(())
}

/// Norms, relu, add, add_columns, silu_mul, select_rows.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn plain_operations_on_rows(gpu: &Wgpu) -> Result<()> {
    let (rows, cols) = (5, 68);
    let (a, b, gain) = (noise(1, rows * cols), noise(2, rows * cols), noise(3, cols));
    let tensor = gpu.tensor([rows, cols], &a)?;
    let normal = gpu.rms_norm(&tensor, &f32_weight(gpu, 1, cols, &gain)?, 1e-6)?;
    close("rms_norm", &read(gpu, &normal), &rms_norm(&a, &gain, 1e-6), TOLERANCE);
    let bias = noise(4, cols);
    let (gains, biases) = (f32_weight(gpu, 1, cols, &gain)?, f32_weight(gpu, 1, cols, &bias)?);
    // Far from 0, where a variance of squares less the squared mean would lose its digits.
    let far: Vec<f32> = a.iter().map(|v| v + 30.0).collect();
    let centred = gpu.layer_norm(&gpu.tensor([rows, cols], &far)?, &gains, &biases, 1e-5)?;
    close("layer_norm", &read(gpu, &centred), &layer_norm(&far, &gain, &bias, 1e-5), 5.0 * TOLERANCE);
    let positive: Vec<f64> = a.iter().map(|v| f64::from(v.max(0.0))).collect();
    close("relu", &read(gpu, &gpu.relu(&tensor)?), &positive, 0.0);
    let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(a + b)).collect();
    close("add", &read(gpu, &gpu.add(&tensor, &gpu.tensor([rows, cols], &b)?)?), &sum, 0.0);
    close("silu_mul", &read(gpu, &gpu.silu_mul(&tensor)?), &silu_mul(&doubles(&a), cols / 2), TOLERANCE);
    let (first, count, scale) = (7, 59, -0.75);
    let mut added = doubles(&a);
    for row in 1..rows - 1 {
        let from = &b[(row - 1) * count..];
        (0..count).for_each(|i| added[row * cols + first + i] += f64::from(scale) * f64::from(from[i]));
    }
    let delta = gpu.tensor([rows - 2, count], &b[..(rows - 2) * count])?;
    close("add_columns", &read(gpu, &gpu.add_columns(tensor.clone(), &delta, [1, first], scale)?), &added, 1e-6);
    let picked = [4, 0, 4];
    let expected: Vec<f64> = picked.iter().flat_map(|row| doubles(&a[row * cols..][..cols])).collect();
    close("select_rows", &read(gpu, &gpu.select_rows(&tensor, &picked)?), &expected, 0.0);
    Ok(())
}

/// Wrong shapes.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a value is not what it has to be.
pub fn operands_that_do_not_fit_are_refused(gpu: &Wgpu) -> Result<()> {
    let x = gpu.tensor([2, 8], &noise(1, 16))?;
    let weight = f32_weight(gpu, 4, 12, &noise(1, 48))?;
    let error = gpu.linear(&x, &weight, None).err().expect("12 columns do not take 8");
    assert!(error.to_string().contains("x with 12 columns"), "{error}");
    assert!(gpu.select_rows(&x, &[2]).is_err());
    assert!(gpu.add_columns(x.clone(), &gpu.tensor([2, 2], &[0.0; 4])?, [0, 7], 1.0).is_err());
    assert!(gpu.create_weight("odd", 33, &[WeightPart { rows: 2, encoding: Encoding::Q4_0 }]).is_err());
    assert!(gpu.create_weight("odd", 6, &[WeightPart { rows: 2, encoding: Encoding::F32 }]).is_err());
    Ok(())
}
