//! The decorator itself: parameters, recording, and the engine's `Backend` on top.

use std::cell::RefCell;
use std::rc::Rc;

use paddock_engine::backend::{
    Cache, Device, DeviceInfo, HeadLayout, Operations, Sample, Sampling, Segments, WeightPart, check,
};
use paddock_engine::weights::dequantize;
use paddock_engine::{Error, Result};

use super::graph::{Graph, Var};
use super::op::Op;
use super::parameter::{Adapter, Layout, Parameter, Parameters, Weight, foreign};
use crate::Adjoint;
use crate::collective::Sharding;
use crate::optim::Precision;

/// Trains the models of the engine on the backend `B`: `Llama<Tape<B>>` is a `Llama<B>` whose weights have gradients.
///
/// Every weight that a model loads becomes a trainable f32 parameter. Cloning clones the handle.
pub struct Tape<B: Adjoint>(Rc<Inner<B>>);

struct Inner<B: Adjoint> {
    backend: B,
    sharding: Option<Sharding<B>>,
    parameters: RefCell<Parameters<B>>,
    graph: RefCell<Graph<B>>,
    settings: RefCell<Settings>,
}

/// How a tape keeps weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapeOptions {
    /// Keep one tensor a block of the forward pass, and compute the others anew in the backward pass: far less memory
    /// for a third more work.
    pub checkpointing: bool,
    /// How weights are held.
    pub precision: Precision,
    /// Weights that are loaded get no gradients; only adapters are trained.
    pub frozen: bool,
}

#[derive(Clone, Copy)]
struct Settings {
    recording: bool,
    options: TapeOptions,
}

impl<B: Adjoint> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Adjoint> Tape<B> {
    /// A tape that records on `backend`.
    pub fn new(backend: B, options: TapeOptions) -> Self {
        Self::shared(backend, options, None)
    }

    /// A tape whose parameters several ranks share. All of them record and walk back through the same operations.
    pub fn shared(backend: B, options: TapeOptions, sharding: Option<Sharding<B>>) -> Self {
        Self(Rc::new(Inner {
            backend,
            sharding,
            parameters: RefCell::new(Parameters(Vec::new())),
            graph: RefCell::default(),
            settings: RefCell::new(Settings { recording: true, options }),
        }))
    }

    /// The backend that computes.
    pub fn inner(&self) -> &B {
        &self.0.backend
    }

    /// How ranks share the parameters.
    pub fn sharding(&self) -> Option<&Sharding<B>> {
        self.0.sharding.as_ref()
    }

    /// Sums up what gradients are not yet summed up over the ranks.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub fn reduce_gradients(&self) -> Result<()> {
        let Some(sharding) = self.sharding() else { return Ok(()) };
        let mut parameters = self.0.parameters.borrow_mut();
        parameters.begin_sums(self.inner(), sharding)?;
        parameters.end_sums(self.inner())
    }

    /// After a step, which changed this rank's parts: brings what is kept whole up to date.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub fn refresh_weights(&self) -> Result<()> {
        let Some(sharding) = self.sharding() else { return Ok(()) };
        self.0.parameters.borrow_mut().refresh(self.inner(), sharding)
    }

    /// The values of all ranks of something of `size` values that each rank holds a part of.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub fn read_whole(&self, held: &B::Param, size: usize) -> Result<Vec<f32>> {
        self.whole(self.inner().read_param(held)?, size)
    }

    /// As [`Tape::read_whole`], of values that were read already.
    ///
    /// # Errors
    /// When a rank has ended.
    pub fn whole(&self, values: Vec<f32>, size: usize) -> Result<Vec<f32>> {
        let Some(sharding) = self.sharding() else { return Ok(values) };
        let mut values = sharding.ranks.gather(values)?;
        values.truncate(size);
        Ok(values)
    }

    /// Puts this rank's part of `values`, which lie from place `first` on in something of `size` values, where the rank
    /// holds it.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn write_part(&self, held: &mut B::Param, size: usize, first: usize, values: &[f32]) -> Result<()> {
        if first.checked_add(values.len()).is_none_or(|end| end > size) {
            let got = format!("{} from {first} on", values.len());
            return Err(Error::Shape { op: "write_part", expected: format!("at most {size} values"), got });
        }
        let part = self.sharding().map_or(0..size, |sharding| sharding.part(size));
        let range = first.max(part.start)..(first + values.len()).min(part.end);
        match values.get(range.start.saturating_sub(first)..range.end.saturating_sub(first)) {
            Some(own) if !own.is_empty() => self.inner().write_param(held, range.start - part.start, own),
            _ => Ok(()),
        }
    }

    /// Runs `action` without recording: for evaluation.
    pub fn without_recording<R>(&self, action: impl FnOnce() -> R) -> R {
        let before = std::mem::replace(&mut self.0.settings.borrow_mut().recording, false);
        let result = action();
        self.0.settings.borrow_mut().recording = before;
        result
    }

    /// Walks back through what was recorded since the last call, from `seeds`: tensors and their gradients, row by
    /// row. The gradients of the parameters are added to; the record is forgotten.
    ///
    /// # Errors
    /// When a seed does not fit its tensor, or the device fails.
    pub fn backward(&self, seeds: &[(&Var<B>, Vec<f32>)]) -> Result<()> {
        let graph = self.0.graph.take();
        let backend = self.inner();
        let seeds = seeds.iter().filter_map(|(var, grad)| {
            let node = var.node?;
            Some(backend.tensor(backend.shape(&var.value), grad).map(|grad| (node, grad)))
        });
        let seeds = seeds.collect::<Result<Vec<_>>>()?;
        graph.backward(backend, self.sharding(), &mut self.0.parameters.borrow_mut(), seeds)
    }

    /// Forgets what was recorded.
    pub fn forget(&self) {
        self.0.graph.take();
    }

    /// The sum of the squares of all gradients.
    ///
    /// # Errors
    /// When the device fails.
    pub fn squared_norm(&self) -> Result<B::SquaredNorm> {
        let parameters = self.0.parameters.borrow();
        let grads: Vec<&B::Param> = parameters.0.iter().filter_map(|parameter| parameter.grad.as_ref()).collect();
        self.inner().squared_norm(&grads)
    }

    /// Calls `visit` for every parameter, in the order in which the model loaded them.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn visit<E>(&self, mut visit: impl FnMut(usize, &mut Parameter<B>) -> Result<(), E>) -> Result<(), E> {
        self.0.parameters.borrow_mut().0.iter_mut().enumerate().try_for_each(|(index, p)| visit(index, p))
    }

    /// Gives the parameter `label` further rows, up to `rows` of them: each is the mean of those it has. Gradients
    /// begin at 0.
    ///
    /// # Errors
    /// When there is no room.
    pub fn grow_rows(&self, label: &str, rows: usize) -> Result<()> {
        let backend = self.inner();
        let precision = self.0.settings.borrow().options.precision;
        self.visit(|_, parameter| {
            let [before, cols] = parameter.shape;
            if parameter.label != label || rows <= before {
                return Ok(());
            }
            let values = self.read_whole(&parameter.value, parameter.len())?;
            let mut mean = vec![0.0f64; cols];
            for row in values.chunks_exact(cols.max(1)) {
                mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
            }
            let mean: Vec<f32> = mean.iter().map(|sum| (sum / before.max(1) as f64) as f32).collect();
            let layout = Layout { label, shape: [rows, cols], precision, trained: parameter.grad.is_some() };
            let mut grown = Parameter::new(backend, self.sharding(), &layout)?;
            let size = grown.len();
            self.write_part(&mut grown.value, size, 0, &values)?;
            (before..rows).try_for_each(|row| self.write_part(&mut grown.value, size, row * cols, &mean))?;
            *parameter = grown;
            Ok(())
        })
    }

    /// Lets `adapter` add to the products with parameter `index`, the parameter's number in [`Tape::visit`]. Its two
    /// matrices of zeros become parameters after all others, `a` of `[rank, inputs]` before `b` of `[outputs, rank]`.
    ///
    /// # Errors
    /// When there is no such parameter, or no room.
    pub fn adapt(&self, index: usize, adapter: Adapter) -> Result<()> {
        let adapted = Weight(index);
        let [_, cols] = self.with(&adapted, |parameter| parameter.shape)?;
        let [a, b] = &adapter.labels;
        let a = self.new_parameter(a, [adapter.rank, cols], Precision::F32, true)?;
        let b = self.new_parameter(b, [adapter.outputs, adapter.rank], Precision::F32, true)?;
        Ok(self.with(&adapted, |parameter| parameter.adapters.push((adapter, [a, b])))?)
    }

    fn new_parameter(&self, label: &str, shape: [usize; 2], precision: Precision, trained: bool) -> Result<Weight> {
        let layout = Layout { label, shape, precision, trained };
        let parameter = Parameter::new(self.inner(), self.sharding(), &layout)?;
        let parameters = &mut self.0.parameters.borrow_mut().0;
        parameters.push(parameter);
        Ok(Weight(parameters.len() - 1))
    }

    fn with<R>(&self, weight: &Weight, action: impl FnOnce(&mut Parameter<B>) -> R) -> Result<R> {
        self.0.parameters.borrow_mut().0.get_mut(weight.0).map(action).ok_or_else(foreign)
    }

    /// Runs an operation on nodes, and records it when gradients flow through it.
    fn record<const N: usize>(&self, operands: [&Var<B>; N], op: impl FnOnce([usize; N]) -> Op<B>) -> Result<Var<B>> {
        let mut graph = self.0.graph.borrow_mut();
        let before = graph.len();
        let op = op(operands.map(|var| graph.node(var)));
        let mut parameters = self.0.parameters.borrow_mut();
        if let Some(sharding) = self.sharding() {
            parameters.fetch(self.inner(), sharding, op.weights(), false)?;
            // Models load their weights in the order in which they use them.
            let next = op.weights().map(|weight| Weight(weight.0 + 1)).max_by_key(|weight| weight.0);
            parameters.prefetch(self.inner(), sharding, next.into_iter())?;
        }
        let settings = *self.0.settings.borrow();
        let wanted =
            settings.recording && (graph.wants(&op) || op.weights().any(|weight| parameters.is_trained(weight)));
        // The operands' own values: those of the graph may have been dropped.
        let value = |node| {
            let known = operands.iter().find(|var| var.node == Some(node)).map(|var| var.value.clone());
            known.map_or_else(|| graph.value(node), Ok)
        };
        let value = op.run(self.inner(), &parameters, value)?.ok_or_else(foreign)?;
        let node = if wanted {
            Some(graph.push(op, Some(value.clone()), true))
        } else {
            graph.truncate(before);
            None
        };
        Ok(Var { value, node })
    }

    fn refuse<T>(&self, what: &str) -> Result<T> {
        Err(Error::Unsupported(format!(
            "{what} cannot be trained through; save the model and load it without the tape to generate with it"
        )))
    }
}

impl<B: Adjoint> Device for Tape<B> {
    type Tensor = Var<B>;
    type Weight = Weight;
    type Tokens = B::Tokens;

    fn device(&self) -> DeviceInfo {
        self.inner().device()
    }

    fn create_weight(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Weight> {
        let shape = [parts.iter().map(|part| part.rows).sum(), cols];
        let options = self.0.settings.borrow().options;
        let weight = self.new_parameter(label, shape, options.precision, !options.frozen)?;
        self.with(&weight, |parameter| parameter.parts = parts.to_vec())?;
        Ok(weight)
    }

    fn write_rows(&self, weight: &mut Weight, first_row: usize, bytes: &[u8]) -> Result<()> {
        let mut parameters = self.0.parameters.borrow_mut();
        let parameter = parameters.0.get_mut(weight.0).ok_or_else(foreign)?;
        let (label, parts, cols) = (&parameter.label, &parameter.parts, parameter.shape[1]);
        let (part, _, rows) = check::rows_of_part(label, cols, parts, first_row, bytes.len())?;
        let mut values = vec![0.0; rows * cols];
        dequantize(parts[part].encoding, bytes, &mut values)?;
        let (size, first) = (parameter.len(), first_row * cols);
        self.write_part(&mut parameter.value, size, first, &values)
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

    fn enter_block(&self, index: usize) -> Result<()> {
        let settings = *self.0.settings.borrow();
        if settings.recording {
            self.0.graph.borrow_mut().mark(settings.options.checkpointing);
        }
        if let Some(sharding) = self.sharding() {
            self.0.parameters.borrow_mut().release(sharding);
        }
        self.inner().enter_block(index)
    }
}

impl<B: Adjoint> Operations for Tape<B> {
    fn embed(&self, table: &Weight, ids: &B::Tokens) -> Result<Var<B>> {
        self.record([], |[]| Op::Embed { table: *table, ids: ids.clone() })
    }

    fn rms_norm(&self, x: &Var<B>, gain: &Weight, eps: f32) -> Result<Var<B>> {
        self.record([x], |[x]| Op::RmsNorm { x, gain: *gain, eps })
    }

    fn layer_norm(&self, x: &Var<B>, gain: &Weight, bias: &Weight, eps: f32) -> Result<Var<B>> {
        self.record([x], |[x]| Op::LayerNorm { x, gain: *gain, bias: *bias, eps })
    }

    fn linear(&self, x: &Var<B>, weight: &Weight, bias: Option<&Weight>) -> Result<Var<B>> {
        let mut out = self.record([x], |[x]| Op::Linear { x, weight: *weight, bias: bias.copied() })?;
        let adapters = self.0.parameters.borrow().0.get(weight.0).map(|parameter| parameter.adapters.clone());
        for (Adapter { first, outputs, scale, .. }, [a, b]) in adapters.unwrap_or_default() {
            let delta = self.linear(&self.linear(x, &a, None)?, &b, None)?;
            check::shape("linear", "what an adapter adds", self.shape(&delta), [self.shape(x)[0], outputs])?;
            out = self.add_columns(&out, &delta, first, scale)?;
        }
        Ok(out)
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

    fn add_columns(&self, x: &Var<B>, delta: &Var<B>, first: usize, scale: f32) -> Result<Var<B>> {
        let [_, count] = self.shape(delta);
        self.record([x, delta], |[x, delta]| Op::AddColumns { x, delta, first, count, scale })
    }

    fn select_rows(&self, x: &Var<B>, rows: &[usize]) -> Result<Var<B>> {
        let count = self.shape(x)[0];
        self.record([x], |[x]| Op::SelectRows { x, count, rows: rows.into() })
    }

    fn token_logprobs(&self, x: &Var<B>, weight: &Weight, targets: &B::Tokens) -> Result<Var<B>> {
        self.record([x], |[x]| Op::TokenLogprobs { x, weight: *weight, targets: targets.clone() })
    }
}

impl<B: Adjoint> Cache for Tape<B> {
    type KvCache = ();

    fn kv_cache(&self, _: usize, _: HeadLayout, _: usize, _: usize) -> Result<()> {
        self.refuse("a cache of keys and values")
    }

    fn cache_append(&self, _: &mut (), _: usize, _: &Var<B>, _: HeadLayout, _: &Segments) -> Result<()> {
        self.refuse("a cache of keys and values")
    }

    fn cache_fork(&self, _: &mut (), _: usize, _: usize, _: usize) -> Result<()> {
        self.refuse("a cache of keys and values")
    }

    fn attention_cached(&self, _: &(), _: usize, _: &Var<B>, _: HeadLayout, _: &Segments) -> Result<Var<B>> {
        self.refuse("attention on a cache")
    }
}

impl<B: Adjoint> Sample for Tape<B> {
    type Sampler = ();

    fn sampler(&self, _: usize) -> Result<()> {
        self.refuse("the choice of a token")
    }

    fn mark_seen(&self, _: &mut (), _: &[u32]) -> Result<()> {
        self.refuse("the choice of a token")
    }

    fn sample(&self, _: &Var<B>, _: &mut (), _: &Sampling, _: u32) -> Result<B::Tokens> {
        self.refuse("the choice of a token")
    }
}
