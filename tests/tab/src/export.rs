//! What the tab calls.

use paddock_engine::weights::MemorySource;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

/// A model's files, and the run that they are for.
#[wasm_bindgen]
#[derive(Default)]
pub struct FineTuning {
    source: MemorySource,
}

#[wasm_bindgen]
impl FineTuning {
    /// Without files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of the model.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.source.files.insert(name, bytes);
    }

    /// The losses of `steps` steps on the examples in a fixture's `expected.json`.
    ///
    /// # Errors
    /// What the run reports.
    pub async fn losses(self, examples: Vec<u8>, steps: usize) -> Result<Vec<f64>, JsError> {
        let examples = crate::examples(&examples)?;
        Ok(crate::losses(self.source, &examples, steps).await?)
    }
}
