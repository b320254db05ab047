//! Trainable matrices: whole, or in parts of which each rank holds one.

use paddock_engine::backend::WeightPart;
use paddock_engine::{Error, Result};

use crate::Adjoint;
use crate::collective::{Pending, Sharding, Stage};
use crate::optim::Precision;

/// A parameter of a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(pub(super) usize);

/// A low-rank addition to some outputs of a linear operation: `scale · b · a` on its weight (LoRA, arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// First output.
    pub first: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Rows of `a`, columns of `b`.
    pub rank: usize,
    /// Factor of the product.
    pub scale: f32,
    /// Names of `a` and `b`.
    pub labels: [String; 2],
}

/// A trainable matrix.
pub struct Parameter<B: Adjoint> {
    /// The name of the checkpoint's tensor, or of the first of those fused in it.
    pub label: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The values; this rank's part of them as a row, where ranks share the model.
    pub value: B::Param,
    /// The gradient, as the values; `None` while the parameter is frozen.
    pub grad: Option<B::Param>,
    /// The values of all ranks, while they are needed.
    whole: Option<B::Param>,
    /// The values of all ranks, on their way.
    gathering: Option<Pending<B>>,
    /// This rank's share of the gradient of all values, until it is summed up over the ranks.
    whole_grad: Option<B::Param>,
    /// The sum of such gradients over the ranks, on its way.
    summing: Option<Pending<B>>,
    precision: Precision,
    pub(super) parts: Vec<WeightPart>,
    pub(super) adapters: Vec<(Adapter, [Weight; 2])>,
}

/// What a new parameter is.
pub(super) struct Layout<'a> {
    pub label: &'a str,
    pub shape: [usize; 2],
    pub precision: Precision,
    pub trained: bool,
}

impl<B: Adjoint> Parameter<B> {
    pub(super) fn new(backend: &B, sharding: Option<&Sharding<B>>, layout: &Layout) -> Result<Self> {
        let Layout { label, shape, precision, trained } = *layout;
        let held = sharding.map_or(shape, |sharding| sharding.shard_shape(shape[0] * shape[1]));
        Ok(Self {
            label: label.to_string(),
            shape,
            value: backend.param(label, held, precision)?,
            grad: trained.then(|| backend.gradient(label, held)).transpose()?,
            whole: None,
            gathering: None,
            whole_grad: None,
            summing: None,
            precision,
            parts: Vec::new(),
            adapters: Vec::new(),
        })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the sum that is on its way.
    fn end_sum(&mut self, backend: &B) -> Result<()> {
        match (self.summing.take(), &mut self.grad) {
            (Some(end), Some(grad)) => end(backend, grad),
            _ => Ok(()),
        }
    }

    /// The precision of the whole that is put together from shards: no rank needs the others' masters.
    fn whole_precision(&self) -> Precision {
        match self.precision {
            Precision::Bf16Split => Precision::Bf16Stochastic,
            other => other,
        }
    }
}

/// All parameters of a tape.
pub(super) struct Parameters<B: Adjoint>(pub Vec<Parameter<B>>);

impl<B: Adjoint> Parameters<B> {
    /// The values that an operation reads; those of all ranks after [`Parameters::fetch`].
    pub fn value(&self, weight: Weight) -> Result<&B::Param> {
        self.0.get(weight.0).map(|parameter| parameter.whole.as_ref().unwrap_or(&parameter.value)).ok_or_else(foreign)
    }

    /// The values that an adjoint reads and the gradient that it adds to.
    pub fn get_mut(&mut self, weight: Weight) -> Result<(&B::Param, Option<&mut B::Param>)> {
        let parameter = self.0.get_mut(weight.0).ok_or_else(foreign)?;
        match &parameter.whole {
            Some(whole) => Ok((whole, parameter.whole_grad.as_mut())),
            None => Ok((&parameter.value, parameter.grad.as_mut())),
        }
    }

    pub fn is_trained(&self, weight: Weight) -> bool {
        self.0.get(weight.0).is_some_and(|parameter| parameter.grad.is_some())
    }

    /// Puts `weights` together where they are not yet; with `grads`, makes room for their gradients.
    pub fn fetch(
        &mut self,
        backend: &B,
        sharding: &Sharding<B>,
        weights: impl Iterator<Item = Weight>,
        grads: bool,
    ) -> Result<()> {
        for weight in weights {
            let parameter = self.0.get_mut(weight.0).ok_or_else(foreign)?;
            if parameter.whole.is_none() {
                let end = match parameter.gathering.take() {
                    Some(begun) => begun,
                    None => sharding.ranks.begin_gather(backend, &parameter.value)?,
                };
                let mut whole = backend.param(&parameter.label, parameter.shape, parameter.whole_precision())?;
                end(backend, &mut whole)?;
                parameter.whole = Some(whole);
            }
            if grads && parameter.grad.is_some() && parameter.whole_grad.is_none() {
                parameter.whole_grad = Some(backend.gradient(&parameter.label, parameter.shape)?);
            }
        }
        Ok(())
    }

    /// Begins to put together what will be needed next, beside what is computed meanwhile: in stage 3, where weights are
    /// let go.
    pub fn prefetch(
        &mut self,
        backend: &B,
        sharding: &Sharding<B>,
        weights: impl Iterator<Item = Weight>,
    ) -> Result<()> {
        if sharding.stage != Stage::Three {
            return Ok(());
        }
        for weight in weights {
            let Some(parameter) = self.0.get_mut(weight.0) else { continue };
            if parameter.whole.is_none() && parameter.gathering.is_none() {
                parameter.gathering = Some(sharding.ranks.begin_gather(backend, &parameter.value)?);
            }
        }
        Ok(())
    }

    /// Lets go what is not kept beyond a block: weights, from stage 3 on.
    pub fn release(&mut self, sharding: &Sharding<B>) {
        if sharding.stage == Stage::Three {
            self.0.iter_mut().for_each(|parameter| parameter.whole = None);
        }
    }

    /// Begins to sum the gradients up over the ranks, beside what is computed until the next call, which ends it. Room for
    /// whole gradients is kept in stage 1 alone.
    pub fn begin_sums(&mut self, backend: &B, sharding: &Sharding<B>) -> Result<()> {
        let mut begun = Vec::new();
        for (index, parameter) in self.0.iter_mut().enumerate() {
            let Some(mut whole) = parameter.whole_grad.take() else { continue };
            begun.push((index, sharding.ranks.begin_sum(backend, &whole)?));
            if sharding.stage == Stage::One {
                backend.clear_param(&mut whole)?;
                parameter.whole_grad = Some(whole);
            }
        }
        self.end_sums(backend)?;
        begun.into_iter().for_each(|(index, sum)| self.0[index].summing = Some(sum));
        Ok(())
    }

    /// Ends what [`Parameters::begin_sums`] began.
    pub fn end_sums(&mut self, backend: &B) -> Result<()> {
        self.0.iter_mut().try_for_each(|parameter| parameter.end_sum(backend))
    }

    /// Nothing adds to the gradients of `weights` until another block of the walk back does.
    pub fn settle(&mut self, backend: &B, weights: impl Iterator<Item = Weight>) -> Result<()> {
        for weight in weights {
            if let (_, Some(grad)) = self.get_mut(weight)? {
                backend.settle(grad)?;
            }
        }
        Ok(())
    }

    /// After a block of the walk back.
    pub fn end_block(&mut self, backend: &B, sharding: &Sharding<B>) -> Result<()> {
        if sharding.stage >= Stage::Two {
            self.begin_sums(backend, sharding)?;
        }
        self.release(sharding);
        Ok(())
    }

    /// Brings the trained weights that are kept whole to what the steps of all ranks made of their parts.
    pub fn refresh(&mut self, backend: &B, sharding: &Sharding<B>) -> Result<()> {
        for parameter in self.0.iter_mut().filter(|parameter| parameter.grad.is_some()) {
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
