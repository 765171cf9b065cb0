//! The crate's error type.

/// Why an operation could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input has a shape the operation does not take.
    #[error("{op}: expected {expected}, got {got:?}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// What it takes, in words.
        expected: String,
        /// What it was given.
        got: Vec<usize>,
    },
    /// A setting that makes no sense (stride 0, groups that do not divide the channels, …).
    #[error("{op}: {reason}")]
    Config {
        /// Name of the operation.
        op: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A class label outside `0..classes`.
    #[error("{op}: label {label} of sample {sample} is not below the number of classes, {classes}")]
    Label {
        /// Name of the operation.
        op: &'static str,
        /// Position in the batch.
        sample: usize,
        /// The label found there.
        label: u32,
        /// Number of classes (K).
        classes: usize,
    },
    /// A device or number type that has no kernel.
    #[error("{op}: no kernel for {what}")]
    Unsupported {
        /// Name of the operation.
        op: &'static str,
        /// The device or number type.
        what: String,
    },
    /// A GPU that is not there, or that this program cannot use.
    #[error("CUDA device {ordinal}: {reason}")]
    Device {
        /// Which one, from 0 on.
        ordinal: usize,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A library of NVIDIA's failed.
    #[error("{op}: {library} failed at {what}")]
    Library {
        /// Name of the operation.
        op: &'static str,
        /// Name of the library.
        library: &'static str,
        /// What it was asked for, and what it answered.
        what: String,
    },
    /// Backward was asked of a value that cannot have one.
    #[error("backward: {0}")]
    Backward(&'static str),
    /// An error of candle's own.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn shape(op: &'static str, expected: impl Into<String>, got: &[usize]) -> Self {
        Self::Shape { op, expected: expected.into(), got: got.to_vec() }
    }

    pub(crate) fn config(op: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { op, reason: reason.into() }
    }
}
