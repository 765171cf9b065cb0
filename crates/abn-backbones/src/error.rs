//! The crate's error type.

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no model's.
    #[error("unknown model `{name}`{}", did_you_mean(nearest))]
    UnknownModel {
        /// What was given.
        name: String,
        /// Names of models that look like it, the most similar first.
        nearest: Vec<String>,
    },
    /// A family's name with a size the family cannot have.
    #[error("there is no model `{name}`: {reason}")]
    InvalidModel {
        /// What was given.
        name: String,
        /// What sizes there are.
        reason: String,
    },
    /// A name that stands for no variant.
    #[error("unknown variant `{0}`: expected `baseline`, `cam`, `control` or `abn`")]
    UnknownVariant(String),
    /// Settings no model can be built with.
    #[error("{0}")]
    Options(String),
    /// Building failed.
    #[error(transparent)]
    Core(#[from] abn_core::Error),
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return "; `abn models` lists them".to_owned();
    }
    let names = nearest.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!("; the nearest are {names}")
}
