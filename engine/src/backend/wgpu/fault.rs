//! What a device complains about, as errors for people.

use std::sync::{Arc, Mutex};

use crate::{Error, Result};

/// The first complaint of a device, which arrives outside of any call. Cloning clones the handle.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    device: String,
    first: Arc<Mutex<Option<String>>>,
}

impl Fault {
    /// No complaint so far of the device called `device`.
    pub(super) fn new(device: &str) -> Self {
        Self { device: device.to_owned(), first: Arc::default() }
    }

    /// Keeps `problem` unless there is an earlier one.
    pub(super) fn report(&self, problem: String) {
        if let Ok(mut first) = self.first.lock() {
            first.get_or_insert(problem);
        }
    }

    /// Fails once the device has complained. In the browser complaints arrive late: at the next wait.
    pub(super) fn check(&self) -> Result<()> {
        let first = self.first.lock().map(|first| first.clone()).unwrap_or_default();
        first.map_or(Ok(()), |problem| Err(self.error(problem)))
    }

    /// An error of this device.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Device { device: self.device.clone(), problem: problem.into() }
    }
}

/// A complaint as a part of a sentence, and what to do.
pub(super) fn explain(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            "it is out of memory; choose a smaller model, a smaller quantisation or a shorter context".into()
        }
        other => {
            let words: Vec<String> = other.to_string().split_whitespace().map(str::to_owned).collect();
            format!("it refuses an operation ({}); please report this", words.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_is_kept() {
        let fault = Fault::new("a GPU");
        fault.check().unwrap();
        fault.report("it was lost".into());
        fault.clone().report("it refuses an operation".into());
        assert_eq!(fault.check().unwrap_err().to_string(), fault.error("it was lost").to_string());
    }

    #[test]
    fn a_full_device_and_a_refused_operation_are_one_sentence() {
        let full = explain(&wgpu::Error::OutOfMemory { source: "no memory".into() });
        assert!(full.contains("out of memory") && full.contains("a smaller model"), "{full}");
        let description = "Validation Error\n\nCaused by:\n  In Queue::submit\n".to_string();
        let refused = explain(&wgpu::Error::Validation { source: "no".into(), description });
        assert!(refused.contains("(Validation Error Caused by: In Queue::submit)"), "{refused}");
    }
}
