//! The crate's error type.

/// Why a model for several tasks could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer or the backbone refused.
    #[error(transparent)]
    Core(#[from] abn_core::Error),
    /// There is no such backbone.
    #[error(transparent)]
    Backbones(#[from] abn_backbones::Error),
    /// An operation refused its inputs.
    #[error(transparent)]
    Ops(#[from] abn_ops::Error),
    /// An error of candle's own.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Tasks no model can be built for.
    #[error("{0}")]
    Tasks(String),
    /// A label that is no answer to its task.
    #[error("sample {sample}, task `{task}`: label {label} is not below {categories}")]
    Label {
        /// Position in the batch.
        sample: usize,
        /// The task's name.
        task: String,
        /// The label.
        label: u32,
        /// Number of the task's answers.
        categories: usize,
    },
    /// Gradients were asked of a pass that does not train.
    #[error("gradients are of a training pass, with `Mode::Train`")]
    NotTraining,
    /// A name that stands for no value of an option.
    #[error("unknown {what} `{name}`: expected {expected}")]
    UnknownName {
        /// The option.
        what: &'static str,
        /// What was given.
        name: String,
        /// The names it takes.
        expected: &'static str,
    },
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;
