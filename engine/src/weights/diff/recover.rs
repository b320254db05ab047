//! Recovering a tuned model from its base and a diff.

use std::ops::Range;

use super::base::{Base, check_pair};
use super::description::{Method, TensorDigest, WEIGHT_DIFF, WeightDiff};
use super::numbers::{Tally, add_bits, float, values};
use crate::prompt::TemplateKind;
use crate::weights::pack::Weights;
use crate::weights::{Checkpoint, Encoding, Source, TensorInfo, quantize, recode};
use crate::{Error, ModelConfig, Result};

/// A tuned model, computed while it is read. The rows of a tensor must be read in order.
#[derive(Debug)]
pub struct Recovery<A: Source, B: Source> {
    pub(super) base: Base<A>,
    pub(super) diff: Checkpoint<B>,
    pub(super) method: Method,
    tally: Tally,
}

impl<A: Source, B: Source> Recovery<A, B> {
    /// The model that `diff` makes of `base`.
    ///
    /// # Errors
    /// When they are not of one shape, the base is a diff, or the diff's description lacks a tensor.
    pub fn new(base: Checkpoint<A>, diff: Checkpoint<B>) -> Result<Self> {
        if base.weight_diff().is_some() {
            return Err(Error::Request("the base is a weight diff itself; give the original model".to_string()));
        }
        let described = diff.weight_diff();
        for info in diff.tensors() {
            check_pair(&base, info)?;
            if let Some(described) = described
                && described
                    .digest(&info.name)
                    .is_none_or(|digest| described.method == Method::Exact && digest.encoding != info.encoding)
            {
                return Err(Error::format(
                    WEIGHT_DIFF,
                    format!("it does not describe {}; make the diff again", info.name),
                ));
            }
        }
        let method = described.map_or(Method::Sum, |described| described.method);
        Ok(Self { base: Base::new(base), diff, method, tally: Tally::default() })
    }

    /// The recovered model's configuration.
    pub fn config(&self) -> &ModelConfig {
        self.diff.config()
    }

    /// The diff.
    pub fn diff(&mut self) -> &mut Checkpoint<B> {
        &mut self.diff
    }

    /// The recovered tensors, in the tuned model's encodings where the diff states them, otherwise in the diff's own.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        self.diff.tensors().map(|info| TensorInfo { encoding: self.kept(info), ..info.clone() }).collect()
    }

    /// The encoding of the recovered tensor.
    fn kept(&self, info: &TensorInfo) -> Encoding {
        self.digest(&info.name).map_or(float(info.encoding), |digest| digest.encoding)
    }

    pub(super) fn digest(&self, name: &str) -> Option<&TensorDigest> {
        self.diff.weight_diff().and_then(|described| described.digest(name))
    }

    /// Rows of the recovered tensor `name` as `wanted`.
    ///
    /// # Errors
    /// What the checkpoints report, and numbers that `wanted` cannot hold.
    pub async fn rows(&mut self, name: &str, rows: Range<usize>, wanted: Encoding) -> Result<Vec<u8>> {
        if rows.start == 0 {
            self.tally = Tally::default();
        }
        let info = self.info(name)?;
        let base = self.base_rows(name, rows.clone()).await?;
        let (values, kept, encoding) = self.add(&info, rows, &base).await?;
        // Nothing to compare a digest with: only the sum is wanted.
        self.tally.add(if self.digest(name).is_some() { &kept } else { &[] }, &values);
        if wanted == encoding {
            return Ok(kept);
        }
        match self.method {
            Method::Sum => quantize(wanted, &values),
            Method::Exact => recode(kept, encoding, wanted),
        }
    }

    pub(super) fn info(&self, name: &str) -> Result<TensorInfo> {
        let missing = || Error::Request(format!("the diff has no tensor {name}"));
        self.diff.tensor(name).cloned().ok_or_else(missing)
    }

    /// Rows of the base in the numbers that [`Recovery::add`] takes.
    pub(super) async fn base_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let info = self.info(name)?;
        let encoding = if self.method == Method::Exact { info.encoding } else { Encoding::F32 };
        self.base.rows(name, rows, info.shape[0], encoding).await
    }

    /// The diff's rows and those of the base: values, and their bytes in the tuned model's encoding, which is given too.
    pub(super) async fn add(
        &mut self,
        info: &TensorInfo,
        rows: Range<usize>,
        base: &[u8],
    ) -> Result<(Vec<f32>, Vec<u8>, Encoding)> {
        let encoding = self.kept(info);
        let mut bytes = self.diff.read_rows(&info.name, rows).await?;
        if self.method == Method::Exact {
            add_bits(encoding, &mut bytes, base);
            return Ok((values(encoding, &bytes)?.into_owned(), bytes, encoding));
        }
        let mut sum = values(info.encoding, &bytes)?.into_owned();
        let base = values(Encoding::F32, base)?;
        sum.iter_mut().zip(base.iter()).for_each(|(difference, base)| *difference += base);
        let kept = quantize(encoding, &sum)?;
        Ok((sum, kept, encoding))
    }

    /// Verifies tensor `name`, all rows of which have been read, and gives the sum of its values.
    ///
    /// # Errors
    /// When it is not the tuned model's; the error names the likely cause.
    pub async fn finish(&mut self, name: &str) -> Result<f64> {
        match self.digest(name).map(|digest| digest.sha256 != self.tally.sha256()) {
            None | Some(false) => Ok(self.tally.sum),
            Some(true) => {
                let cause = self.cause(name).await?;
                let problem = format!("it comes out otherwise than in the tuned model (by its SHA-256): {cause}");
                Err(Error::format(format!("tensor {name}"), problem))
            }
        }
    }

    /// Checks the digests of all files that have one; call it after the last tensor.
    ///
    /// # Errors
    /// [`Error::Hash`] when a file is damaged.
    pub async fn finish_files(&mut self) -> Result<()> {
        self.base.checkpoint.finish().await?;
        self.diff.finish().await
    }
}

/// Packing verifies each tensor once its last row is read.
impl<A: Source, B: Source> Weights for Recovery<A, B> {
    fn config(&self) -> &ModelConfig {
        self.config()
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors()
    }

    fn template(&self) -> TemplateKind {
        self.diff.template()
    }

    fn weight_diff(&self) -> Option<&WeightDiff> {
        None
    }

    async fn read_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let info = self.info(name)?;
        let encoding = self.kept(&info);
        let last = rows.end == info.shape[0];
        let bytes = self.rows(name, rows, encoding).await?;
        if last {
            self.finish(name).await?;
        }
        Ok(bytes)
    }

    async fn finish(&mut self) -> Result<()> {
        self.finish_files().await
    }
}
