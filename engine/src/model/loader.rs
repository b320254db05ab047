//! Streams parameters from a checkpoint to a device, a few megabytes at a time.

use sha2::{Digest, Sha256};

use crate::backend::{Device, WeightPart};
use crate::weights::{Checkpoint, Encoding, Source, TensorInfo, dequantize, hexadecimal};
use crate::{Error, ModelConfig, Result};

/// Most bytes of weights that are in host memory at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// Progress of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights on the device.
    pub bytes: u64,
    /// Bytes of all weights.
    pub total: u64,
}

/// Loads a checkpoint's parameters onto a backend. They have to be asked for in the order of [`ModelConfig::params`].
pub struct Loader<'a, B: Device, S: Source> {
    backend: &'a B,
    checkpoint: &'a mut Checkpoint<S>,
    progress: &'a mut dyn FnMut(LoadProgress),
    state: LoadProgress,
    /// Digest of all vectors so far, as f32.
    vectors: Sha256,
}

impl<'a, B: Device, S: Source> Loader<'a, B, S> {
    /// A loader at the checkpoint's first parameter.
    pub fn new(backend: &'a B, checkpoint: &'a mut Checkpoint<S>, progress: &'a mut dyn FnMut(LoadProgress)) -> Self {
        let state = LoadProgress { bytes: 0, total: checkpoint.total_bytes() };
        Self { backend, checkpoint, progress, state, vectors: Sha256::new() }
    }

    /// The checkpoint's configuration.
    pub fn config(&self) -> &ModelConfig {
        self.checkpoint.config()
    }

    /// One weight from the rows of one matrix, or of several of equal width, in order.
    ///
    /// # Errors
    /// What the source, the checkpoint or the device report.
    pub async fn matrix<N: AsRef<str>>(&mut self, names: &[N]) -> Result<B::Weight> {
        let infos = names.iter().map(|name| self.info(name.as_ref())).collect::<Result<Vec<_>>>()?;
        let label = infos.first().map(|info| info.name.clone()).unwrap_or_default();
        let cols = infos.first().map_or(0, |info| info.shape[1]);
        let parts: Vec<_> =
            infos.iter().map(|info| WeightPart { rows: info.shape[0], encoding: info.encoding }).collect();
        let mut weight = self.backend.create_weight(&label, cols, &parts)?;
        let mut first_row = 0;
        for info in &infos {
            let row_bytes = info.encoding.row_bytes(cols).unwrap_or(CHUNK_BYTES).max(1);
            let rows_per_chunk = (CHUNK_BYTES / row_bytes).max(1);
            let mut row = 0;
            while row < info.shape[0] {
                let end = (row + rows_per_chunk).min(info.shape[0]);
                let bytes = self.checkpoint.read_rows(&info.name, row..end).await?;
                self.backend.write_rows(&mut weight, first_row + row, &bytes)?;
                self.advance(bytes.len());
                row = end;
            }
            first_row += info.shape[0];
        }
        Ok(weight)
    }

    /// One `[1, n]` weight in f32 from one vector, or from several side by side.
    ///
    /// # Errors
    /// What the source, the checkpoint or the device report.
    pub async fn vector<N: AsRef<str>>(&mut self, names: &[N]) -> Result<B::Weight> {
        let values = self.values(names).await?;
        let label = names.first().map(AsRef::as_ref).unwrap_or_default();
        let part = WeightPart { rows: 1, encoding: Encoding::F32 };
        let mut weight = self.backend.create_weight(label, values.len(), &[part])?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.vectors.update(&bytes);
        self.backend.write_rows(&mut weight, 0, &bytes)?;
        Ok(weight)
    }

    /// The values of one vector, or of several side by side, for the host.
    ///
    /// # Errors
    /// What the source or the checkpoint report.
    pub async fn values<N: AsRef<str>>(&mut self, names: &[N]) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for name in names {
            let info = self.info(name.as_ref())?;
            let bytes = self.checkpoint.read_rows(&info.name, 0..1).await?;
            let start = values.len();
            values.resize(start + info.shape[1], 0.0);
            dequantize(info.encoding, &bytes, &mut values[start..])?;
            self.advance(bytes.len());
        }
        Ok(values)
    }

    /// The values of a small matrix, row by row, for the host.
    ///
    /// # Errors
    /// What the source or the checkpoint report.
    pub async fn rows(&mut self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        let bytes = self.checkpoint.read_rows(name, 0..info.shape[0]).await?;
        let mut values = vec![0.0; info.shape[0] * info.shape[1]];
        dequantize(info.encoding, &bytes, &mut values)?;
        self.advance(bytes.len());
        Ok(values)
    }

    /// SHA-256 of all vectors so far, as f32, in hexadecimal.
    pub(super) fn fingerprint(&self) -> String {
        hexadecimal(&self.vectors.clone().finalize())
    }

    /// [`Loader::vector`] for the biases of an architecture that has them.
    ///
    /// # Errors
    /// What the source, the checkpoint or the device report.
    pub async fn bias<N: AsRef<str>>(&mut self, present: bool, names: &[N]) -> Result<Option<B::Weight>> {
        if present { self.vector(names).await.map(Some) } else { Ok(None) }
    }

    /// Checks what was read against the checkpoint's digests.
    ///
    /// # Errors
    /// [`Error::Hash`] when a file is damaged.
    pub async fn finish(self) -> Result<()> {
        self.checkpoint.finish().await
    }

    pub(super) fn info(&self, name: &str) -> Result<TensorInfo> {
        self.checkpoint.tensor(name).cloned().ok_or_else(|| Error::Missing {
            file: format!("tensor {name}"),
            hint: "the checkpoint is incomplete; download it again".to_string(),
        })
    }

    fn advance(&mut self, bytes: usize) {
        self.state.bytes += bytes as u64;
        (self.progress)(self.state);
    }
}
