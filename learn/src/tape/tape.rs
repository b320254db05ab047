//! The decorator itself: parameters, recording, and the backward pass.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use paddock_engine::backend::{WeightPart, pcg_hash};
use paddock_engine::{Error, Result};

use super::graph::{Graph, Var};
use super::op::Op;
use super::parameter::{Parameter, ParameterId, ParameterLayout, Parameters, foreign};
use crate::Adjoint;
use crate::collective::Sharding;
use crate::dropout::Dropout;
use crate::optim::{Moments, Precision};
use crate::store::Store;

/// Trains the models of the engine on the backend `B`: `Llama<Tape<B>>` is a `Llama<B>` whose weights have gradients, kept
/// in the store `S`. Cloning clones the handle.
///
/// While nothing is recorded (see [`Tape::pause`]) the same model decodes with a cache and samples, on the weights that are
/// trained.
pub struct Tape<B: Adjoint, S: Store<B> = B>(Rc<Inner<B, S>>);

struct Inner<B: Adjoint, S: Store<B>> {
    backend: B,
    store: S,
    sharding: Option<Sharding<B>>,
    options: TapeOptions,
    parameters: RefCell<Parameters<B, S>>,
    graph: RefCell<Graph<B>>,
    /// How many [`Pause`]s there are.
    pauses: RefCell<usize>,
    /// How many [`KeptWhole`]s there are.
    wholes: Cell<usize>,
    /// Seed of what a step draws.
    noise: Cell<u32>,
    /// Keys of the rows of the passes that follow.
    row_keys: RefCell<Option<B::Tokens>>,
}

/// How a tape keeps weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapeOptions {
    /// Keep one tensor a block of the forward pass, and compute the others anew in the backward pass: far less memory
    /// for a third more work.
    pub checkpointing: bool,
    /// How dense weights are held.
    pub precision: Precision,
    /// How the moments of trained weights are held.
    pub moments: Moments,
    /// Weights that a model loads get no gradients, and those that are quantised stay so; only adapters are trained.
    pub frozen: bool,
}

/// While it lives, its tape records nothing: for evaluation and for sampling.
pub struct Pause<B: Adjoint, S: Store<B>>(Tape<B, S>);

impl<B: Adjoint, S: Store<B>> Drop for Pause<B, S> {
    fn drop(&mut self) {
        *self.0.0.pauses.borrow_mut() -= 1;
    }
}

/// While it lives, all ranks keep the weights of its tape whole, so that each may run passes of its own: what is sampled on
/// one rank ends when it ends there.
pub struct KeptWhole<B: Adjoint, S: Store<B>>(Tape<B, S>);

impl<B: Adjoint, S: Store<B>> Drop for KeptWhole<B, S> {
    fn drop(&mut self) {
        let wholes = &self.0.0.wholes;
        wholes.set(wholes.get() - 1);
        self.0.release();
    }
}

/// The parameters, taken out of a tape while something waits for the device; they go back when it is dropped.
pub(super) struct Taken<'a, B: Adjoint, S: Store<B>> {
    cell: &'a RefCell<Parameters<B, S>>,
    parameters: Parameters<B, S>,
}

impl<B: Adjoint, S: Store<B>> Drop for Taken<'_, B, S> {
    fn drop(&mut self) {
        self.cell.replace(std::mem::take(&mut self.parameters));
    }
}

impl<B: Adjoint, S: Store<B>> Deref for Taken<'_, B, S> {
    type Target = Parameters<B, S>;

    fn deref(&self) -> &Self::Target {
        &self.parameters
    }
}

impl<B: Adjoint, S: Store<B>> DerefMut for Taken<'_, B, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.parameters
    }
}

impl<B: Adjoint, S: Store<B>> Clone for Tape<B, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Adjoint + Store<B>> Tape<B> {
    /// A tape that records on `backend` and keeps gradients and moments there.
    pub fn new(backend: B, options: TapeOptions) -> Self {
        Self::with_store(backend.clone(), backend, None, options)
    }
}

impl<B: Adjoint, S: Store<B>> Tape<B, S> {
    /// A tape that records on `backend` and keeps gradients and moments in `store`. With `sharding`, ranks share the
    /// parameters; all of them record the same operations and make the same backward passes.
    pub fn with_store(backend: B, store: S, sharding: Option<Sharding<B>>, options: TapeOptions) -> Self {
        Self(Rc::new(Inner {
            backend,
            store,
            sharding,
            options,
            parameters: RefCell::default(),
            graph: RefCell::default(),
            pauses: RefCell::new(0),
            wholes: Cell::new(0),
            noise: Cell::new(0),
            row_keys: RefCell::default(),
        }))
    }

    /// Whether both are handles of one tape.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The backend that computes.
    pub fn inner(&self) -> &B {
        &self.0.backend
    }

    /// Where gradients and moments lie.
    pub fn store(&self) -> &S {
        &self.0.store
    }

    /// How ranks share the parameters.
    pub fn sharding(&self) -> Option<&Sharding<B>> {
        self.0.sharding.as_ref()
    }

    /// How dense weights of the model are held.
    pub fn precision(&self) -> Precision {
        self.options().precision
    }

    pub(super) fn options(&self) -> TapeOptions {
        self.0.options
    }

    /// Stops recording until the result is dropped.
    #[must_use = "recording goes on when it is dropped"]
    pub fn pause(&self) -> Pause<B, S> {
        *self.0.pauses.borrow_mut() += 1;
        Pause(self.clone())
    }

    /// Puts the weights of all ranks together, until the result is dropped. All ranks do it at the same time.
    ///
    /// # Errors
    /// When a rank has ended, or the device has no room.
    pub fn keep_whole(&self) -> Result<KeptWhole<B, S>> {
        if let Some(sharding) = self.sharding() {
            let mut parameters = self.0.parameters.borrow_mut();
            let ids = (0..parameters.0.len()).map(ParameterId);
            parameters.fetch(self.inner(), sharding, ids, false)?;
        }
        self.0.wholes.set(self.0.wholes.get() + 1);
        Ok(KeptWhole(self.clone()))
    }

    /// Releases whole weights, where ranks hold parts of them and nobody keeps them.
    fn release(&self) {
        if let Some(sharding) = self.sharding().filter(|_| self.0.wholes.get() == 0) {
            self.0.parameters.borrow_mut().release(sharding);
        }
    }

    fn is_recording(&self) -> bool {
        *self.0.pauses.borrow() == 0
    }

    /// Sets the seed of what the passes of a step draw.
    pub fn set_noise(&self, seed: u32) {
        self.0.noise.set(seed);
    }

    /// Names the rows of the passes that follow, for dropout; see [`crate::dropout::row_key`].
    ///
    /// # Errors
    /// When the device has no room.
    pub fn set_row_keys(&self, keys: Option<&[u32]>) -> Result<()> {
        let keys = keys.map(|keys| self.inner().tokens(keys)).transpose()?;
        self.0.row_keys.replace(keys);
        Ok(())
    }

    /// What a weight whose inputs are dropped at random reads of `x`; `x` itself while nothing is recorded.
    pub(super) fn dropped(&self, x: &Var<B>, weight: ParameterId) -> Result<Var<B>> {
        let rate = self.with(weight, |parameter| parameter.input_dropout)?;
        if rate == 0.0 || !self.is_recording() {
            return Ok(x.clone());
        }
        let keys = self.0.row_keys.borrow().clone().ok_or_else(|| {
            Error::Unsupported(
                "adapters are not trained with dropout by this command; set lora-dropout to 0".to_string(),
            )
        })?;
        let dropout = Dropout { rate, seed: pcg_hash(weight.0 as u32 ^ self.0.noise.get()) };
        self.record([x], |[x]| Op::Dropout { x, keys, dropout })
    }

    /// The backward pass through what was recorded since the last call, from `seeds`: tensors and their gradients, row
    /// by row. Adds to the gradients of the parameters; the record is forgotten.
    ///
    /// # Errors
    /// When a seed does not fit its tensor, or the device fails.
    pub async fn backward(&self, seeds: &[(&Var<B>, Vec<f32>)]) -> Result<()> {
        let graph = self.0.graph.take();
        let backend = self.inner();
        let seeds = seeds.iter().filter_map(|(var, grad)| {
            let node = var.node?;
            Some(backend.tensor(backend.shape(&var.value), grad).map(|grad| (node, grad)))
        });
        let seeds = seeds.collect::<Result<Vec<_>>>()?;
        graph.backward(backend, self.store(), self.sharding(), &mut self.take(), seeds).await
    }

    /// Forgets what was recorded.
    pub fn forget(&self) {
        self.0.graph.take();
    }

    /// A new dense weight of zeros, `[rows, columns]`, with a gradient where it is `trained`: for adapters and heads.
    ///
    /// # Errors
    /// When there is no room.
    pub fn create_parameter(
        &self,
        label: &str,
        shape: [usize; 2],
        precision: Precision,
        trained: bool,
    ) -> Result<ParameterId> {
        let moments = trained.then(|| self.options().moments.precisions(shape[0] * shape[1]));
        let layout = ParameterLayout { label, shape, precision, moments };
        self.push(Parameter::dense(self.inner(), self.store(), self.sharding(), &layout)?)
    }

    /// Drops a share of what a weight reads whenever it is trained; see [`Tape::set_row_keys`].
    ///
    /// # Errors
    /// When it is another tape's.
    pub fn drop_inputs(&self, id: ParameterId, rate: f32) -> Result<()> {
        self.with(id, |parameter| parameter.input_dropout = rate)
    }

    /// The weight of a model that is being loaded.
    pub(super) fn load_parameter(&self, label: &str, cols: usize, parts: &[WeightPart]) -> Result<ParameterId> {
        let TapeOptions { precision, frozen, .. } = self.options();
        if frozen && parts.iter().any(|part| part.encoding.is_quantized()) {
            return self.push(Parameter::packed(self.inner(), label, cols, parts)?);
        }
        let rows = parts.iter().map(|part| part.rows).sum();
        let id = self.create_parameter(label, [rows, cols], precision, !frozen)?;
        self.with(id, |parameter| parameter.parts = parts.to_vec())?;
        Ok(id)
    }

    fn push(&self, parameter: Parameter<B, S>) -> Result<ParameterId> {
        let parameters = &mut self.0.parameters.borrow_mut().0;
        parameters.push(parameter);
        Ok(ParameterId(parameters.len() - 1))
    }

    pub(super) fn with<R>(&self, id: ParameterId, action: impl FnOnce(&mut Parameter<B, S>) -> R) -> Result<R> {
        self.0.parameters.borrow_mut().0.get_mut(id.0).map(action).ok_or_else(foreign)
    }

    /// All parameters, for something that waits in between.
    pub(super) fn take(&self) -> Taken<'_, B, S> {
        Taken { cell: &self.0.parameters, parameters: self.0.parameters.take() }
    }

    /// A block of the forward pass begins.
    pub(super) fn mark_block(&self) {
        if self.is_recording() {
            self.0.graph.borrow_mut().mark(self.options().checkpointing);
        }
        self.release();
    }

    /// The value of an activation that an operation without an adjoint reads.
    pub(super) fn unrecorded<'v>(&self, op: &'static str, var: &'v Var<B>) -> Result<&'v B::Tensor> {
        match var.node {
            None => Ok(&var.value),
            Some(_) => Err(Error::Unsupported(format!(
                "{op} has no backward pass; pause the tape while it generates with a cache"
            ))),
        }
    }

    /// Runs an operation on nodes, and records it when gradients flow through it.
    pub(super) fn record<const N: usize>(
        &self,
        operands: [&Var<B>; N],
        op: impl FnOnce([usize; N]) -> Op<B>,
    ) -> Result<Var<B>> {
        let mut graph = self.0.graph.borrow_mut();
        let before = graph.len();
        let op = op(operands.map(|var| graph.node(var)));
        let mut parameters = self.0.parameters.borrow_mut();
        if let Some(sharding) = self.sharding() {
            parameters.fetch(self.inner(), sharding, op.weights(), false)?;
            // Models load their weights in the order in which they use them.
            let next = op.weights().map(|id| ParameterId(id.0 + 1)).max_by_key(|id| id.0);
            parameters.prefetch(self.inner(), sharding, next.into_iter())?;
        }
        let flows = graph.wants(&op) || op.weights().any(|id| parameters.is_trained(id));
        // The operands' own values: those of the graph may have been dropped.
        let value = |node| {
            let known = operands.iter().find(|var| var.node == Some(node)).map(|var| var.value.clone());
            known.map_or_else(|| graph.value(node), Ok)
        };
        let value = op.run(self.inner(), &parameters, value)?.ok_or_else(foreign)?;
        let node = if self.is_recording() && flows {
            Some(graph.push(op, Some(value.clone()), true))
        } else {
            graph.truncate(before);
            None
        };
        Ok(Var { value, node })
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Device, Operations};
    use paddock_engine::weights::Encoding;
    use pollster::block_on;

    use super::*;
    use crate::collective::Stage;
    use crate::cpu::testing::numbers;
    use crate::store::Moment;
    use crate::testing::Twin;

    fn tape(options: TapeOptions) -> Tape<Cpu> {
        Tape::new(Cpu::with_threads(1), options)
    }

    #[test]
    fn a_handle_knows_its_tape_and_its_options() {
        let (one, other) = (tape(TapeOptions::default()), tape(TapeOptions::default()));
        assert!(one.is(&one.clone()) && !one.is(&other));
        assert!(one.sharding().is_none());
        assert_eq!(
            tape(TapeOptions { precision: Precision::Bf16Split, ..TapeOptions::default() }).precision(),
            Precision::Bf16Split
        );
        let (cpu, (sharding, _)) = (Cpu::with_threads(1), Twin::sharding(Stage::Two));
        let of_two = Tape::with_store(cpu.clone(), cpu, Some(sharding), TapeOptions::default());
        assert_eq!(of_two.sharding().map(|sharding| sharding.stage), Some(Stage::Two));
    }

    #[test]
    fn only_what_gradients_flow_through_is_recorded() {
        let tape = tape(TapeOptions::default());
        let weight = |trained| tape.create_parameter("w", [2, 2], Precision::F32, trained).unwrap();
        let (frozen, trained) = (weight(false), weight(true));
        let x = tape.tensor([1, 2], &[1.0, -1.0]).unwrap();
        let length = || tape.0.graph.borrow().len();
        assert!(tape.linear(&x, &frozen, None).unwrap().node.is_none());
        assert_eq!(length(), 0);
        let pause = tape.pause();
        assert!(tape.linear(&x, &trained, None).unwrap().node.is_none());
        assert_eq!(length(), 0, "the operand is forgotten, too");
        drop(pause);
        let y = tape.linear(&x, &trained, None).unwrap();
        let z = tape.linear(&y, &frozen, None).unwrap();
        assert_eq!((y.node, z.node, length()), (Some(1), Some(2), 3));
        tape.forget();
        assert_eq!(length(), 0);
    }

    /// As long as either differs, other values are dropped.
    #[test]
    fn each_weight_and_each_step_drop_values_of_their_own() {
        let tape = tape(TapeOptions::default());
        let values = numbers(64 * 64, 3);
        let weights = [0, 1].map(|_| {
            let id = tape.create_parameter("w", [64, 64], Precision::F32, true).unwrap();
            tape.write_parameter(id, 0, &values).unwrap();
            tape.drop_inputs(id, 0.5).unwrap();
            id
        });
        tape.set_row_keys(Some(&[9])).unwrap();
        let x = tape.tensor([1, 64], &numbers(64, 4)).unwrap();
        let mut seen: Vec<Vec<f32>> = Vec::new();
        // With these seeds a weight's number and the seed share no bits, some, or all.
        for (weight, noise) in [(1, 4), (1, 6), (1, 5), (0, 8), (0, 10), (0, 11)] {
            tape.set_noise(noise);
            let y = tape.linear(&x, &weights[weight], None).unwrap();
            seen.push(block_on(tape.read(&y)).unwrap());
        }
        for (at, values) in seen.iter().enumerate() {
            assert!(!seen[..at].contains(values), "{at}");
        }
        let pause = tape.pause();
        let whole = block_on(tape.read(&tape.linear(&x, &weights[0], None).unwrap())).unwrap();
        drop(pause);
        assert!(!seen.contains(&whole), "nothing is dropped while nothing is recorded");
    }

    #[test]
    fn large_weights_have_moments_of_fewer_bits() {
        let tape = tape(TapeOptions { moments: Moments::Bf16, ..TapeOptions::default() });
        for (shape, rounded) in [([64, 64], true), ([63, 65], false)] {
            let id = tape.create_parameter("w", shape, Precision::F32, true).unwrap();
            let value = 1.0 + 1.0 / 1024.0;
            tape.write_moment(id, Moment::First, 7, &[value]).unwrap();
            let read = block_on(tape.read_moment(id, Moment::First)).unwrap()[7];
            assert_eq!(read != value, rounded, "{shape:?}: {read}");
        }
    }

    #[test]
    fn a_quantised_weight_is_trained_unless_it_is_frozen() {
        for frozen in [false, true] {
            let tape = tape(TapeOptions { frozen, ..TapeOptions::default() });
            for encoding in [Encoding::Q8_0, Encoding::F32] {
                let id = tape.create_weight("w", 32, &[WeightPart { rows: 2, encoding }]).unwrap();
                let packed = tape.with(id, |parameter| parameter.packed).unwrap();
                assert_eq!(packed, frozen && encoding == Encoding::Q8_0);
            }
            assert!(tape.parameters().iter().all(|info| info.trained != frozen));
        }
    }
}
