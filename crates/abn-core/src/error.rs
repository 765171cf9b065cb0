//! The crate's error type.

/// Why a model could not be built, run, loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation refused its inputs.
    #[error(transparent)]
    Ops(#[from] abn_ops::Error),
    /// An error of candle's own.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A parameter has another shape than the model asks for.
    #[error("parameter `{name}`: the model has shape {expected:?}, got {got:?}")]
    ParameterShape {
        /// Full name of the parameter.
        name: String,
        /// Shape in the model.
        expected: Vec<usize>,
        /// Shape that was found.
        got: Vec<usize>,
    },
    /// Weights do not have the model's parameters, or have others too.
    #[error(
        "the weights do not fit the model: {}{}",
        list("missing", missing),
        list("unexpected", unexpected)
    )]
    Keys {
        /// Parameters of the model that the weights lack.
        missing: Vec<String>,
        /// Names in the weights that the model does not have.
        unexpected: Vec<String>,
    },
    /// An attention branch was asked of a backbone that was built without its trunk.
    #[error("the backbone was built without an attention trunk")]
    NoTrunk,
    /// An attention map was given to a model that weights nothing by one.
    #[error("the model has no attention map that another could take the place of")]
    NoAttention,
    /// Class scores were asked of a backbone that was built without its fully connected layers.
    #[error("the backbone was built without fully connected layers")]
    NoClassifier,
    /// Several batches in one pass, of which one is to be several itself.
    #[error("the batch is several batches already; train the whole model with `Mode::Train`")]
    NestedParts,
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
    /// bf16 feature maps on a device that has no kernels for them.
    #[error("bf16 feature maps need a GPU; on the CPU networks compute in f32")]
    Precision,
    /// Bytes that are not a safetensors file.
    #[error("not a valid safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// A number type that weights cannot be written in.
    #[error("tensor `{name}`: {dtype:?} cannot be saved, only f32 and f64")]
    SaveDType {
        /// Name of the tensor.
        name: String,
        /// Its number type.
        dtype: candle_core::DType,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the first few keys: a wrong architecture has hundreds.
fn list(what: &str, keys: &[String]) -> String {
    const SHOWN: usize = 4;
    if keys.is_empty() {
        return String::new();
    }
    let shown = keys.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let more = match keys.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} {shown}{more}; ")
}
