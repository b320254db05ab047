//! Gradients, moments and masters in the card's memory, and the optimiser.

use std::rc::Rc;

use paddock_engine::{Error, Result};
use paddock_learn::optim::{AdamWStep, DynamicMap, Precision};
use paddock_learn::{Adjoint, Moment, StateLayout, Store};

use super::driver::{Driver, Slice};
use super::formats::Dtype;
use super::launch;
use super::weight::{Gradient, Role, Weight};
use super::{Cuda, expect};

/// What the optimiser keeps of one weight.
pub struct State<B> {
    gradient: Gradient<B>,
    moments: [Gradient<B>; 2],
    /// The lower bits of a master, 16 for each value.
    low: Option<B>,
}

impl<D: Driver> Cuda<D> {
    /// The magnitudes of the signed and the unsigned map of moments in eight bits.
    fn moment_maps(&self) -> Result<Rc<D::Buffer>> {
        let mut maps = self.0.moment_maps.borrow_mut();
        if let Some(maps) = &*maps {
            return Ok(maps.clone());
        }
        let magnitudes = [true, false].map(|signed| DynamicMap::of(signed).magnitudes()).concat();
        Ok(maps.insert(Rc::new(self.upload(bytemuck::cast_slice(&magnitudes))?)).clone())
    }

    fn new_moment(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Gradient<D::Buffer>> {
        match (self.formats().moments, precision) {
            // Small weights ask for f32 in any case; the format is the program's.
            (_, Precision::F32) | (Dtype::Bf16, Precision::Bf16Stochastic) => {
                self.new_array(label, shape, Role::Moment)
            }
            (_, Precision::Dynamic8 { signed }) => self.new_array(label, shape, Role::Moment8 { signed }),
            _ => Err(Error::Unsupported(format!("{label}: moments in this format need another program"))),
        }
    }
}

impl<D: Driver> Store<Self> for Cuda<D> {
    type State = State<D::Buffer>;
    /// An f64.
    type SquaredNorm = D::Buffer;

    fn state(&self, _: &Self, layout: &StateLayout) -> Result<Self::State> {
        let StateLayout { label, shape, precision, moments: [first, second] } = *layout;
        // Weights of f32 that are computed with in bf16 keep their lower bits, unless steps are rounded by chance.
        let is_split = match (self.values(), precision) {
            (Dtype::F32, Precision::F32) | (Dtype::Bf16, Precision::Bf16Stochastic) => false,
            (Dtype::Bf16, Precision::F32 | Precision::Bf16Split) => true,
            (Dtype::F32, Precision::Bf16Stochastic | Precision::Bf16Split) | (_, Precision::Dynamic8 { .. }) => {
                return Err(Error::Unsupported(format!("{label}: bf16 weights need a device that computes in bf16")));
            }
        };
        let gradient = Adjoint::gradient(self, label, shape)?;
        let moments = [self.new_moment(label, shape, first)?, self.new_moment(label, shape, second)?];
        let low = is_split.then(|| self.zeros(2 * gradient.count())).transpose()?;
        Ok(State { gradient, moments, low })
    }

    fn gradient<'s>(&self, _: &Self, state: &'s mut Self::State) -> Result<&'s mut Gradient<D::Buffer>> {
        Ok(&mut state.gradient)
    }

    async fn read_gradient(&self, _: &Self, state: &Self::State) -> Result<Vec<f32>> {
        self.read_array(&state.gradient)
    }

    fn squared_norm(&self, _: &Self, states: &[&Self::State]) -> Result<D::Buffer> {
        let gradients: Vec<&Gradient<D::Buffer>> = states.iter().map(|state| &state.gradient).collect();
        let counts = gradients.iter().map(|gradient| launch::squared_norm_parts(gradient.count() as u64));
        let all: u32 = counts.clone().sum();
        let sums = self.driver().alloc(8 * (1 + all as usize))?;
        let (total, parts) = (Slice::from(&sums), Slice::from(&sums).after(8));
        self.driver().clear(total, 8)?;
        let mut first = 0;
        for (gradient, count) in gradients.iter().zip(counts) {
            let (at, size) = (gradient.at(), gradient.count() as u64);
            self.launch(launch::squared_norm(parts.after(8 * first), at, size))?;
            first += count as usize;
        }
        self.launch(launch::squared_norm_total(total, parts, all))?;
        Ok(sums)
    }

    fn known_squared_norm(&self, _: &Self, squares: f64) -> Result<D::Buffer> {
        self.upload(&squares.to_le_bytes())
    }

    async fn read_squared_norm(&self, _: &Self, squares: &D::Buffer) -> Result<f64> {
        let mut bytes = [0; 8];
        self.driver().read(squares.into(), &mut bytes)?;
        Ok(f64::from_le_bytes(bytes))
    }

    async fn adamw(
        &self,
        _: &Self,
        weight: &mut Weight<D::Buffer>,
        state: &mut Self::State,
        squares: &D::Buffer,
        step: &AdamWStep,
    ) -> Result<()> {
        let State { gradient, moments: [first, second], low } = state;
        for other in [&*gradient, first, second] {
            expect("adamw", "a gradient and moments", other.shape(), weight.shape())?;
        }
        let values = (weight.at(), low.as_ref().map(Slice::from));
        let count = weight.count() as u64;
        match (first.role, second.role) {
            (Role::Moment, Role::Moment) => {
                let states = [gradient.at(), first.at(), second.at()];
                self.launch(launch::adamw(values, states, squares.into(), count, step))?;
            }
            (Role::Moment8 { signed: true }, Role::Moment8 { signed: false }) => {
                let maps = self.moment_maps()?;
                let moments = [first.at(), first.scales(), second.at(), second.scales(), Slice::from(&*maps)];
                self.launch(launch::adamw8(values, gradient.at(), moments, squares.into(), count, step))?;
            }
            _ => {
                let expected = format!("two moments of a kind for {}, the first with a sign", weight.label());
                let got = format!("{:?} and {:?}", first.role, second.role);
                return Err(Error::Shape { op: "adamw", expected, got });
            }
        }
        self.clear_array(gradient)
    }

    async fn read_moment(&self, _: &Self, state: &Self::State, moment: Moment) -> Result<Vec<f32>> {
        self.read_array(&state.moments[moment as usize])
    }

    fn write_moment(
        &self,
        _: &Self,
        state: &mut Self::State,
        moment: Moment,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        self.write_array(&state.moments[moment as usize], first, values)
    }

    fn has_master(&self, state: &Self::State) -> bool {
        state.low.is_some()
    }

    async fn read_master(&self, _: &Self, weight: &Weight<D::Buffer>, state: &Self::State) -> Result<Vec<f32>> {
        match &state.low {
            Some(low) => self.read_split(weight, low),
            None => self.read_floats(weight),
        }
    }

    fn write_master(
        &self,
        _: &Self,
        weight: &mut Weight<D::Buffer>,
        state: &mut Self::State,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        match &state.low {
            Some(low) => self.write_split(weight, low, first, values),
            None => self.write_floats(weight, first, values),
        }
    }
}
