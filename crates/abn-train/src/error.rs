use std::path::{Path, PathBuf};

use crate::Difference;

/// What can go wrong in training, evaluation and explanation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe file that cannot be.
    #[error("{}, line {line}{}: {problem}", file.display(), key.as_ref().map_or(String::new(), |key| format!(", key {key:?}")))]
    Recipe {
        /// The recipe.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, if the problem has one.
        key: Option<String>,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A value that cannot be, wherever it came from.
    #[error("{key}: {problem}")]
    Setting {
        /// The recipe's key.
        key: &'static str,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of a run that does not hold what it should.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// Weights that do not fit the network.
    #[error("{} does not fit {network}: {problem}", path.display())]
    Misfit {
        /// The file of weights.
        path: PathBuf,
        /// The network they were to be put in.
        network: String,
        /// The first names or shapes that differ.
        problem: String,
    },
    /// A file that weights cannot be taken from.
    #[error("cannot read weights from {}: {problem}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// A folder that holds no run.
    #[error("{} is no run: {problem}", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// A folder that holds another run than the one asked for.
    #[error(
        "{} holds a run of another recipe ({}); choose another folder, or --force to replace it",
        path.display(),
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    OtherRun {
        /// The run's folder.
        path: PathBuf,
        /// Each key that differs.
        differences: Vec<Difference>,
    },
    /// A folder that holds files, but no run.
    #[error(
        "{} holds files that are not a run's (such as {found}); choose another folder, or --force to train there",
        path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// The name of one of them.
        found: String,
    },
    /// Another process trains in this folder.
    #[error("another process is training in {}; wait for it, or choose another folder", path.display())]
    Busy {
        /// The run's folder.
        path: PathBuf,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}, at learning rate {lr}: training diverged; \
         try a smaller lr (the state after the last whole epoch is kept)"
    )]
    Diverged {
        /// The loss.
        loss: f64,
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1.
        step: usize,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The caller asked to stop; everything is saved.
    #[error(
        "stopped in epoch {epoch} after step {step} and saved to {}; run the same command again to go on from there",
        path.display()
    )]
    Stopped {
        /// The run's folder.
        path: PathBuf,
        /// Counted from 1.
        epoch: usize,
        /// Steps of that epoch that are done.
        step: usize,
    },
    /// An image that cannot be read.
    #[error("cannot read image {}: {problem}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// The decoder's reason.
        problem: String,
    },
    /// A `.npy` file that a map cannot be taken from.
    #[error("cannot read an array from {}: {problem}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// Another of the processes that train together is gone, silent or has failed.
    #[error("rank {rank} {problem}")]
    Peer {
        /// Its number.
        rank: usize,
        /// What is wrong, as the end of a sentence.
        problem: String,
    },
    /// Processes that cannot train together.
    #[error("{0}")]
    Parallel(String),
    /// A device that cannot be had.
    #[error("device {device}: {problem}")]
    Device {
        /// As it was asked for.
        device: String,
        /// What is missing and what to do.
        problem: String,
    },
    /// Images and maps, or weights and their sizes, that do not belong together.
    #[error("{0}")]
    Invalid(String),
    /// From the datasets.
    #[error(transparent)]
    Data(#[from] abn_data::Error),
    /// From the networks.
    #[error(transparent)]
    Backbone(#[from] abn_backbones::Error),
    /// From the attention mechanism and parameters.
    #[error(transparent)]
    Core(#[from] abn_core::Error),
    /// From the explanations and their pictures.
    #[error(transparent)]
    Explain(#[from] abn_explain::Error),
    /// From the networks for several tasks.
    #[error(transparent)]
    MultiTask(#[from] abn_multitask::Error),
    /// From the operations.
    #[error(transparent)]
    Ops(#[from] abn_ops::Error),
    /// From candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// What this crate's functions give.
pub type Result<T, E = Error> = std::result::Result<T, E>;
