//! The optimiser's state in the host's memory.

use paddock_engine::backend::cpu::Weight;
use paddock_engine::backend::{Cpu, Device, WeightPart};
use paddock_engine::{Error, Result};

use crate::cpu::State as HostState;
use crate::optim::{AdamWStep, Precision, split};
use crate::store::{Moment, StateLayout, Store};
use crate::{Adjoint, Parameters};

/// A store on the host for a device with little memory. The device holds the weights and, during a backward pass, the
/// gradients of one block. When a block is done its gradients go to the host, where moments and masters lie; the step is
/// the CPU's, and the new weights go to the device. A gradient that another block adds to is brought back first, so that
/// its sum is made in the same order as without offload, to the same bits.
#[derive(Debug, Clone, Default)]
pub struct Offload {
    host: Cpu,
}

impl Offload {
    /// A store that uses every thread of the host.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Gradient, moments and master of one weight.
pub struct OffloadedState<B: Adjoint> {
    label: String,
    shape: [usize; 2],
    precision: Precision,
    host: HostState,
    /// The values that steps are added to, where the device holds fewer bits of them.
    master: Option<Weight>,
    /// The gradient while something is added to it.
    device: Option<B::Gradient>,
    /// Whether the host's gradient is all zeros.
    empty: bool,
}

impl Offload {
    fn weight(&self, label: &str, shape: [usize; 2], precision: Precision) -> Result<Weight> {
        let part = WeightPart { rows: shape[0], encoding: precision.encoding() };
        self.host.create_weight(label, shape[1], &[part])
    }
}

impl<B: Adjoint> Store<B> for Offload {
    type State = OffloadedState<B>;
    type SquaredNorm = f64;

    fn state(&self, backend: &B, layout: &StateLayout) -> Result<Self::State> {
        let StateLayout { label, shape, precision, .. } = *layout;
        let host = self.host.state(&self.host, layout)?;
        let encoding = precision.encoding();
        let rounds = precision == Precision::Bf16Split || backend.held_in(encoding) != encoding;
        let master = rounds.then(|| self.weight(label, shape, precision)).transpose()?;
        Ok(OffloadedState { label: label.to_string(), shape, precision, host, master, device: None, empty: true })
    }

    fn gradient<'s>(&self, backend: &B, state: &'s mut Self::State) -> Result<&'s mut B::Gradient> {
        let gradient = match state.device.take() {
            Some(gradient) => gradient,
            None => {
                let mut gradient = backend.gradient(&state.label, state.shape)?;
                if !state.empty {
                    backend.write_gradient(&mut gradient, state.host.gradient().values())?;
                }
                gradient
            }
        };
        Ok(state.device.insert(gradient))
    }

    async fn settle(&self, backend: &B, state: &mut Self::State) -> Result<()> {
        if let Some(gradient) = state.device.take() {
            let values = backend.read_gradient(&gradient).await?;
            self.host.write_gradient(state.host.gradient_mut(), &values)?;
            state.empty = false;
        }
        Ok(())
    }

    async fn read_gradient(&self, backend: &B, state: &Self::State) -> Result<Vec<f32>> {
        match &state.device {
            Some(gradient) => backend.read_gradient(gradient).await,
            None => Ok(state.host.gradient().values().to_vec()),
        }
    }

    fn squared_norm(&self, _backend: &B, states: &[&Self::State]) -> Result<f64> {
        if states.iter().any(|state| state.device.is_some()) {
            return Err(Error::Shape {
                op: "squared_norm",
                expected: "gradients that nothing is added to any more".to_string(),
                got: "one that is still on the device".to_string(),
            });
        }
        let states: Vec<&HostState> = states.iter().map(|state| &state.host).collect();
        self.host.squared_norm(&self.host, &states)
    }

    fn known_squared_norm(&self, _backend: &B, squares: f64) -> Result<f64> {
        Ok(squares)
    }

    async fn read_squared_norm(&self, _backend: &B, squares: &f64) -> Result<f64> {
        Ok(*squares)
    }

    async fn adamw(
        &self,
        backend: &B,
        weight: &mut B::Weight,
        state: &mut Self::State,
        squares: &f64,
        step: &AdamWStep,
    ) -> Result<()> {
        let stepped = if let Some(master) = &mut state.master {
            self.host.adamw(&self.host, master, &mut state.host, squares, step).await?;
            rounded(&self.host.read_values(master).await?)
        } else {
            let mut own = self.weight(&state.label, state.shape, state.precision)?;
            self.host.write_values(&mut own, 0, &backend.read_values(weight).await?)?;
            self.host.adamw(&self.host, &mut own, &mut state.host, squares, step).await?;
            self.host.read_values(&own).await?
        };
        backend.write_values(weight, 0, &stepped)?;
        state.empty = true;
        Ok(())
    }

    async fn read_moment(&self, _backend: &B, state: &Self::State, moment: Moment) -> Result<Vec<f32>> {
        self.host.read_moment(&self.host, &state.host, moment).await
    }

    fn write_moment(
        &self,
        _backend: &B,
        state: &mut Self::State,
        moment: Moment,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        self.host.write_moment(&self.host, &mut state.host, moment, first, values)
    }

    fn has_master(&self, state: &Self::State) -> bool {
        state.master.is_some()
    }

    async fn read_master(&self, backend: &B, weight: &B::Weight, state: &Self::State) -> Result<Vec<f32>> {
        match &state.master {
            Some(master) => self.host.read_master(&self.host, master, &state.host).await,
            None => backend.read_values(weight).await,
        }
    }

    fn write_master(
        &self,
        backend: &B,
        weight: &mut B::Weight,
        state: &mut Self::State,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        let Some(master) = &mut state.master else { return backend.write_values(weight, first, values) };
        self.host.write_master(&self.host, master, &mut state.host, first, values)?;
        backend.write_values(weight, first, &rounded(values))
    }
}

/// What a device that holds bf16 computes with: rounded as [`split`] rounds, which leaves bf16 values as they are.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| split(*value).0.to_f32()).collect()
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::optim::AdamW;

    const SHAPE: [usize; 2] = [2, 3];
    const START: [f32; 6] = [1.0, 1.0 + 1.0 / 1024.0, -2.0, -0.3, 0.7, 5.0];
    const GRADIENT: [f32; 6] = [3.0, -4.0, 0.0, 0.5, -0.25, 1.0];

    fn layout(precision: Precision) -> StateLayout<'static> {
        StateLayout { label: "w", shape: SHAPE, precision, moments: [Precision::F32; 2] }
    }

    /// A weight of [`START`] whose optimiser's state is kept by `store`.
    fn held<S: Store<Cpu>>(store: &S, precision: Precision) -> (Cpu, Weight, S::State) {
        let cpu = Cpu::with_threads(1);
        let part = WeightPart { rows: SHAPE[0], encoding: precision.encoding() };
        let mut weight = cpu.create_weight("w", SHAPE[1], &[part]).unwrap();
        let mut state = store.state(&cpu, &layout(precision)).unwrap();
        store.write_master(&cpu, &mut weight, &mut state, 0, &START).unwrap();
        (cpu, weight, state)
    }

    #[test]
    fn gradients_come_back_to_be_added_to() {
        let offload = Offload::new();
        let (cpu, _, mut state) = held(&offload, Precision::F32);
        let read = |state: &_| block_on(Store::<Cpu>::read_gradient(&offload, &cpu, state)).unwrap();
        assert_eq!(read(&state), [0.0; 6]);
        let gradient = offload.gradient(&cpu, &mut state).unwrap();
        assert_eq!(gradient.values(), [0.0; 6]);
        cpu.write_gradient(gradient, &GRADIENT).unwrap();
        assert_eq!(read(&state), GRADIENT, "on the device");
        assert!(offload.squared_norm(&cpu, &[&state]).is_err(), "something may still be added to it");
        block_on(offload.settle(&cpu, &mut state)).unwrap();
        assert!(state.device.is_none(), "the device has no room for it");
        assert_eq!(read(&state), GRADIENT, "on the host");
        let squares = offload.squared_norm(&cpu, &[&state, &state]).unwrap();
        assert_eq!(squares, 2.0 * (9.0 + 16.0 + 0.25 + 0.0625 + 1.0));
        assert_eq!(offload.gradient(&cpu, &mut state).unwrap().values(), GRADIENT, "on the device once more");
    }

    #[test]
    fn sums_of_squares_are_numbers_of_the_host() {
        let (offload, cpu) = (Offload::new(), Cpu::with_threads(1));
        assert_eq!(offload.known_squared_norm(&cpu, 2.5).unwrap(), 2.5);
        assert_eq!(block_on(Store::<Cpu>::read_squared_norm(&offload, &cpu, &2.5)).unwrap(), 2.5);
    }

    /// Weights, masters and moments after two steps; the gradient of the second is the sum of two.
    fn trained<S: Store<Cpu>>(store: &S, precision: Precision) -> [Vec<f32>; 4] {
        let (cpu, mut weight, mut state) = held(store, precision);
        for number in 1..=2 {
            for _ in 0..number {
                let gradient = store.gradient(&cpu, &mut state).unwrap();
                let sum: Vec<f32> = gradient.values().iter().zip(GRADIENT).map(|(sum, value)| sum + value).collect();
                cpu.write_gradient(gradient, &sum).unwrap();
                block_on(store.settle(&cpu, &mut state)).unwrap();
            }
            let squares = store.squared_norm(&cpu, &[&state]).unwrap();
            let step = AdamW { weight_decay: 0.1, ..AdamW::default() }.step(number, 1e-2, 1.0);
            block_on(store.adamw(&cpu, &mut weight, &mut state, &squares, &step)).unwrap();
            assert_eq!(block_on(store.read_gradient(&cpu, &state)).unwrap(), [0.0; 6]);
            assert_eq!(store.gradient(&cpu, &mut state).unwrap().values(), [0.0; 6]);
        }
        let moment = |moment| block_on(store.read_moment(&cpu, &state, moment)).unwrap();
        let master = block_on(store.read_master(&cpu, &weight, &state)).unwrap();
        [block_on(cpu.read_values(&weight)).unwrap(), master, moment(Moment::First), moment(Moment::Second)]
    }

    #[test]
    fn steps_are_those_without_offload() {
        for precision in [Precision::F32, Precision::Bf16Split, Precision::Bf16Stochastic] {
            let offloaded = trained(&Offload::new(), precision);
            assert_eq!(offloaded, trained(&Cpu::with_threads(1), precision), "{precision:?}");
            assert_ne!(offloaded[0], START);
        }
    }

    #[test]
    fn a_master_keeps_what_the_device_rounds() {
        let offload = Offload::new();
        for precision in [Precision::F32, Precision::Bf16Split, Precision::Bf16Stochastic] {
            let (cpu, mut weight, mut state) = held(&offload, precision);
            let has_master = precision == Precision::Bf16Split;
            assert_eq!(Store::<Cpu>::has_master(&offload, &state), has_master, "{precision:?}");
            offload.write_master(&cpu, &mut weight, &mut state, 2, &[1.0 + 1.0 / 512.0, 0.5]).unwrap();
            let rounded = [1.0, 1.0, 1.0, 0.5];
            let exact = [1.0, 1.0 + 1.0 / 1024.0, 1.0 + 1.0 / 512.0, 0.5];
            let values = block_on(cpu.read_values(&weight)).unwrap();
            assert_eq!(values[..4], if precision == Precision::F32 { exact } else { rounded });
            let master = block_on(offload.read_master(&cpu, &weight, &state)).unwrap();
            assert_eq!(master[..4], if precision == Precision::Bf16Stochastic { rounded } else { exact });
        }
    }

    #[test]
    fn moments_are_read_where_they_were_written() {
        let offload = Offload::new();
        let (cpu, _, mut state) = held(&offload, Precision::F32);
        offload.write_moment(&cpu, &mut state, Moment::Second, 3, &[0.5, 0.25]).unwrap();
        let read = |moment| block_on(Store::<Cpu>::read_moment(&offload, &cpu, &state, moment)).unwrap();
        assert_eq!(read(Moment::Second), [0.0, 0.0, 0.0, 0.5, 0.25, 0.0]);
        assert_eq!(read(Moment::First), [0.0; 6]);
    }
}
