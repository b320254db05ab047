//! The one error type of the engine. Every message is a sentence for the person who chose the model: what was
//! expected, what was found, and what to do.

/// What went wrong while reading, loading or running a model, or reading data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a model or of data is damaged, truncated or not what its name says.
    #[error("{file}: {problem}")]
    Format {
        /// The file, as the source names it.
        file: String,
        /// Expected, found, and the next step.
        problem: String,
    },
    /// A file of the model is missing.
    #[error("{file} was not found; {hint}")]
    Missing {
        /// The file, as the source names it.
        file: String,
        /// What to do.
        hint: String,
    },
    /// The bytes of a file are not those that the manifest promises.
    #[error("{file} is damaged: its SHA-256 is {found}, expected {expected}; download it again")]
    Hash {
        /// The file, as the source names it.
        file: String,
        /// The digest in the manifest, hexadecimal.
        expected: String,
        /// The digest of the bytes read, hexadecimal.
        found: String,
    },
    /// The source could not deliver bytes (disk, network).
    #[error("cannot read {file}: {problem}")]
    Read {
        /// The file, as the source names it.
        file: String,
        /// The system's own words.
        problem: String,
    },
    /// The model is of a kind this engine does not run.
    #[error("{0}")]
    Unsupported(String),
    /// A tensor has another shape than the configuration asks for, or is not there.
    #[error("tensor {name}: expected shape {expected:?}, found {found}")]
    Tensor {
        /// The checkpoint's name of the tensor.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// What the file holds.
        found: String,
    },
    /// Operands of an operation do not fit each other: a defect of the caller.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shapes it takes.
        expected: String,
        /// The shapes it was given.
        got: String,
    },
    /// A request that the loaded model cannot serve (token id out of range, prompt longer than the context, …).
    #[error("{0}")]
    Request(String),
    /// The device refused or lost its work.
    #[error("{device}: {problem}")]
    Device {
        /// The device, as it names itself.
        device: String,
        /// What happened and what to do.
        problem: String,
    },
}

/// Result with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A damaged file, with what was expected and found.
    pub fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format { file: file.into(), problem: problem.into() }
    }
}
