//! Weight diffs as folders: the difference between a tuned model and its base, and the tuned model recovered from it.

use std::ops::Range;
use std::path::Path;

use paddock_engine::config::Head;
use paddock_engine::model::LoadProgress;
use paddock_engine::weights::TensorInfo;
use paddock_engine::weights::diff::{Difference, Method, Recovery, TensorDigest, WEIGHT_DIFF, WeightDiff, rotary_sum};
use serde_json::{Value, json};

use super::convert::{Written, fingerprint, main_encoding, open, stored};
use super::export::{Beside, DtypeChoice, Export, Rows, Stored, beside};
use super::{Dtype, ModelSource};
use crate::{Error, Result};

/// The sum over all tensors of Alpaca-7B that its authors publish (tatsu-lab/stanford_alpaca `weight_diff.py`).
pub const ALPACA_7B_SUM: f64 = 50637.1836;

/// How far the exact sum may be from a published one of `tensors` tensors: 1e-2 as in `weight_diff.py`, plus that
/// script's own rounding error, since it adds up in f32. Each addition loses up to half a unit in the last place,
/// uniformly distributed; this allows four standard deviations of their sum.
fn sum_tolerance(sum: f64, tensors: usize) -> f64 {
    let sum = sum.abs() as f32;
    let unit = f64::from(sum.next_up() - sum);
    1e-2 + 4.0 * (tensors as f64 / 12.0).sqrt() * unit
}

/// Writes the diff of `tuned` and `raw` as the folder `output`, in `dtype`; with [`Method::Exact`] in the tuned model's
/// own dtypes. Configuration and tokenizer are those of the tuned model.
///
/// # Errors
/// When the models are damaged or of different shapes, `output` exists, or the disk refuses.
pub fn make_diff(
    raw: &Path,
    tuned: &Path,
    output: &Path,
    method: Method,
    dtype: Dtype,
    threads: usize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Written> {
    let wanted = dtype.encoding();
    let difference = || -> Result<_> { Ok(Difference::new(open(raw)?, open(tuned)?, method)?) };
    let infos = difference()?.tensors(wanted);
    let tensors: Vec<Stored> = infos.iter().map(|info| stored(info, info.encoding)).collect();
    let Beside { mut files, note } = beside(&ModelSource::open(tuned)?, &mut open(tuned)?, main_encoding(&tensors))?;
    let made = json!({ "raw": fingerprint(raw)?, "tuned": fingerprint(tuned)?, "method": method, "dtype": dtype });
    let export = Export { output: output.to_path_buf(), tensors, key: json!({ "diff": made }).to_string(), threads };
    let exported = export.run(&|| Ok(DifferenceRows { difference: difference()?, infos: &infos }), progress)?;
    let digests: Result<Vec<TensorDigest>, _> = exported.records.iter().cloned().map(serde_json::from_value).collect();
    let described = digests.and_then(|digests| serde_json::to_vec(&WeightDiff::new(method, digests)));
    let described = described.map_err(|error| Error::Request(format!("the diff cannot be described: {error}")))?;
    files.insert(0, (WEIGHT_DIFF.to_string(), described));
    exported.commit(&files)?;
    Ok(Written { bytes: export.tensors.iter().map(Stored::bytes).sum(), notes: note.into_iter().collect() })
}

struct DifferenceRows<'a> {
    difference: Difference<ModelSource, ModelSource>,
    infos: &'a [TensorInfo],
}

impl Rows for DifferenceRows<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        let info = &self.infos[tensor];
        named(info, pollster::block_on(self.difference.rows(&info.name, rows, info.encoding)))
    }

    fn finish(&mut self, tensor: usize) -> Result<Value> {
        let digest = self.difference.finish(&self.infos[tensor].name);
        serde_json::to_value(digest).map_err(|error| Error::Request(error.to_string()))
    }
}

/// What the sum over all tensors must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedSum(
    /// The sum.
    pub f64,
);

impl std::str::FromStr for ExpectedSum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "alpaca-7b" => Ok(Self(ALPACA_7B_SUM)),
            _ => text
                .parse()
                .ok()
                .filter(|sum: &f64| sum.is_finite())
                .map(Self)
                .ok_or("expected a number, or alpaca-7b".into()),
        }
    }
}

/// A model that was recovered.
#[derive(Debug)]
pub struct Recovered {
    /// What was written.
    pub written: Written,
    /// The sum over all tensors, before they are rounded to the output's dtype.
    pub sum: f64,
    /// The same plus the rotary frequencies of every layer, which transformers before 4.32 counted as weights.
    pub sum_with_rotary: f64,
    /// Whether every tensor was verified by its SHA-256.
    pub verified: bool,
}

/// Writes the model that `diff` makes of `raw` as the folder `output`. Configuration and tokenizer are those of the diff.
/// [`DtypeChoice::Keep`] keeps the tuned model's dtypes, or the diff's where the diff does not record the former.
///
/// # Errors
/// When the models are damaged or of different shapes, `output` exists, or the disk refuses; also when a tensor's digest
/// or the sum is wrong, in which case nothing is left behind.
pub fn recover(
    raw: &Path,
    diff: &Path,
    output: &Path,
    dtype: DtypeChoice,
    expected: Option<ExpectedSum>,
    threads: usize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Recovered> {
    let recovery = || -> Result<_> { Ok(Recovery::new(open(raw)?, open(diff)?)?) };
    let mut first = recovery()?;
    let infos = first.tensors();
    let tensors: Vec<Stored> = infos.iter().map(|info| stored(info, dtype.encoding(info.encoding))).collect();
    let Beside { files, note } = beside(&ModelSource::open(diff)?, first.diff(), main_encoding(&tensors))?;
    let made = json!({ "raw": fingerprint(raw)?, "diff": fingerprint(diff)?, "dtype": dtype.to_string() });
    let export = Export { output: output.to_path_buf(), tensors, key: json!({ "recover": made }).to_string(), threads };
    let rows = || Ok(RecoveredRows { recovery: recovery()?, infos: &infos, tensors: &export.tensors });
    let exported = export.run(&rows, progress)?;
    let sums = exported.records.iter().map(|record| record.as_f64().unwrap_or(f64::NAN));
    let sum = if first.config().head == Head::Tied {
        // PyTorch's state dict lists a tied head beside the embedding, so it counts twice.
        sums.zip(&infos)
            .map(|(sum, info)| if info.name.ends_with("embed_tokens.weight") { 2.0 * sum } else { sum })
            .sum()
    } else {
        sums.sum()
    };
    let sum_with_rotary = sum + rotary_sum(first.config());
    if let Some(ExpectedSum(expected)) = expected
        && ![sum, sum_with_rotary]
            .iter()
            .any(|found: &f64| (found - expected).abs() <= sum_tolerance(expected, infos.len()))
    {
        exported.abandon();
        return Err(Error::Request(format!(
            "the sum over all tensors is {sum:.4} ({sum_with_rotary:.4} with rotary frequencies), expected {expected}: \
             wrong base, or a base in other numbers or in another rotary layout; take the original and convert it with \
             paddock convert"
        )));
    }
    exported.commit(&files)?;
    let bytes = export.tensors.iter().map(Stored::bytes).sum();
    let written = Written { bytes, notes: note.into_iter().collect() };
    Ok(Recovered { written, sum, sum_with_rotary, verified: first.diff().weight_diff().is_some() })
}

struct RecoveredRows<'a> {
    recovery: Recovery<ModelSource, ModelSource>,
    infos: &'a [TensorInfo],
    tensors: &'a [Stored],
}

impl Rows for RecoveredRows<'_> {
    fn rows(&mut self, tensor: usize, rows: Range<usize>) -> Result<Vec<u8>> {
        let (info, stored) = (&self.infos[tensor], &self.tensors[tensor]);
        named(info, pollster::block_on(self.recovery.rows(&info.name, rows, stored.encoding)))
    }

    fn finish(&mut self, tensor: usize) -> Result<Value> {
        Ok(pollster::block_on(self.recovery.finish(&self.infos[tensor].name))?.into())
    }
}

/// Adds the tensor's name to an error about values that do not fit.
fn named<T>(info: &TensorInfo, result: paddock_engine::Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        paddock_engine::Error::Unsupported(problem) => Error::Request(format!("{}: {problem}", info.name)),
        other => Error::Engine(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerance_is_that_of_f32_additions() {
        // Of Alpaca-7B: a unit is 2^-8.
        assert!((sum_tolerance(ALPACA_7B_SUM, 291) - 0.0869).abs() < 1e-3);
        assert!((sum_tolerance(358.0, 21) - 0.01).abs() < 1e-3);
        assert_eq!("alpaca-7b".parse(), Ok(ExpectedSum(ALPACA_7B_SUM)));
        assert_eq!("-1.5".parse(), Ok(ExpectedSum(-1.5)));
        assert!("alpaca".parse::<ExpectedSum>().is_err() && "nan".parse::<ExpectedSum>().is_err());
    }
}
