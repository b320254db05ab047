//! The network that weighs the rewards of a [`Mixture`], and the sum of what it weighs.

use super::{Loader, Trunk};
use crate::backend::Operations;
use crate::config::{GATE_SCALE, Mixture, MixtureKind, TRANSFORM};
use crate::weights::Source;
use crate::{Error, Result};

/// Added to the variance, as by PyTorch's `BatchNorm1d`.
const NORM_EPS: f32 = 1e-5;
/// SELU's constants (arXiv 1706.02515), as in PyTorch.
const SELU: [f32; 2] = [1.673_263_2, 1.050_701];

/// The network on a device. What lies between its layers is computed by the host: a few values of each token.
pub(super) struct Gate<B: Operations> {
    layers: Vec<Layer<B>>,
    /// Factor of the weights.
    scale: f32,
    /// `[rewards, rewards]`; empty for none.
    transform: Vec<f32>,
}

struct Layer<B: Operations> {
    weight: B::Weight,
    bias: Option<B::Weight>,
    /// Factors and addends of the columns after the activation.
    norm: Option<[Vec<f32>; 2]>,
}

impl<B: Operations> Gate<B> {
    /// Reads the parameters in the order of [`crate::ModelConfig::params`].
    pub async fn load<S: Source>(mixture: &Mixture, loader: &mut Loader<'_, B, S>) -> Result<Self> {
        let mut layers = Vec::new();
        for gate in &mixture.gate {
            let weight = loader.matrix(&[&gate.layer.weight]).await?;
            let bias = loader.bias(gate.layer.bias.is_some(), gate.layer.bias.as_slice()).await?;
            let mut norm = None;
            if let Some([gain, bias, mean, variance]) = gate.norm_names() {
                let gain = loader.values(&[gain]).await?;
                let bias = loader.values(&[bias]).await?;
                let mean = loader.values(&[mean]).await?;
                let variance = loader.values(&[variance]).await?;
                let factors: Vec<f32> =
                    gain.iter().zip(&variance).map(|(gain, variance)| gain / (variance + NORM_EPS).sqrt()).collect();
                let shifts = bias.iter().zip(&mean).zip(&factors).map(|((bias, mean), factor)| bias - mean * factor);
                let shifts = shifts.collect();
                norm = Some([factors, shifts]);
            }
            layers.push(Layer { weight, bias, norm });
        }
        let (mut scale, mut transform) = (1.0, Vec::new());
        if matches!(mixture.kind, MixtureKind::ByQuestion { .. }) {
            scale = loader.values(&[GATE_SCALE]).await?.first().copied().unwrap_or(1.0);
            transform = loader.rows(TRANSFORM).await?;
        }
        Ok(Self { layers, scale, transform })
    }

    /// The weights of hidden rows before the final norm: `[rows, rewards]`.
    pub async fn weights(&self, mixture: &Mixture, trunk: &Trunk<B>, x: &B::Tensor) -> Result<Vec<f32>> {
        let backend = trunk.backend();
        let rows = backend.shape(x)[0];
        let mut input: Option<Vec<f32>> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let output = match input.take() {
                None => trunk.head(x, &layer.weight, layer.bias.as_ref())?,
                Some(values) => {
                    let x = backend.tensor([rows, values.len() / rows.max(1)], &values)?;
                    backend.linear(&x, &layer.weight, layer.bias.as_ref())?
                }
            };
            let mut values = backend.read(&output).await?;
            if index + 1 < self.layers.len() {
                activate(mixture.kind, &mut values);
                if let Some([factors, shifts]) = &layer.norm {
                    for row in values.chunks_exact_mut(factors.len().max(1)) {
                        for ((value, factor), shift) in row.iter_mut().zip(factors).zip(shifts) {
                            *value = *value * factor + shift;
                        }
                    }
                }
            }
            input = Some(values);
        }
        let mut weights = input.unwrap_or_default();
        if let MixtureKind::ByQuestion { temperature } = mixture.kind {
            for row in weights.chunks_exact_mut(mixture.rewards.max(1)) {
                softmax(row, temperature);
                row.iter_mut().for_each(|weight| *weight *= self.scale);
            }
        }
        Ok(weights)
    }

    /// The scores of a conversation's tokens from the outputs of each: the head's, then the weights. `question` is the token
    /// whose weights all have, where they are the question's.
    pub fn sum(&self, mixture: &Mixture, outputs: &[f32], question: Option<usize>) -> Result<Vec<f32>> {
        let of_head = mixture.rewards * mixture.outputs_each;
        let rows: Vec<&[f32]> = outputs.chunks_exact((of_head + mixture.rewards).max(1)).collect();
        let score = |row: &&[f32]| -> f32 {
            let weights = match question {
                Some(token) => rows.get(token).copied().unwrap_or_default(),
                None => *row,
            };
            let weights = weights.get(of_head..).unwrap_or_default();
            let rewards = self.rewards(mixture, &row[..of_head]);
            rewards.iter().zip(weights).map(|(reward, weight)| reward * weight).sum()
        };
        match question.is_none_or(|token| token < rows.len()) {
            true => Ok(rows.iter().map(score).collect()),
            false => Err(Error::Request("a conversation ends before its question does".to_string())),
        }
    }

    fn rewards(&self, mixture: &Mixture, outputs: &[f32]) -> Vec<f32> {
        let each = outputs.chunks_exact(mixture.outputs_each.max(1));
        match mixture.kind {
            MixtureKind::ByToken => each.map(|outputs| outputs[0]).collect(),
            MixtureKind::ByQuestion { .. } => {
                let means: Vec<f32> = each.map(|outputs| outputs.iter().sum::<f32>() / outputs.len() as f32).collect();
                let column = |column: usize| {
                    let weights = self.transform.iter().skip(column).step_by(mixture.rewards.max(1));
                    means.iter().zip(weights).map(|(mean, weight)| mean * weight).sum::<f32>()
                };
                (0..mixture.rewards).map(column).collect()
            }
        }
    }
}

fn activate(kind: MixtureKind, values: &mut [f32]) {
    for value in values {
        *value = match kind {
            MixtureKind::ByQuestion { .. } => value.max(0.0),
            MixtureKind::ByToken if *value > 0.0 => SELU[1] * *value,
            MixtureKind::ByToken => SELU[1] * SELU[0] * value.exp_m1(),
        };
    }
}

/// `exp(x / temperature)`, divided by the sum.
fn softmax(row: &mut [f32], temperature: f32) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = ((*value - most) / temperature).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}
