//! The operations with their adjoints, at awkward sizes.

use half::bf16;
use paddock_engine::Result;
use paddock_engine::backend::{HeadLayout, Sample, Segments};
use paddock_learn::Adjoint;
use paddock_learn::dropout::Dropout;

use super::{Inputs, Output, plain};
use crate::block_on;

/// An operation and its sizes.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the sizes of the operation")]
pub enum Case {
    Embed { vocab: usize, cols: usize, ids: usize },
    RmsNorm { rows: usize, cols: usize },
    LayerNorm { rows: usize, cols: usize },
    Linear { tokens: usize, outputs: usize, cols: usize },
    Rope { heads: [usize; 3], lengths: Vec<usize> },
    Attention { heads: [usize; 3], lengths: Vec<usize> },
    SiluMul { rows: usize, cols: usize },
    Relu { rows: usize, cols: usize },
    Dropout { rows: usize, cols: usize },
    Add { rows: usize, cols: usize },
    AddColumns { shape: [usize; 2], added: [usize; 2], at: [usize; 2] },
    SelectRows { rows: usize, cols: usize, chosen: usize },
    TokenLogprobs { rows: usize, vocab: usize, cols: usize },
}

/// Sizes at which kernels go wrong: one, just below and above a power of two, odd, wider than a block.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::Embed { vocab: 9, cols: 1, ids: 1 },
        Case::Embed { vocab: 37, cols: 130, ids: 60 },
        Case::Linear { tokens: 1, outputs: 1, cols: 1 },
        Case::Linear { tokens: 3, outputs: 65, cols: 33 },
        Case::Linear { tokens: 70, outputs: 96, cols: 64 },
        Case::AddColumns { shape: [3, 9], added: [3, 0], at: [0, 9] },
        Case::AddColumns { shape: [5, 200], added: [5, 150], at: [0, 3] },
        Case::AddColumns { shape: [6, 200], added: [3, 150], at: [2, 50] },
        Case::SelectRows { rows: 5, cols: 67, chosen: 9 },
        Case::SelectRows { rows: 3, cols: 8, chosen: 0 },
        Case::TokenLogprobs { rows: 1, vocab: 1, cols: 3 },
        Case::TokenLogprobs { rows: 7, vocab: 513, cols: 20 },
        Case::TokenLogprobs { rows: 4, vocab: 1000, cols: 64 },
    ];
    for [rows, cols] in [[1, 1], [3, 7], [2, 1032], [270, 64]] {
        cases.extend([Case::RmsNorm { rows, cols }, Case::LayerNorm { rows, cols }]);
    }
    for [rows, cols] in [[1, 1], [3, 65], [2, 2056], [5, 264]] {
        cases.extend([
            Case::SiluMul { rows, cols },
            Case::Relu { rows, cols },
            Case::Dropout { rows, cols },
            Case::Add { rows, cols },
        ]);
    }
    let lengths = |lengths: &[usize]| lengths.to_vec();
    for heads in [[2, 1, 2], [4, 2, 64], [3, 3, 10]] {
        cases.push(Case::Rope { heads, lengths: lengths(&[5, 1, 9]) });
    }
    for (heads, documents) in [
        ([1, 1, 1], lengths(&[1])),
        ([4, 2, 16], lengths(&[5, 1, 33])),
        ([3, 1, 40], lengths(&[2, 17])),
        ([2, 1, 256], lengths(&[9])),
        // bf16: the first goes by rows, the others by tiles.
        ([2, 1, 64], lengths(&[3, 1, 7, 2])),
        ([4, 2, 64], lengths(&[70, 1, 64, 3])),
        ([2, 2, 64], lengths(&[16])),
        ([3, 1, 128], lengths(&[65, 130])),
    ] {
        cases.push(Case::Attention { heads, lengths: documents });
    }
    cases
}

impl Case {
    /// Runs the operation and its adjoints: on a weight of a checkpoint, if it has one, and on one as training has it.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run<B: Adjoint + Sample>(&self, backend: &B, inputs: &mut Inputs) -> Result<Vec<Output>> {
        let mut run = Run { backend, inputs, outputs: Vec::new() };
        match *self {
            Self::Embed { vocab, cols, ids } => run.embed(vocab, cols, ids)?,
            Self::RmsNorm { rows, cols } => run.norm([rows, cols], false)?,
            Self::LayerNorm { rows, cols } => run.norm([rows, cols], true)?,
            Self::Linear { tokens, outputs, cols } => run.linear(tokens, outputs, cols)?,
            Self::Rope { heads, ref lengths } => run.rope(layout(heads), lengths)?,
            Self::Attention { heads, ref lengths } => run.attention(layout(heads), lengths)?,
            Self::SiluMul { rows, cols } => {
                let (x, grad) = (run.tensor([rows, 2 * cols])?, run.tensor([rows, cols])?);
                run.value(&backend.silu_mul(&x)?)?;
                run.tensor_output("gradient of x", &backend.silu_mul_adjoint(&x, &grad)?)?;
            }
            Self::Relu { rows, cols } => {
                let (x, grad) = (run.tensor([rows, cols])?, run.tensor([rows, cols])?);
                run.value(&backend.relu(&x)?)?;
                run.tensor_output("gradient of x", &backend.relu_adjoint(&x, &grad)?)?;
            }
            Self::Dropout { rows, cols } => {
                let x = run.tensor([rows, cols])?;
                let keys = backend.tokens(&run.inputs.indices(rows, 1 << 20))?;
                run.value(&backend.dropout(&x, &keys, Dropout { rate: 0.3, seed: 9 })?)?;
            }
            Self::Add { rows, cols } => {
                let (a, b) = (run.tensor([rows, cols])?, run.tensor([rows, cols])?);
                run.value(&backend.add(&a, &b)?)?;
                let sum = backend.add(&a, &b)?;
                run.value(&backend.accumulate(sum, &b)?)?;
            }
            Self::AddColumns { shape, added, at } => {
                let (x, delta) = (run.tensor(shape)?, run.tensor(added)?);
                run.value(&backend.add_columns(x.clone(), &delta, at, 0.75)?)?;
                run.tensor_output("gradient of delta", &backend.add_columns_adjoint(&x, at, added, 0.75)?)?;
            }
            Self::SelectRows { rows, cols, chosen } => {
                let x = run.tensor([rows, cols])?;
                let list: Vec<usize> = run.inputs.indices(chosen, rows).iter().map(|row| *row as usize).collect();
                run.value(&backend.select_rows(&x, &list)?)?;
                let grad = run.tensor([chosen, cols])?;
                run.tensor_output("gradient of x", &backend.select_rows_adjoint(rows, &list, &grad)?)?;
            }
            Self::TokenLogprobs { rows, vocab, cols } => run.token_logprobs(rows, vocab, cols)?,
        }
        Ok(run.outputs)
    }

    /// What a plain implementation in bf16 gives: each step's result is rounded. For most operations that is the exact
    /// result, rounded.
    pub fn plain(&self, inputs: &mut Inputs, exact: &[Output]) -> Vec<Vec<f32>> {
        if let Self::Attention { heads, ref lengths } = *self {
            return plain::attention(layout(heads), lengths, inputs);
        }
        let round = |output: &Output| output.values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        exact.iter().map(round).collect()
    }
}

pub(super) fn layout([heads, kv_heads, head_dim]: [usize; 3]) -> HeadLayout {
    HeadLayout { heads, kv_heads, head_dim }
}

struct Run<'a, B: Adjoint + Sample> {
    backend: &'a B,
    inputs: &'a mut Inputs,
    outputs: Vec<Output>,
}

impl<B: Adjoint + Sample> Run<'_, B> {
    fn tensor(&mut self, shape: [usize; 2]) -> Result<B::Tensor> {
        self.inputs.tensor(self.backend, shape)
    }

    fn tensor_output(&mut self, what: &'static str, x: &B::Tensor) -> Result<()> {
        self.outputs.push(Output { what, values: block_on(self.backend.read(x))? });
        Ok(())
    }

    fn value(&mut self, x: &B::Tensor) -> Result<()> {
        self.tensor_output("value", x)
    }

    fn gradient_output(&mut self, what: &'static str, gradient: &B::Gradient) -> Result<()> {
        self.outputs.push(Output { what, values: block_on(self.backend.read_gradient(gradient))? });
        Ok(())
    }

    fn embed(&mut self, vocab: usize, cols: usize, count: usize) -> Result<()> {
        let backend = self.backend;
        let ids = backend.tokens(&self.inputs.indices(count, vocab))?;
        let weight = self.inputs.weight(backend, [vocab, cols])?;
        self.value(&backend.embed(&weight, &ids)?)?;
        let table = self.inputs.trained(backend, [vocab, cols])?;
        self.value(&backend.embed(&table, &ids)?)?;
        let grad = self.tensor([count, cols])?;
        let mut table_grad = self.inputs.gradient(backend, [vocab, cols])?;
        backend.embed_adjoint(&ids, &grad, &mut table_grad)?;
        self.gradient_output("gradient of the table", &table_grad)
    }

    fn norm(&mut self, shape: [usize; 2], centred: bool) -> Result<()> {
        const EPS: f32 = 1e-3;
        let backend = self.backend;
        let vector = [1, shape[1]];
        let (x, grad) = (self.tensor(shape)?, self.tensor(shape)?);
        let loaded = [self.inputs.weight(backend, vector)?, self.inputs.weight(backend, vector)?];
        let trained = [self.inputs.trained(backend, vector)?, self.inputs.trained(backend, vector)?];
        for ([gain, bias], has_gradient) in [(loaded, false), (trained, true)] {
            let mut gain_grad = self.inputs.gradient(backend, vector)?;
            let wanted = has_gradient.then_some(&mut gain_grad);
            let x_grad = if centred {
                self.value(&backend.layer_norm(&x, &gain, &bias, EPS)?)?;
                backend.layer_norm_adjoint(&x, &gain, EPS, &grad, wanted)?
            } else {
                self.value(&backend.rms_norm(&x, &gain, EPS)?)?;
                backend.rms_norm_adjoint(&x, &gain, EPS, &grad, wanted)?
            };
            self.tensor_output("gradient of x", &x_grad)?;
            self.gradient_output("gradient of the gain", &gain_grad)?;
        }
        Ok(())
    }

    fn linear(&mut self, tokens: usize, outputs: usize, cols: usize) -> Result<()> {
        let backend = self.backend;
        let x = self.tensor([tokens, cols])?;
        let weight = self.inputs.weight(backend, [outputs, cols])?;
        let bias = self.inputs.weight(backend, [1, outputs])?;
        self.value(&backend.linear(&x, &weight, None)?)?;
        self.value(&backend.linear(&x, &weight, Some(&bias))?)?;
        let residual = self.tensor([tokens, outputs])?;
        self.value(&backend.linear_add(&x, &weight, None, &residual)?)?;
        let trained = self.inputs.trained(backend, [outputs, cols])?;
        self.value(&backend.linear(&x, &trained, None)?)?;
        let grad = self.tensor([tokens, outputs])?;
        self.tensor_output("gradient of x", &backend.linear_adjoint(&grad, &trained)?)?;
        self.tensor_output("gradient of x", &backend.linear_adjoint(&grad, &weight)?)?;
        let mut weight_grad = self.inputs.gradient(backend, [outputs, cols])?;
        backend.linear_weight_adjoint(&x, &grad, &mut weight_grad)?;
        self.gradient_output("gradient of the weight", &weight_grad)?;
        let mut bias_grad = self.inputs.gradient(backend, [1, outputs])?;
        backend.bias_adjoint(&grad, &mut bias_grad)?;
        self.gradient_output("gradient of the bias", &bias_grad)
    }

    fn rope(&mut self, heads: HeadLayout, lengths: &[usize]) -> Result<()> {
        let backend = self.backend;
        let segments = Segments::documents(lengths);
        let shape = [segments.rows(), heads.qkv_dim()];
        let (qkv, grad) = (self.tensor(shape)?, self.tensor(shape)?);
        // Not exact in bf16: frequencies stay f32 on every device.
        let half = heads.head_dim / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| 1e4f32.powf(-(i as f32) / half as f32)).collect();
        let frequencies = backend.tensor([1, half], &frequencies)?;
        self.value(&backend.rope(&qkv, heads, &segments, &frequencies)?)?;
        let gradient = backend.rope_adjoint(&grad, heads, &segments, &frequencies)?;
        self.tensor_output("gradient of x", &gradient)
    }

    fn attention(&mut self, heads: HeadLayout, lengths: &[usize]) -> Result<()> {
        let backend = self.backend;
        let segments = Segments::documents(lengths);
        let values = self.inputs.numbers(segments.rows() * heads.qkv_dim(), 2.0);
        let qkv = backend.tensor([segments.rows(), heads.qkv_dim()], &values)?;
        let grad = self.tensor([segments.rows(), heads.q_dim()])?;
        self.value(&backend.attention(&qkv, heads, &segments)?)?;
        self.tensor_output("gradient of x", &backend.attention_adjoint(&qkv, heads, &segments, &grad)?)
    }

    fn token_logprobs(&mut self, rows: usize, vocab: usize, cols: usize) -> Result<()> {
        let backend = self.backend;
        let x = self.tensor([rows, cols])?;
        let targets = backend.tokens(&self.inputs.indices(rows, vocab))?;
        let weight = self.inputs.weight(backend, [vocab, cols])?;
        self.value(&backend.token_logprobs(&x, &weight, &targets)?)?;
        let trained = self.inputs.trained(backend, [vocab, cols])?;
        self.value(&backend.token_logprobs(&x, &trained, &targets)?)?;
        let logits = backend.linear(&x, &weight, None)?;
        self.value(&backend.token_logprobs_of_logits(&logits, &targets)?)?;
        let grad = self.tensor([rows, 1])?;
        let gradient = backend.token_logprobs_adjoint(&x, &weight, &targets, &grad, None)?;
        self.tensor_output("gradient of x", &gradient)?;
        let mut weight_grad = self.inputs.gradient(backend, [vocab, cols])?;
        let gradient = backend.token_logprobs_adjoint(&x, &trained, &targets, &grad, Some(&mut weight_grad))?;
        self.tensor_output("gradient of x", &gradient)?;
        self.gradient_output("gradient of the weight", &weight_grad)
    }
}
