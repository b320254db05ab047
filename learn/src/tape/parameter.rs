//! The weights of a tape: whole, or in parts of which each rank holds one.

use paddock_engine::backend::WeightPart;
use paddock_engine::{Error, Result};

use crate::Adjoint;
use crate::collective::{PendingGather, PendingSum, Sharding, Stage};
use crate::optim::Precision;
use crate::store::{StateLayout, Store};

/// Names a weight of a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterId(pub(super) usize);

/// A weight of a tape: trained, or frozen in whatever encoding it was loaded.
pub struct Parameter<B: Adjoint, S: Store<B>> {
    /// The name of the checkpoint's tensor, or of the first of those fused in it.
    pub label: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The weight that operations read; this rank's part of it as a row, where ranks share it.
    pub value: B::Weight,
    /// Gradient, moments and master, in parts as the weight; `None` while it is frozen.
    pub state: Option<S::State>,
    /// The weight of all ranks, while it is needed.
    whole: Option<B::Weight>,
    /// The weight of all ranks, on its way.
    gathering: Option<PendingGather<B>>,
    /// This rank's share of the gradient of the whole weight, until it is summed over the ranks.
    whole_gradient: Option<B::Gradient>,
    /// The sum of such gradients over the ranks, on its way.
    summing: Option<PendingSum<B>>,
    precision: Precision,
    /// Whether each rank holds a part of it. A packed weight is whole on every rank.
    shared: bool,
    /// Whether it is held in the encodings of its parts, not as dense values.
    pub(super) packed: bool,
    pub(super) parts: Vec<WeightPart>,
    /// The share of its inputs that are dropped while it is trained.
    pub(super) input_dropout: f32,
}

/// What a new parameter is.
pub(super) struct ParameterLayout<'a> {
    pub label: &'a str,
    pub shape: [usize; 2],
    /// How a dense weight is held.
    pub precision: Precision,
    /// How the moments of a trained weight are held; `None` freezes it.
    pub moments: Option<[Precision; 2]>,
}

impl<B: Adjoint, S: Store<B>> Parameter<B, S> {
    /// A dense weight of zeros.
    pub(super) fn dense(
        backend: &B,
        store: &S,
        sharding: Option<&Sharding<B>>,
        layout: &ParameterLayout,
    ) -> Result<Self> {
        let ParameterLayout { label, shape, precision, moments } = *layout;
        let held = sharding.map_or(shape, |sharding| sharding.shard_shape(shape[0] * shape[1]));
        let part = |rows| WeightPart { rows, encoding: precision.encoding() };
        let state = |moments| store.state(backend, &StateLayout { label, shape: held, precision, moments });
        Ok(Self {
            label: label.to_string(),
            shape,
            value: backend.create_weight(label, held[1], &[part(held[0])])?,
            state: moments.map(state).transpose()?,
            whole: None,
            gathering: None,
            whole_gradient: None,
            summing: None,
            precision,
            shared: sharding.is_some(),
            packed: false,
            parts: vec![part(shape[0])],
            input_dropout: 0.0,
        })
    }

    /// A frozen weight in the encodings of its `parts`, whole on every rank.
    pub(super) fn packed(backend: &B, label: &str, cols: usize, parts: &[WeightPart]) -> Result<Self> {
        Ok(Self {
            label: label.to_string(),
            shape: [parts.iter().map(|part| part.rows).sum(), cols],
            value: backend.create_weight(label, cols, parts)?,
            state: None,
            whole: None,
            gathering: None,
            whole_gradient: None,
            summing: None,
            precision: Precision::F32,
            shared: false,
            packed: true,
            parts: parts.to_vec(),
            input_dropout: 0.0,
        })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Adds the sum that is on its way.
    fn end_sum(&mut self, backend: &B, store: &S) -> Result<()> {
        match (self.summing.take(), &mut self.state) {
            (Some(end), Some(state)) => end(backend, store.gradient(backend, state)?),
            _ => Ok(()),
        }
    }
}

/// All parameters of a tape.
pub(super) struct Parameters<B: Adjoint, S: Store<B>>(pub Vec<Parameter<B, S>>);

impl<B: Adjoint, S: Store<B>> Default for Parameters<B, S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: Adjoint, S: Store<B>> Parameters<B, S> {
    /// The weight that an operation reads; that of all ranks after [`Parameters::fetch`].
    pub fn value(&self, id: ParameterId) -> Result<&B::Weight> {
        self.0.get(id.0).map(|parameter| parameter.whole.as_ref().unwrap_or(&parameter.value)).ok_or_else(foreign)
    }

    /// The weight that an adjoint reads and the gradient that it adds to.
    pub fn with_gradient(
        &mut self,
        backend: &B,
        store: &S,
        id: ParameterId,
    ) -> Result<(&B::Weight, Option<&mut B::Gradient>)> {
        let parameter = self.0.get_mut(id.0).ok_or_else(foreign)?;
        match &parameter.whole {
            Some(whole) => Ok((whole, parameter.whole_gradient.as_mut())),
            None => {
                let gradient = parameter.state.as_mut().map(|state| store.gradient(backend, state)).transpose()?;
                Ok((&parameter.value, gradient))
            }
        }
    }

    pub fn is_trained(&self, id: ParameterId) -> bool {
        self.0.get(id.0).is_some_and(|parameter| parameter.state.is_some())
    }

    /// Puts weights together where they are not yet; with `gradients`, makes room for their gradients.
    pub fn fetch(
        &mut self,
        backend: &B,
        sharding: &Sharding<B>,
        ids: impl Iterator<Item = ParameterId>,
        gradients: bool,
    ) -> Result<()> {
        for id in ids {
            let parameter = self.0.get_mut(id.0).ok_or_else(foreign)?;
            if !parameter.shared {
                continue;
            }
            if parameter.whole.is_none() {
                let end = match parameter.gathering.take() {
                    Some(begun) => begun,
                    None => sharding.ranks.begin_gather(backend, &parameter.value)?,
                };
                let [rows, cols] = parameter.shape;
                let part = WeightPart { rows, encoding: parameter.precision.encoding() };
                let mut whole = backend.create_weight(&parameter.label, cols, &[part])?;
                end(backend, &mut whole)?;
                parameter.whole = Some(whole);
            }
            if gradients && parameter.state.is_some() && parameter.whole_gradient.is_none() {
                parameter.whole_gradient = Some(backend.gradient(&parameter.label, parameter.shape)?);
            }
        }
        Ok(())
    }

    /// In stage 3, where weights are released, begins to put together what will be needed next, beside what is computed
    /// meanwhile.
    pub fn prefetch(
        &mut self,
        backend: &B,
        sharding: &Sharding<B>,
        ids: impl Iterator<Item = ParameterId>,
    ) -> Result<()> {
        if sharding.stage != Stage::Three {
            return Ok(());
        }
        for id in ids {
            let Some(parameter) = self.0.get_mut(id.0).filter(|parameter| parameter.shared) else { continue };
            if parameter.whole.is_none() && parameter.gathering.is_none() {
                parameter.gathering = Some(sharding.ranks.begin_gather(backend, &parameter.value)?);
            }
        }
        Ok(())
    }

    /// Releases what is not kept beyond a block: whole weights, in stage 3.
    pub fn release(&mut self, sharding: &Sharding<B>) {
        if sharding.stage == Stage::Three {
            self.0.iter_mut().for_each(|parameter| parameter.whole = None);
        }
    }

    /// Begins to sum the gradients over the ranks, beside what is computed until the next call, which ends it. Room for
    /// whole gradients is kept in stage 1 alone.
    pub fn begin_sums(&mut self, backend: &B, store: &S, sharding: &Sharding<B>) -> Result<()> {
        let mut begun = Vec::new();
        for (index, parameter) in self.0.iter_mut().enumerate() {
            let Some(mut whole) = parameter.whole_gradient.take() else { continue };
            begun.push((index, sharding.ranks.begin_sum(backend, &whole)?));
            if sharding.stage == Stage::One {
                backend.clear_gradient(&mut whole)?;
                parameter.whole_gradient = Some(whole);
            }
        }
        self.end_sums(backend, store)?;
        begun.into_iter().for_each(|(index, sum)| self.0[index].summing = Some(sum));
        Ok(())
    }

    /// Ends what [`Parameters::begin_sums`] began.
    pub fn end_sums(&mut self, backend: &B, store: &S) -> Result<()> {
        self.0.iter_mut().try_for_each(|parameter| parameter.end_sum(backend, store))
    }

    /// Nothing adds to gradients until another block of the backward pass does.
    pub async fn settle(&mut self, backend: &B, store: &S) -> Result<()> {
        for parameter in &mut self.0 {
            if let Some(state) = &mut parameter.state {
                store.settle(backend, state).await?;
            }
        }
        Ok(())
    }

    /// After a block of the backward pass.
    pub fn end_block(&mut self, backend: &B, store: &S, sharding: &Sharding<B>) -> Result<()> {
        if sharding.stage >= Stage::Two {
            self.begin_sums(backend, store, sharding)?;
        }
        self.release(sharding);
        Ok(())
    }

    /// Brings the trained weights that are kept whole to what the steps of all ranks made of their parts.
    pub fn refresh(&mut self, backend: &B, sharding: &Sharding<B>) -> Result<()> {
        for parameter in self.0.iter_mut().filter(|parameter| parameter.state.is_some()) {
            // Of the weights before the step.
            parameter.gathering = None;
            if let Some(whole) = &mut parameter.whole {
                sharding.ranks.begin_gather(backend, &parameter.value)?(backend, whole)?;
            }
        }
        Ok(())
    }
}

pub(super) fn foreign() -> Error {
    Error::Shape { op: "tape", expected: "a weight of this tape".to_string(), got: "another's".to_string() }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Cpu, Device, Operations};
    use pollster::block_on;

    use crate::collective::Stage;
    use crate::cpu::testing::numbers;
    use crate::optim::{AdamW, OptimizerStep, Precision};
    use crate::tape::{ParameterId, Tape, TapeOptions, Var};
    use crate::testing::Twin;
    use crate::{Offload, Store};

    const STAGES: [Stage; 3] = [Stage::One, Stage::Two, Stage::Three];

    /// An embedding `[4, 2]` and a head `[3, 2]`, on one rank of two or alone.
    struct Model<S: Store<Cpu>> {
        tape: Tape<Cpu, S>,
        ids: [ParameterId; 2],
    }

    impl<S: Store<Cpu>> Model<S> {
        fn on(tape: Tape<Cpu, S>) -> Self {
            let create = |label, rows, seed| {
                let id = tape.create_parameter(label, [rows, 2], Precision::F32, true).unwrap();
                tape.write_parameter(id, 0, &numbers(2 * rows, seed)).unwrap();
                id
            };
            let ids = [create("embedding", 4, 1), create("head", 3, 2)];
            Self { tape, ids }
        }

        fn embed(&self) -> Var<Cpu> {
            self.tape.embed(&self.ids[0], &self.tape.tokens(&[3, 1]).unwrap()).unwrap()
        }

        fn forward(&self) -> Var<Cpu> {
            self.tape.linear(&self.embed(), &self.ids[1], None).unwrap()
        }

        fn learn(&self) {
            let y = self.forward();
            block_on(self.tape.backward(&[(&y, numbers(6, 3))])).unwrap();
        }

        fn gradients(&self) -> Vec<f32> {
            self.ids.iter().flat_map(|id| block_on(self.tape.read_gradient(*id)).unwrap()).collect()
        }
    }

    fn of_two(stage: Stage) -> (Model<Cpu>, impl Fn() -> [usize; 4]) {
        let (cpu, (sharding, twin)) = (Cpu::with_threads(1), Twin::sharding(stage));
        let tape = Tape::with_store(cpu.clone(), cpu, Some(sharding), TapeOptions::default());
        (Model::on(tape), move || twin.counts())
    }

    fn alone() -> Model<Cpu> {
        Model::on(Tape::new(Cpu::with_threads(1), TapeOptions::default()))
    }

    const STEP: OptimizerStep = OptimizerStep {
        number: 1,
        learning_rate: 0.1,
        adamw: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_rule: crate::optim::DecayRule::Transformers,
        },
        max_grad_norm: 0.0,
        seed: 0,
    };

    #[test]
    fn stage_three_gathers_what_comes_next_and_releases_it_after_a_block() {
        let (model, counts) = of_two(Stage::Three);
        model.embed();
        assert_eq!(counts()[..2], [2, 1], "the head is on its way");
        model.embed();
        assert_eq!(counts()[..2], [2, 1], "and does not set out twice");
        model.forward();
        assert_eq!(counts()[..2], [2, 2]);
        model.tape.enter_block(0).unwrap();
        model.forward();
        assert_eq!(counts()[..2], [4, 4], "released by the end of the block");
    }

    #[test]
    fn kept_whole_a_tape_gathers_once_however_many_passes_run() {
        for stage in STAGES {
            let (model, counts) = of_two(stage);
            let whole = model.tape.keep_whole().unwrap();
            assert_eq!(counts()[..2], [2, 2], "{stage}");
            for _ in 0..3 {
                model.tape.enter_block(0).unwrap();
                model.forward();
            }
            assert_eq!(counts()[..2], [2, 2], "{stage}");
            drop(whole);
            model.forward();
            let anew = if stage == Stage::Three { 2 } else { 0 };
            assert_eq!(counts()[..2], [2 + anew; 2], "{stage}");
        }
    }

    #[test]
    fn stages_one_and_two_gather_once() {
        for stage in [Stage::One, Stage::Two] {
            let (model, counts) = of_two(stage);
            model.embed();
            assert_eq!(counts()[..2], [1, 1], "{stage}: what is kept needs no head start");
            model.forward();
            model.tape.enter_block(0).unwrap();
            model.forward();
            assert_eq!(counts()[..2], [2, 2], "{stage}");
        }
    }

    #[test]
    fn gradients_are_sums_over_ranks_and_backward_passes() {
        let expected = alone();
        expected.learn();
        expected.learn();
        let expected: Vec<f32> = expected.gradients().iter().map(|value| 2.0 * value).collect();
        for stage in STAGES {
            let (model, counts) = of_two(stage);
            model.learn();
            let begun_at_once = if stage == Stage::One { 0 } else { 2 };
            assert_eq!(counts()[2..], [begun_at_once, 0], "{stage}: they end beside what comes next");
            model.learn();
            block_on(model.tape.reduce_gradients()).unwrap();
            let sums = if stage == Stage::One { 2 } else { 4 };
            assert_eq!(counts()[2..], [sums, sums], "{stage}");
            let got = model.gradients();
            let error = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
            assert!(error < 1e-5, "{stage}: {got:?}, expected {expected:?}");
            // Room that is kept holds nothing that would be added again.
            block_on(model.tape.reduce_gradients()).unwrap();
            assert_eq!(model.gradients(), got, "{stage}");
            // Only stage one keeps it: two more sums, of zeros.
            assert_eq!(counts()[2], 4, "{stage}");
        }
    }

    #[test]
    fn a_forward_pass_makes_no_gradients() {
        for stage in STAGES {
            let (model, counts) = of_two(stage);
            let pause = model.tape.pause();
            model.forward();
            drop(pause);
            block_on(model.tape.reduce_gradients()).unwrap();
            assert_eq!(counts()[2..], [0, 0], "{stage}");
        }
    }

    #[test]
    fn after_a_step_ranks_compute_with_the_new_weights() {
        for stage in STAGES {
            let (model, _) = of_two(stage);
            let before = block_on(model.tape.read_parameter(model.ids[0])).unwrap();
            model.learn();
            model.embed();
            model.tape.forget();
            block_on(model.tape.step(None, &STEP)).unwrap();
            let after = block_on(model.tape.read_parameter(model.ids[0])).unwrap();
            assert_ne!(after, before);
            let rows = block_on(model.tape.read(&model.embed())).unwrap();
            assert_eq!(rows, [&after[6..8], &after[2..4]].concat(), "{stage}");
            let head = block_on(model.tape.read_parameter(model.ids[1])).unwrap();
            let scores = block_on(model.tape.read(&model.forward())).unwrap();
            assert!((scores[0] - (rows[0] * head[0] + rows[1] * head[1])).abs() < 1e-6, "{stage}");
        }
    }

    #[test]
    fn gradients_leave_the_device_with_the_block() {
        let cpu = Cpu::with_threads(1);
        let model = Model::on(Tape::with_store(cpu, Offload::new(), None, TapeOptions::default()));
        model.learn();
        let squares = model.tape.squared_norm(None).unwrap();
        let expected = alone();
        expected.learn();
        assert_eq!(squares, expected.tape.squared_norm(None).unwrap());
        assert_eq!(model.gradients(), expected.gradients());
    }

    #[test]
    fn a_step_may_be_for_some_parameters_only() {
        let model = alone();
        model.learn();
        let squares = |trained| model.tape.squared_norm(trained).unwrap();
        assert!((squares(None) - squares(Some(&model.ids[..1])) - squares(Some(&model.ids[1..]))).abs() < 1e-9);
        let head = block_on(model.tape.read_parameter(model.ids[1])).unwrap();
        block_on(model.tape.step(Some(&model.ids[..1]), &STEP)).unwrap();
        assert_eq!(block_on(model.tape.read_parameter(model.ids[1])).unwrap(), head);
    }

    #[test]
    fn both_weights_of_a_layer_norm_are_gathered() {
        let (model, counts) = of_two(Stage::Two);
        let [gain, bias] = [[2.0, 3.0], [0.5, -0.5]].map(|values| {
            let id = model.tape.create_parameter("norm", [1, 2], Precision::F32, true).unwrap();
            model.tape.write_parameter(id, 0, &values).unwrap();
            id
        });
        let x = model.tape.tensor([1, 2], &[1.0, 3.0]).unwrap();
        let y = model.tape.layer_norm(&x, &gain, &bias, 0.0).unwrap();
        assert_eq!(counts()[..2], [2, 2]);
        let got = block_on(model.tape.read(&y)).unwrap();
        assert!((got[0] + 1.5).abs() < 1e-5 && (got[1] - 2.5).abs() < 1e-5, "{got:?}");
    }
}
