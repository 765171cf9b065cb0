//! The crate's error type. Every variant that comes from a file names the file.

use std::path::PathBuf;

/// Why data could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not in the format it should have.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A line of a list that is not what it should be.
    #[error("{}, line {line}: expected {expected}, found {found}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Two files that belong together do not.
    #[error("{} has {images} images, but {} has {labels} labels", images_path.display(), labels_path.display())]
    CountMismatch {
        /// The file with the images.
        images_path: PathBuf,
        /// The file with the labels.
        labels_path: PathBuf,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label that names no class.
    #[error("{}: label {label} of sample {sample}, expected a label below the number of classes, {classes}", path.display())]
    Label {
        /// The file with the labels.
        path: PathBuf,
        /// Position in the file, from 0.
        sample: usize,
        /// The label found there.
        label: u32,
        /// Number of classes (K).
        classes: usize,
    },
    /// An image file that cannot be decoded.
    #[error("{}: cannot decode the image: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },
    /// An image the transform cannot bring to the network's size.
    #[error("sample {sample}: {reason}")]
    Sample {
        /// Position in the dataset.
        sample: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A position outside the dataset.
    #[error("sample {index} asked of a dataset of {len}")]
    Index {
        /// The position asked for.
        index: usize,
        /// Number of samples.
        len: usize,
    },
    /// A folder that is not laid out as `root/{train,test}/<class>/*.{png,jpg,jpeg}`.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A dataset whose files are not there.
    #[error(
        "{dataset}: {file} not found; looked in {}; {help}",
        looked_in.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// The dataset.
        dataset: String,
        /// The file that is missing.
        file: String,
        /// Where it was looked for.
        looked_in: Vec<PathBuf>,
        /// How to get it.
        help: &'static str,
    },
    /// A name that no dataset has.
    #[error("unknown dataset `{name}`; the nearest names are {}", nearest.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// The names there are, nearest first.
        nearest: Vec<String>,
    },
    /// A dataset that this build, or this call, cannot give.
    #[error("{dataset}: {reason}")]
    Unavailable {
        /// The dataset.
        dataset: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Config(String),
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(
        path: impl Into<PathBuf>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Format { path: path.into(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn line(
        path: impl Into<PathBuf>,
        line: usize,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self::Line { path: path.into(), line, expected, found }
    }

    pub(crate) fn layout(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Layout { path: path.into(), reason: reason.into() }
    }
}
