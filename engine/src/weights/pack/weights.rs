//! What can be packed.

use std::ops::Range;

use crate::prompt::TemplateKind;
use crate::weights::diff::WeightDiff;
use crate::weights::{Checkpoint, Source, TensorInfo};
use crate::{ModelConfig, Result};

/// A model whose rows can be read: a checkpoint, or one that is being recovered from a weight diff.
#[allow(async_fn_in_trait)] // as for Source
pub trait Weights {
    /// The model's configuration.
    fn config(&self) -> &ModelConfig;
    /// Its tensors, in the order of [`ModelConfig::params`].
    fn tensors(&self) -> Vec<TensorInfo>;
    /// The prompt format that it was made for, if it states one.
    fn template(&self) -> TemplateKind;
    /// Set when it is a weight diff itself.
    fn weight_diff(&self) -> Option<&WeightDiff>;
    /// The bytes of some rows of tensor `name`.
    ///
    /// # Errors
    /// As [`Checkpoint::read_rows`].
    async fn read_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>>;
    /// To be called after the last tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::finish`].
    async fn finish(&mut self) -> Result<()>;
}

impl<S: Source> Weights for Checkpoint<S> {
    fn config(&self) -> &ModelConfig {
        self.config()
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors().cloned().collect()
    }

    fn template(&self) -> TemplateKind {
        self.template()
    }

    fn weight_diff(&self) -> Option<&WeightDiff> {
        self.weight_diff()
    }

    async fn read_rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        self.read_rows(name, rows).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.finish().await
    }
}
