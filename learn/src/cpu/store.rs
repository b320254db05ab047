//! Gradients, moments and masters in the processor's own memory.

use paddock_engine::backend::Cpu;
use paddock_engine::backend::cpu::{ValuesMut, Weight};
use paddock_engine::{Error, Result};

use super::gradient::no_room;
use super::storage::MomentValues;
use super::{Gradient, adamw, weight};
use crate::optim::{AdamWStep, Precision, join, split};
use crate::store::{Moment, StateLayout, Store};

/// What the optimiser keeps of one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(super) gradient: Gradient,
    pub(super) moments: [MomentValues; 2],
    /// What [`split`] cut off the master, where steps have the precision of f32.
    pub(super) low: Option<Vec<i16>>,
}

impl State {
    /// The gradient.
    pub fn gradient(&self) -> &Gradient {
        &self.gradient
    }

    pub(crate) fn gradient_mut(&mut self) -> &mut Gradient {
        &mut self.gradient
    }
}

impl Store<Self> for Cpu {
    type State = State;
    type SquaredNorm = f64;

    fn state(&self, _: &Self, layout: &StateLayout) -> Result<State> {
        let gradient = Gradient::zeros(layout.label, layout.shape)?;
        let size = gradient.values.len();
        let moment = |precision| MomentValues::zeros(precision, size).map_err(|_| no_room(layout.label));
        let [first, second] = layout.moments;
        let low = (layout.precision == Precision::Bf16Split).then(|| vec![0; size]);
        Ok(State { gradient, moments: [moment(first)?, moment(second)?], low })
    }

    fn gradient<'s>(&self, _: &Self, state: &'s mut State) -> Result<&'s mut Gradient> {
        Ok(&mut state.gradient)
    }

    async fn read_gradient(&self, _: &Self, state: &State) -> Result<Vec<f32>> {
        Ok(state.gradient.values.clone())
    }

    fn squared_norm(&self, _: &Self, states: &[&State]) -> Result<f64> {
        Ok(states.iter().map(|state| state.gradient.squared_norm()).sum())
    }

    fn known_squared_norm(&self, _: &Self, squares: f64) -> Result<f64> {
        Ok(squares)
    }

    async fn read_squared_norm(&self, _: &Self, squares: &f64) -> Result<f64> {
        Ok(*squares)
    }

    async fn adamw(
        &self,
        _: &Self,
        weight: &mut Weight,
        state: &mut State,
        squares: &f64,
        step: &AdamWStep,
    ) -> Result<()> {
        adamw::adamw(self, weight, state, *squares, step)?;
        state.gradient.values.fill(0.0);
        Ok(())
    }

    async fn read_moment(&self, _: &Self, state: &State, moment: Moment) -> Result<Vec<f32>> {
        Ok(state.moments[moment as usize].floats())
    }

    fn write_moment(&self, _: &Self, state: &mut State, moment: Moment, first: usize, values: &[f32]) -> Result<()> {
        let moment = &mut state.moments[moment as usize];
        if first.checked_add(values.len()).is_none_or(|end| end > moment.len()) {
            let (expected, got) =
                (format!("at most {} values", moment.len()), format!("{} from {first}", values.len()));
            return Err(Error::Shape { op: "write_moment", expected, got });
        }
        moment.write(first, values);
        Ok(())
    }

    fn has_master(&self, state: &State) -> bool {
        state.low.is_some()
    }

    async fn read_master(&self, _: &Self, weight: &Weight, state: &State) -> Result<Vec<f32>> {
        let mut values = weight::floats(self, weight)?.into_owned();
        if let Some(low) = &state.low {
            values.iter_mut().zip(low).for_each(|(value, low)| *value = join(half::bf16::from_f32(*value), *low));
        }
        Ok(values)
    }

    fn write_master(
        &self,
        _: &Self,
        weight: &mut Weight,
        state: &mut State,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        let Some(low) = &mut state.low else { return weight::write_values(weight, first, values) };
        if !matches!(weight.values_mut()?, ValuesMut::Bf16(_)) {
            let got = "a weight of f32 with a master".to_string();
            return Err(Error::Shape { op: "write_master", expected: "a weight of bf16".to_string(), got });
        }
        let rounded: Vec<f32> = values.iter().map(|value| split(*value).0.to_f32()).collect();
        weight::write_values(weight, first, &rounded)?;
        low[first..first + values.len()].iter_mut().zip(values).for_each(|(low, value)| *low = split(*value).1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::{Device, WeightPart};
    use pollster::block_on;

    use super::*;
    use crate::{Adjoint, Parameters};

    const SHAPE: [usize; 2] = [2, 3];
    const VALUES: [f32; 6] = [1.0, 1.0 + 1.0 / 1024.0, -2.0, 3.0, 0.5, 0.25];

    fn held(precision: Precision) -> (Cpu, Weight, State) {
        let cpu = Cpu::with_threads(1);
        let part = WeightPart { rows: SHAPE[0], encoding: precision.encoding() };
        let weight = cpu.create_weight("w", SHAPE[1], &[part]).unwrap();
        let layout = StateLayout { label: "w", shape: SHAPE, precision, moments: [Precision::F32; 2] };
        let state = cpu.state(&cpu, &layout).unwrap();
        (cpu, weight, state)
    }

    #[test]
    fn sums_of_squares_are_numbers_of_the_host() {
        let (cpu, weight, mut state) = held(Precision::F32);
        assert_eq!(cpu.weight_shape(&weight), SHAPE);
        let gradient = Store::gradient(&cpu, &cpu, &mut state).unwrap();
        cpu.write_gradient(gradient, &[3.0, -4.0, 0.0, 0.0, 0.5, 0.0]).unwrap();
        assert_eq!(cpu.squared_norm(&cpu, &[&state, &state]).unwrap(), 50.5);
        cpu.clear_gradient(Store::gradient(&cpu, &cpu, &mut state).unwrap()).unwrap();
        assert_eq!(cpu.squared_norm(&cpu, &[&state]).unwrap(), 0.0);
        assert_eq!(cpu.known_squared_norm(&cpu, 2.5).unwrap(), 2.5);
        assert_eq!(block_on(Store::<Cpu>::read_squared_norm(&cpu, &cpu, &2.5)).unwrap(), 2.5);
    }

    #[test]
    fn a_split_weight_alone_has_a_master() {
        for precision in [Precision::F32, Precision::Bf16Stochastic, Precision::Bf16Split] {
            let (cpu, mut weight, mut state) = held(precision);
            assert_eq!(cpu.has_master(&state), precision == Precision::Bf16Split);
            cpu.write_master(&cpu, &mut weight, &mut state, 0, &VALUES).unwrap();
            cpu.write_master(&cpu, &mut weight, &mut state, 3, &[1.0 - 1.0 / 2048.0, 2.0, 4.0]).unwrap();
            let expected = match precision {
                Precision::Bf16Stochastic => [1.0, 1.0, -2.0, 1.0, 2.0, 4.0],
                _ => [1.0, VALUES[1], -2.0, 1.0 - 1.0 / 2048.0, 2.0, 4.0],
            };
            assert_eq!(block_on(cpu.read_master(&cpu, &weight, &state)).unwrap(), expected, "{precision:?}");
        }
    }

    #[test]
    fn moments_are_written_where_they_fit() {
        let (cpu, _, mut state) = held(Precision::F32);
        cpu.write_moment(&cpu, &mut state, Moment::First, 4, &[0.5, 0.25]).unwrap();
        assert!(cpu.write_moment(&cpu, &mut state, Moment::First, 5, &[0.5, 0.25]).is_err());
        let read = block_on(cpu.read_moment(&cpu, &state, Moment::First)).unwrap();
        assert_eq!(read, [0.0, 0.0, 0.0, 0.0, 0.5, 0.25]);
    }
}
