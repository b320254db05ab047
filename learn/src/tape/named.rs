//! Which parameter of a tape, and which of its values, a tensor of the checkpoint is.

use paddock_engine::config::Param;

use super::{ParameterId, Tape};
use crate::store::Store;
use crate::{Adjoint, Error, Result};

/// A tensor of a checkpoint within a tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Hugging Face's name and shape.
    pub param: Param,
    /// The tape's parameter.
    pub parameter: ParameterId,
    /// Its first value there, row by row; it takes `rows × columns` values.
    pub offset: usize,
}

impl Named {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.param.shape[0] * self.param.shape[1]
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values in those of its parameter.
    pub fn values<'a>(&self, parameter: &'a [f32]) -> &'a [f32] {
        &parameter[self.offset..self.offset + self.len()]
    }
}

/// Finds `params` in a tape that a model was loaded on. A model loads them in this order, and a fused weight (q, k and
/// v; gate and up) holds its tensors one after the other. Adapters come after them and are left out.
///
/// # Errors
/// When the model on the tape is another.
pub fn named<B: Adjoint, S: Store<B>>(params: Vec<Param>, tape: &Tape<B, S>) -> Result<Vec<Named>> {
    let mut params = params.into_iter().peekable();
    let mut named = Vec::new();
    for held in tape.parameters() {
        let Some(first) = params.peek() else { break };
        if first.name != held.label {
            return Err(mismatch(&held.label));
        }
        let mut offset = 0;
        while offset < held.len() {
            let param = params.next().ok_or_else(|| mismatch(&held.label))?;
            let next = Named { param, parameter: held.id, offset };
            offset += next.len();
            named.push(next);
        }
        if offset != held.len() {
            return Err(mismatch(&held.label));
        }
    }
    match params.next() {
        None => Ok(named),
        Some(missing) => Err(mismatch(&missing.name)),
    }
}

fn mismatch(name: &str) -> Error {
    Error::Request(format!("{name} is not where the model's configuration puts it; load the model anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_has_as_many_values_as_its_shape_says() {
        let of = |shape| Named { param: Param { name: "w".to_string(), shape }, parameter: ParameterId(0), offset: 0 };
        assert_eq!((of([2, 3]).len(), of([2, 3]).is_empty(), of([0, 3]).is_empty()), (6, false, true));
    }
}
