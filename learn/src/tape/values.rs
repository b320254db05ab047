//! Values of parameters, gradients and moments by the host: loading, saving, and what ranks hold in parts.

use paddock_engine::backend::check;
use paddock_engine::weights::dequantize;
use paddock_engine::{Error, Result};

use super::parameter::{Parameter, ParameterId, ParameterLayout, foreign};
use super::tape::Tape;
use crate::Adjoint;
use crate::store::{Moment, Store};

/// What a parameter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its name on the tape.
    pub id: ParameterId,
    /// The name of the checkpoint's tensor, or of the first of those fused in it.
    pub label: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Whether it has a gradient.
    pub trained: bool,
    /// Whether steps go to values of more bits than the model computes with.
    pub has_master: bool,
}

impl ParameterInfo {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<B: Adjoint, S: Store<B>> Tape<B, S> {
    /// All parameters, in the order in which the model loaded them; adapters come last.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let taken = self.take();
        let info = |(index, parameter): (usize, &Parameter<B, S>)| ParameterInfo {
            id: ParameterId(index),
            label: parameter.label.clone(),
            shape: parameter.shape,
            trained: parameter.state.is_some(),
            has_master: parameter.state.as_ref().is_some_and(|state| self.store().has_master(state)),
        };
        taken.0.iter().enumerate().map(info).collect()
    }

    /// The values of a parameter, row by row, as the model computes with them. Every rank gives its part.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub async fn read_parameter(&self, id: ParameterId) -> Result<Vec<f32>> {
        let taken = self.take();
        let parameter = taken.0.get(id.0).ok_or_else(foreign)?;
        let values = self.inner().read_values(&parameter.value).await?;
        if parameter.packed {
            return Ok(values);
        }
        self.whole(values, parameter.len()).await
    }

    /// The values that steps are added to: those of the model, where the parameter has no master. Every rank gives its
    /// part.
    ///
    /// # Errors
    /// When a rank has ended, or the device fails.
    pub async fn read_master(&self, id: ParameterId) -> Result<Vec<f32>> {
        let taken = self.take();
        let parameter = taken.0.get(id.0).ok_or_else(foreign)?;
        let state = parameter.state.as_ref().ok_or_else(|| frozen(&parameter.label))?;
        let values = self.store().read_master(self.inner(), &parameter.value, state).await?;
        self.whole(values, parameter.len()).await
    }

    /// The values of a moment. Every rank gives its part.
    ///
    /// # Errors
    /// When the parameter is frozen, a rank has ended, or the device fails.
    pub async fn read_moment(&self, id: ParameterId, moment: Moment) -> Result<Vec<f32>> {
        let taken = self.take();
        let parameter = taken.0.get(id.0).ok_or_else(foreign)?;
        let state = parameter.state.as_ref().ok_or_else(|| frozen(&parameter.label))?;
        self.whole(self.store().read_moment(self.inner(), state, moment).await?, parameter.len()).await
    }

    /// The values of a gradient. Every rank gives its part, summed over the ranks after [`Tape::reduce_gradients`].
    ///
    /// # Errors
    /// When the parameter is frozen, a rank has ended, or the device fails.
    pub async fn read_gradient(&self, id: ParameterId) -> Result<Vec<f32>> {
        let taken = self.take();
        let parameter = taken.0.get(id.0).ok_or_else(foreign)?;
        let state = parameter.state.as_ref().ok_or_else(|| frozen(&parameter.label))?;
        self.whole(self.store().read_gradient(self.inner(), state).await?, parameter.len()).await
    }

    /// Puts `values` at the row-major places of a parameter, and of its master, from `first` on; each rank keeps what is
    /// its part.
    ///
    /// # Errors
    /// When they do not fit, or the parameter is packed.
    pub fn write_parameter(&self, id: ParameterId, first: usize, values: &[f32]) -> Result<()> {
        self.with(id, |parameter| self.write_into(parameter, first, values))?
    }

    /// Puts `values` at the places of a moment from `first` on; each rank keeps what is its part.
    ///
    /// # Errors
    /// When they do not fit, or the parameter is frozen.
    pub fn write_moment(&self, id: ParameterId, moment: Moment, first: usize, values: &[f32]) -> Result<()> {
        self.with(id, |parameter| {
            let Some((at, own)) = self.own_part(parameter.len(), first, values)? else { return Ok(()) };
            let state = parameter.state.as_mut().ok_or_else(|| frozen(&parameter.label))?;
            self.store().write_moment(self.inner(), state, moment, at, own)
        })?
    }

    /// Gives the parameter `label` further rows, up to `rows` of them: each is the mean of those it has. Gradients and
    /// moments begin at 0.
    ///
    /// # Errors
    /// When there is no room.
    pub async fn grow_rows(&self, label: &str, rows: usize) -> Result<()> {
        let grown = self.parameters().into_iter().find(|info| info.label == label && info.shape[0] < rows);
        let Some(ParameterInfo { id, shape: [before, cols], trained, .. }) = grown else { return Ok(()) };
        let values = self.read_parameter(id).await?;
        let mut mean = vec![0.0f64; cols];
        for row in values.chunks_exact(cols.max(1)) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
        }
        let mean: Vec<f32> = mean.iter().map(|sum| (sum / before.max(1) as f64) as f32).collect();
        let options = self.options();
        let shape = [rows, cols];
        let moments = trained.then(|| options.moments.precisions(rows * cols));
        let layout = ParameterLayout { label, shape, precision: options.precision, moments };
        let mut grown = Parameter::dense(self.inner(), self.store(), self.sharding(), &layout)?;
        self.write_into(&mut grown, 0, &values)?;
        (before..rows).try_for_each(|row| self.write_into(&mut grown, row * cols, &mean))?;
        self.with(id, |parameter| *parameter = grown)
    }

    /// Rows of a model that is being loaded.
    pub(super) fn load_rows(&self, id: ParameterId, first_row: usize, bytes: &[u8]) -> Result<()> {
        self.with(id, |parameter| {
            if parameter.packed {
                return self.inner().write_rows(&mut parameter.value, first_row, bytes);
            }
            let (label, parts, cols) = (&parameter.label, &parameter.parts, parameter.shape[1]);
            let (part, _, rows) = check::rows_of_part(label, cols, parts, first_row, bytes.len())?;
            let mut values = vec![0.0; rows * cols];
            dequantize(parts[part].encoding, bytes, &mut values)?;
            self.write_into(parameter, first_row * cols, &values)
        })?
    }

    fn write_into(&self, parameter: &mut Parameter<B, S>, first: usize, values: &[f32]) -> Result<()> {
        let Some((at, own)) = self.own_part(parameter.len(), first, values)? else { return Ok(()) };
        match &mut parameter.state {
            Some(state) => self.store().write_master(self.inner(), &mut parameter.value, state, at, own),
            None => self.inner().write_values(&mut parameter.value, at, own),
        }
    }

    /// What of `values`, which lie from place `first` on in something of `size` values, this rank holds, and where.
    fn own_part<'v>(&self, size: usize, first: usize, values: &'v [f32]) -> Result<Option<(usize, &'v [f32])>> {
        if first.checked_add(values.len()).is_none_or(|end| end > size) {
            let got = format!("{} from {first} on", values.len());
            return Err(Error::Shape { op: "write", expected: format!("at most {size} values"), got });
        }
        let part = self.sharding().map_or(0..size, |sharding| sharding.part(size));
        let range = first.max(part.start)..(first + values.len()).min(part.end);
        let own = values.get(range.start.saturating_sub(first)..range.end.saturating_sub(first));
        Ok(own.filter(|own| !own.is_empty()).map(|own| (range.start - part.start, own)))
    }

    /// The values of all ranks of something of `size` values, of which each rank has read its part.
    async fn whole(&self, values: Vec<f32>, size: usize) -> Result<Vec<f32>> {
        let Some(sharding) = self.sharding() else { return Ok(values) };
        let mut values = sharding.ranks.gather(values).await?;
        values.truncate(size);
        Ok(values)
    }
}

fn frozen(label: &str) -> Error {
    Error::Request(format!("{label} is frozen; it has no gradient and no moments"))
}

#[cfg(test)]
mod tests {
    use paddock_engine::backend::Cpu;
    use pollster::block_on;

    use super::*;
    use crate::TapeOptions;
    use crate::optim::{Moments, Precision};

    fn tape(options: TapeOptions) -> Tape<Cpu> {
        Tape::new(Cpu::with_threads(1), options)
    }

    #[test]
    fn new_rows_are_the_mean_of_the_old() {
        let tape = tape(TapeOptions::default());
        let id = tape.create_parameter("table", [2, 2], Precision::F32, true).unwrap();
        tape.write_parameter(id, 0, &[1.0, 2.0, 3.0, 6.0]).unwrap();
        tape.write_moment(id, Moment::First, 1, &[0.5]).unwrap();
        for rows in [1, 2] {
            block_on(tape.grow_rows("table", rows)).unwrap();
            assert_eq!(block_on(tape.read_moment(id, Moment::First)).unwrap(), [0.0, 0.5, 0.0, 0.0], "{rows}");
        }
        block_on(tape.grow_rows("another", 4)).unwrap();
        block_on(tape.grow_rows("table", 4)).unwrap();
        assert_eq!(block_on(tape.read_parameter(id)).unwrap(), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 2.0, 4.0]);
        assert_eq!(block_on(tape.read_moment(id, Moment::First)).unwrap(), [0.0; 8]);
    }

    /// From 4,096 values on.
    #[test]
    fn moments_are_held_as_the_size_after_growing_asks() {
        for (rows, rounded) in [(64, true), (63, false)] {
            let tape = tape(TapeOptions { moments: Moments::Bf16, ..TapeOptions::default() });
            let id = tape.create_parameter("table", [2, 64], Precision::F32, true).unwrap();
            block_on(tape.grow_rows("table", rows)).unwrap();
            tape.write_moment(id, Moment::Second, 3, &[1.0 + 1.0 / 1024.0]).unwrap();
            let read = block_on(tape.read_moment(id, Moment::Second)).unwrap();
            assert_eq!(read.len(), 64 * rows);
            assert_eq!(read[3] == 1.0, rounded, "{rows}");
        }
    }

    #[test]
    fn masters_keep_what_the_model_rounds() {
        let tape = tape(TapeOptions::default());
        let id = tape.create_parameter("w", [1, 2], Precision::Bf16Split, true).unwrap();
        let exact = [1.0 + 1.0 / 1024.0, -3.0];
        tape.write_parameter(id, 0, &exact).unwrap();
        assert_eq!(block_on(tape.read_parameter(id)).unwrap(), [1.0, -3.0]);
        assert_eq!(block_on(tape.read_master(id)).unwrap(), exact);
        let [info] = tape.parameters().try_into().unwrap();
        assert!(info.trained && info.has_master && !info.is_empty());
        assert!(ParameterInfo { shape: [0, 2], ..info }.is_empty());
    }
}
