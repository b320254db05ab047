//! Adjoints against central differences in f64.

use paddock_engine::backend::cpu::{Tensor, Weight};
use paddock_engine::backend::{Cpu, Device, WeightPart};
use paddock_engine::weights::Encoding;

use super::Gradient;
use crate::Parameters;

/// Largest error of a value or gradient, relative to the largest of its kind: adjoints are sums of some hundred f32
/// products.
const TOLERANCE: f64 = 2e-5;
/// Step of the differences: the error of a central difference in f64 is then about 1e-9.
const STEP: f64 = 1e-5;

/// Numbers between -1 and 1 that look random.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    for _ in 0..8 {
        next();
    }
    (0..count).map(|_| next()).collect()
}

pub(crate) fn tensor(shape: [usize; 2], values: &[f32]) -> Tensor {
    Tensor::from_values(shape, values.to_vec()).unwrap()
}

/// A weight of f32.
pub(crate) fn weight(shape: [usize; 2], values: &[f32]) -> Weight {
    let cpu = Cpu::with_threads(1);
    let part = WeightPart { rows: shape[0], encoding: Encoding::F32 };
    let mut weight = cpu.create_weight("w", shape[1], &[part]).unwrap();
    cpu.write_values(&mut weight, 0, values).unwrap();
    weight
}

/// A gradient of zeros.
pub(crate) fn zeros(shape: [usize; 2]) -> Gradient {
    Gradient::zeros("w", shape).unwrap()
}

/// An operation in f64, its value, and the gradients of `Σ seed · value` by differences.
pub(crate) struct Check {
    pub seed: Vec<f32>,
    value: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

impl Check {
    pub fn new(inputs: &[Vec<f32>], op: impl Fn(&[Vec<f64>]) -> Vec<f64>) -> Self {
        let mut inputs: Vec<Vec<f64>> = inputs.iter().map(|v| v.iter().map(|v| f64::from(*v)).collect()).collect();
        let value = op(&inputs);
        let seed = numbers(value.len(), 99);
        let loss = |inputs: &[Vec<f64>]| -> f64 {
            op(inputs).iter().zip(&seed).map(|(value, seed)| value * f64::from(*seed)).sum()
        };
        let mut gradients = Vec::new();
        for input in 0..inputs.len() {
            let mut gradient = Vec::with_capacity(inputs[input].len());
            for index in 0..inputs[input].len() {
                let at = inputs[input][index];
                inputs[input][index] = at + STEP;
                let above = loss(&inputs);
                inputs[input][index] = at - STEP;
                gradient.push((above - loss(&inputs)) / (2.0 * STEP));
                inputs[input][index] = at;
            }
            gradients.push(gradient);
        }
        Self { seed, value, gradients }
    }

    /// The operation's value is the reference's.
    #[track_caller]
    pub fn value(&self, got: &[f32]) {
        assert_eq!(disagreement(got, &self.value), None, "value");
    }

    /// The gradient of an input is the reference's.
    #[track_caller]
    pub fn gradient(&self, input: usize, got: &[f32]) {
        assert_eq!(disagreement(got, &self.gradients[input]), None, "gradient of input {input}");
    }
}

/// Where `got` is not `expected`, in words.
fn disagreement(got: &[f32], expected: &[f64]) -> Option<String> {
    if got.len() != expected.len() {
        return Some(format!("{} values, expected {}", got.len(), expected.len()));
    }
    let size = expected.iter().fold(0.0f64, |size, v| size.max(v.abs()));
    let wrong = |(_, (got, expected)): &(usize, (&f32, &f64))| {
        let error = (f64::from(**got) - **expected).abs();
        error.is_nan() || error > TOLERANCE * size.max(1e-3)
    };
    let (index, (got, expected)) = got.iter().zip(expected).enumerate().find(wrong)?;
    Some(format!("value {index} is {got}, expected {expected}"))
}

#[test]
fn a_wrong_gradient_is_noticed() {
    let square = |v: &[Vec<f64>]| v[0].iter().map(|v| v * v).collect::<Vec<_>>();
    let x = numbers(9, 4);
    let check = Check::new(std::slice::from_ref(&x), square);
    let mut gradient: Vec<f32> = x.iter().zip(&check.seed).map(|(x, seed)| 2.0 * x * seed).collect();
    check.gradient(0, &gradient);
    gradient[5] += 1e-3;
    assert!(disagreement(&gradient, &check.gradients[0]).is_some());
    assert!(disagreement(&gradient[1..], &check.gradients[0]).is_some());
    gradient[5] = f32::NAN;
    assert!(disagreement(&gradient, &check.gradients[0]).is_some());
}
