//! The crate's error type.

/// Why a map could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model refused the images.
    #[error(transparent)]
    Core(#[from] abn_core::Error),
    /// An operation refused its inputs.
    #[error(transparent)]
    Ops(#[from] abn_ops::Error),
    /// An error of candle's own.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Not one class for each image.
    #[error("{classes} classes for {images} images; expected one for each")]
    Targets {
        /// Images in the batch.
        images: usize,
        /// Classes given.
        classes: usize,
    },
    /// A class that the model does not have.
    #[error("class {class} of a model with {count} classes")]
    Class {
        /// The class.
        class: u32,
        /// Number of classes (K).
        count: usize,
    },
    /// A layer that the model does not have.
    #[error("the model has no layer `{layer}`; it has {}", known.join(", "))]
    NoLayer {
        /// What was asked for.
        layer: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A layer whose output is no feature map.
    #[error("layer `{layer}` gives {shape:?}; expected a feature map (N, h, w, C)")]
    NoFeatureMap {
        /// The layer.
        layer: String,
        /// Shape of its output.
        shape: Vec<usize>,
    },
    /// Something of an attention branch was asked of a model without one.
    #[error("the model has no attention branch")]
    NoAttention,
    /// A layer on which the class's score does not depend.
    #[error("the class's score does not depend on layer `{layer}`")]
    Unconnected {
        /// The layer.
        layer: String,
    },
    /// Class activation maps of a model that has more than a linear layer after the mean.
    #[error(
        "class activation maps need a model whose answer is one linear layer of the mean of its last feature map; \
         build it as `cam`, or use Grad-CAM"
    )]
    NoClassWeights,
    /// Something to be measured that cannot be.
    #[error("cannot measure faithfulness: {0}")]
    Measure(String),
    /// A name that no method has.
    #[error("unknown method `{name}`; the methods are {known}")]
    UnknownMethod {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A map whose values do not fit its size.
    #[error("a map of {width}×{height} with {values} values that reaches {reach} of the image")]
    Heatmap {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// How many values were given.
        values: usize,
        /// Side of what the map covers over the side of the image; expected above 0.
        reach: f32,
    },
    /// A name that no colour map has.
    #[error("unknown colour map `{name}`; the colour maps are {known}")]
    UnknownColours {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A picture could not be written.
    #[cfg(feature = "pictures")]
    #[error(transparent)]
    Png(#[from] image::ImageError),
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;
