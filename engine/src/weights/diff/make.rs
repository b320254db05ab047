//! Making a diff from a tuned model and its base.

use std::ops::Range;

use super::base::{Base, check_pair};
use super::description::{Method, TensorDigest};
use super::numbers::{Tally, float, subtract_bits, values};
use crate::weights::{Checkpoint, Encoding, Source, TensorInfo, quantize, recode};
use crate::{Error, Result};

/// A diff, computed while it is read. The rows of a tensor must be read in order.
#[derive(Debug)]
pub struct Difference<A: Source, B: Source> {
    base: Base<A>,
    tuned: Checkpoint<B>,
    method: Method,
    tally: Tally,
}

impl<A: Source, B: Source> Difference<A, B> {
    /// The diff of `tuned` and `base`.
    ///
    /// # Errors
    /// When they are not of one shape, or one of them is a diff itself.
    pub fn new(base: Checkpoint<A>, tuned: Checkpoint<B>, method: Method) -> Result<Self> {
        if base.weight_diff().is_some() || tuned.weight_diff().is_some() {
            return Err(Error::Request("one of the models is a weight diff itself; give the models whole".to_string()));
        }
        for info in tuned.tensors() {
            check_pair(&base, info)?;
        }
        Ok(Self { base: Base::new(base), tuned, method, tally: Tally::default() })
    }

    /// The tensors of the diff, in the numbers that `wanted` asks for; those of an exact diff are the tuned model's.
    pub fn tensors(&self, wanted: Encoding) -> Vec<TensorInfo> {
        let stored = |info: &TensorInfo| match self.method {
            Method::Sum => wanted,
            Method::Exact => float(info.encoding),
        };
        self.tuned.tensors().map(|info| TensorInfo { encoding: stored(info), ..info.clone() }).collect()
    }

    /// Rows of the diff's tensor `name` as `wanted`, which must be the encoding that [`Difference::tensors`] gives.
    ///
    /// # Errors
    /// What the checkpoints report, and numbers that `wanted` cannot hold.
    pub async fn rows(&mut self, name: &str, rows: Range<usize>, wanted: Encoding) -> Result<Vec<u8>> {
        let missing = || Error::Request(format!("the tuned model has no tensor {name}"));
        let info = self.tuned.tensor(name).cloned().ok_or_else(missing)?;
        if rows.start == 0 {
            self.tally = Tally::default();
        }
        let kept = float(info.encoding);
        let tuned = self.tuned.read_rows(name, rows.clone()).await?;
        let mut tuned = recode(tuned, info.encoding, kept)?;
        if self.method == Method::Exact {
            self.tally.add(&tuned, &[]);
            let base = self.base.rows(name, rows, info.shape[0], kept).await?;
            subtract_bits(kept, &mut tuned, &base);
            return Ok(tuned);
        }
        let base = self.base.rows(name, rows, info.shape[0], Encoding::F32).await?;
        let base = values(Encoding::F32, &base)?;
        let mut difference = values(kept, &tuned)?.into_owned();
        difference.iter_mut().zip(base.iter()).for_each(|(tuned, base)| *tuned -= base);
        if difference.iter().any(|value| !value.is_finite()) {
            return Err(Error::format(
                format!("tensor {name}"),
                "the tuned model or the base holds values that are not finite numbers; it is damaged, make it again",
            ));
        }
        let stored = quantize(wanted, &difference)?;
        // What recovery will have is what is stored.
        let mut recovered = values(wanted, &stored)?.into_owned();
        recovered.iter_mut().zip(base.iter()).for_each(|(difference, base)| *difference += base);
        self.tally.add(&quantize(kept, &recovered)?, &[]);
        Ok(stored)
    }

    /// What recovery must give for tensor `name`, all rows of which have been read.
    pub fn finish(&self, name: &str) -> TensorDigest {
        let encoding = self.tuned.tensor(name).map_or(Encoding::F32, |info| float(info.encoding));
        let base_encoding = self.base.encoding(name);
        TensorDigest { name: name.to_string(), encoding, base_encoding, sha256: self.tally.sha256() }
    }
}
