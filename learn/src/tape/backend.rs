//! The engine's backend traits on a tape.

use std::rc::Rc;

use paddock_engine::Result;
use paddock_engine::backend::{
    Cache, Device, DeviceInfo, HeadLayout, Operations, Sample, SampleRow, Segments, WeightPart,
};

use super::graph::Var;
use super::op::Op;
use super::parameter::ParameterId;
use super::tape::Tape;
use crate::Adjoint;
use crate::store::Store;

impl<B: Adjoint, S: Store<B>> Device for Tape<B, S> {
    type Tensor = Var<B>;
    type Weight = ParameterId;
    type Tokens = B::Tokens;

    fn device(&self) -> DeviceInfo {
        self.inner().device()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<ParameterId> {
        self.load_parameter(label, cols, parts)
    }

    fn write_rows(&self, weight: &mut ParameterId, first_row: usize, bytes: &[u8]) -> Result<()> {
        self.load_rows(*weight, first_row, bytes)
    }

    fn tensor(&self, shape: [usize; 2], values: &[f32]) -> Result<Var<B>> {
        Ok(Var { value: self.inner().tensor(shape, values)?, node: None })
    }

    fn tokens(&self, ids: &[u32]) -> Result<B::Tokens> {
        self.inner().tokens(ids)
    }

    fn shape(&self, x: &Var<B>) -> [usize; 2] {
        self.inner().shape(&x.value)
    }

    async fn read(&self, x: &Var<B>) -> Result<Vec<f32>> {
        self.inner().read(&x.value).await
    }

    async fn read_tokens(&self, tokens: &[B::Tokens]) -> Result<Vec<u32>> {
        self.inner().read_tokens(tokens).await
    }

    fn tokens_per_round_trip(&self) -> usize {
        self.inner().tokens_per_round_trip()
    }

    fn rows_per_round_trip(&self) -> usize {
        self.inner().rows_per_round_trip()
    }

    fn enter_block(&self, index: usize) -> Result<()> {
        self.mark_block();
        self.inner().enter_block(index)
    }
}

impl<B: Adjoint, S: Store<B>> Operations for Tape<B, S> {
    fn embed(&self, table: &ParameterId, ids: &B::Tokens) -> Result<Var<B>> {
        self.record([], |[]| Op::Embed { table: *table, ids: ids.clone() })
    }

    fn rms_norm(&self, x: &Var<B>, gain: &ParameterId, eps: f32) -> Result<Var<B>> {
        self.record([x], |[x]| Op::RmsNorm { x, gain: *gain, eps })
    }

    fn layer_norm(&self, x: &Var<B>, gain: &ParameterId, bias: &ParameterId, eps: f32) -> Result<Var<B>> {
        self.record([x], |[x]| Op::LayerNorm { x, gain: *gain, bias: *bias, eps })
    }

    fn linear(&self, x: &Var<B>, weight: &ParameterId, bias: Option<&ParameterId>) -> Result<Var<B>> {
        let x = self.dropped(x, *weight)?;
        self.record([&x], |[x]| Op::Linear { x, weight: *weight, bias: bias.copied(), residual: None })
    }

    fn rope(&self, qkv: &Var<B>, heads: HeadLayout, segments: &Segments, frequencies: &Var<B>) -> Result<Var<B>> {
        let (segments, frequencies) = (Rc::new(segments.clone()), frequencies.value.clone());
        self.record([qkv], |[qkv]| Op::Rope { qkv, heads, segments, frequencies })
    }

    fn attention(&self, qkv: &Var<B>, heads: HeadLayout, segments: &Segments) -> Result<Var<B>> {
        let segments = Rc::new(segments.clone());
        self.record([qkv], |[qkv]| Op::Attention { qkv, heads, segments })
    }

    fn silu_mul(&self, gate_up: &Var<B>) -> Result<Var<B>> {
        self.record([gate_up], |[gate_up]| Op::SiluMul { gate_up })
    }

    fn relu(&self, x: &Var<B>) -> Result<Var<B>> {
        self.record([x], |[x]| Op::Relu { x })
    }

    fn add(&self, a: &Var<B>, b: &Var<B>) -> Result<Var<B>> {
        self.record([a, b], |[a, b]| Op::Add { a, b })
    }

    fn add_columns(&self, x: Var<B>, delta: &Var<B>, at: [usize; 2], scale: f32) -> Result<Var<B>> {
        if x.node.is_none() && delta.node.is_none() {
            return Ok(Var { value: self.inner().add_columns(x.value, &delta.value, at, scale)?, node: None });
        }
        let shape = self.shape(delta);
        self.record([&x, delta], |[x, delta]| Op::AddColumns { x, delta, at, shape, scale })
    }

    fn select_rows(&self, x: &Var<B>, rows: &[usize]) -> Result<Var<B>> {
        let count = self.shape(x)[0];
        self.record([x], |[x]| Op::SelectRows { x, count, rows: rows.into() })
    }

    fn token_logprobs(&self, x: &Var<B>, weight: &ParameterId, targets: &B::Tokens) -> Result<Var<B>> {
        self.record([x], |[x]| Op::TokenLogprobs { x, weight: *weight, targets: targets.clone() })
    }

    fn linear_add(
        &self,
        x: &Var<B>,
        weight: &ParameterId,
        bias: Option<&ParameterId>,
        residual: &Var<B>,
    ) -> Result<Var<B>> {
        self.record([x, residual], |[x, residual]| Op::Linear {
            x,
            weight: *weight,
            bias: bias.copied(),
            residual: Some(residual),
        })
    }
}

impl<B: Adjoint + Cache, S: Store<B>> Cache for Tape<B, S> {
    type KvCache = B::KvCache;

    fn kv_cache(&self, layers: usize, heads: HeadLayout, sequences: usize, capacity: usize) -> Result<B::KvCache> {
        self.inner().kv_cache(layers, heads, sequences, capacity)
    }

    fn cache_append(
        &self,
        cache: &mut B::KvCache,
        layer: usize,
        qkv: &Var<B>,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<()> {
        self.inner().cache_append(cache, layer, self.unrecorded("cache_append", qkv)?, heads, segments)
    }

    fn cache_fork(&self, cache: &mut B::KvCache, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.inner().cache_fork(cache, from, to, tokens)
    }

    fn attention_cached(
        &self,
        cache: &B::KvCache,
        layer: usize,
        qkv: &Var<B>,
        heads: HeadLayout,
        segments: &Segments,
    ) -> Result<Var<B>> {
        let qkv = self.unrecorded("attention_cached", qkv)?;
        Ok(Var { value: self.inner().attention_cached(cache, layer, qkv, heads, segments)?, node: None })
    }

    fn rope_attention_cached(
        &self,
        cache: &mut B::KvCache,
        layer: usize,
        qkv: &Var<B>,
        heads: HeadLayout,
        segments: &Segments,
        frequencies: &Var<B>,
    ) -> Result<Var<B>> {
        let qkv = self.unrecorded("rope_attention_cached", qkv)?;
        let inner = self.inner();
        let value = inner.rope_attention_cached(cache, layer, qkv, heads, segments, &frequencies.value)?;
        Ok(Var { value, node: None })
    }
}

impl<B: Adjoint + Sample, S: Store<B>> Sample for Tape<B, S> {
    type Sampler = B::Sampler;

    fn sampler(&self, vocab: usize, slots: usize) -> Result<B::Sampler> {
        self.inner().sampler(vocab, slots)
    }

    fn set_seen(&self, sampler: &mut B::Sampler, slot: usize, ids: &[u32]) -> Result<()> {
        self.inner().set_seen(sampler, slot, ids)
    }

    fn sample(&self, logits: &Var<B>, sampler: &mut B::Sampler, rows: &[SampleRow]) -> Result<B::Tokens> {
        self.inner().sample(self.unrecorded("sample", logits)?, sampler, rows)
    }

    fn token_logprobs_of_logits(&self, logits: &Var<B>, ids: &B::Tokens) -> Result<Var<B>> {
        let value = self.inner().token_logprobs_of_logits(self.unrecorded("token_logprobs_of_logits", logits)?, ids)?;
        Ok(Var { value, node: None })
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Sampling};
    use pollster::block_on;

    use super::*;
    use crate::TapeOptions;
    use crate::cpu::testing::numbers;

    fn tape() -> Tape<Cpu> {
        Tape::new(Cpu::with_threads(1), TapeOptions::default())
    }

    #[test]
    fn waits_are_those_of_the_device() {
        let tape = tape();
        assert_eq!(tape.tokens_per_round_trip(), tape.inner().tokens_per_round_trip());
        assert_eq!(tape.rows_per_round_trip(), tape.inner().rows_per_round_trip());
    }

    /// Against attention without a cache.
    #[test]
    fn a_cache_holds_what_was_appended_and_forked() {
        let (tape, heads) = (tape(), HeadLayout { heads: 1, kv_heads: 1, head_dim: 2 });
        let values = numbers(18, 3);
        let rows = |rows: usize, values: &[f32]| tape.tensor([rows, 6], values).unwrap();
        let whole = tape.attention(&rows(3, &values), heads, &Segments::documents(&[3])).unwrap();
        let expected = block_on(tape.read(&whole)).unwrap();
        let mut cache = tape.kv_cache(1, heads, 2, 4).unwrap();
        let mut attend = |sequence: usize, past: usize, own: &[f32]| {
            let (x, segments) = (rows(own.len() / 6, own), Segments::continuation(own.len() / 6, past, sequence));
            if past > 0 {
                tape.cache_fork(&mut cache, 0, sequence, past).unwrap();
            }
            tape.cache_append(&mut cache, 0, &x, heads, &segments).unwrap();
            block_on(tape.read(&tape.attention_cached(&cache, 0, &x, heads, &segments).unwrap())).unwrap()
        };
        let got = [attend(0, 0, &values[..12]), attend(1, 2, &values[12..])].concat();
        let error = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
        assert!(error < 1e-6, "{got:?}, expected {expected:?}");
    }

    #[test]
    fn tokens_that_were_seen_are_penalised() {
        let tape = tape();
        let logits = tape.tensor([1, 2], &[1.0, 0.9]).unwrap();
        let mut sampler = tape.sampler(2, 1).unwrap();
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        tape.set_seen(&mut sampler, 0, &[0]).unwrap();
        let token = tape.sample(&logits, &mut sampler, &[SampleRow { slot: 0, position: 0, sampling }]).unwrap();
        assert_eq!(block_on(tape.read_tokens(&[token])).unwrap(), [1]);
    }
}
