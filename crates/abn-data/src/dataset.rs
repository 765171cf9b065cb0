//! What a dataset is.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::size::Size;
use crate::subset::Subset;
use crate::transform::Fit;

/// An 8-bit image, rows from the top, channels innermost (H, W, C).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `height · width · channels` bytes.
    pub data: Vec<u8>,
}

/// A question that every image of a dataset has one answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What is asked, such as an attribute's name.
    pub name: String,
    /// The answers, in the order of their labels.
    pub categories: Vec<String>,
}

impl Task {
    /// The only task of a dataset for plain classification: `class`.
    pub fn classes(categories: Vec<String>) -> Self {
        Self { name: "class".to_owned(), categories }
    }
}

/// An image and its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The image as stored.
    pub image: Image,
    /// Its category in each of the dataset's tasks, below the task's number of categories.
    pub labels: Vec<u32>,
}

impl Sample {
    /// Its category in the first task: the class, where there is one task. 0 without labels.
    pub fn label(&self) -> u32 {
        self.labels.first().copied().unwrap_or(0)
    }
}

/// A split of a dataset: samples in a fixed order, each of which can be had at any time from any thread.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is asked of an image, at least one task. Plain classification is a single one.
    fn tasks(&self) -> &[Task];

    /// Names of the first task's categories: the classes, where there is one task.
    fn class_names(&self) -> &[String] {
        self.tasks().first().map_or(&[], |task| &task.categories)
    }

    /// Number of the first task's categories (K).
    fn num_classes(&self) -> usize {
        self.class_names().len()
    }

    /// Height, width and channels of its images, if all have the same and none is read from a file when
    /// it is asked for: then the whole split may be kept elsewhere as so many bytes.
    fn image_shape(&self) -> Option<[usize; 3]> {
        None
    }

    /// The sample at `index`.
    ///
    /// # Errors
    /// If `index` is not below [`len`](Self::len), or the sample's file cannot be read or decoded;
    /// the error names the file.
    fn get(&self, index: usize) -> Result<Sample>;

    /// The labels of the sample at `index`, one for each task: what [`get`](Self::get) gives,
    /// without reading the image.
    ///
    /// # Errors
    /// If `index` is not below [`len`](Self::len).
    fn labels(&self, index: usize) -> Result<Vec<u32>>;

    /// The first of [`labels`](Self::labels): the class, where there is one task.
    ///
    /// # Errors
    /// As [`labels`](Self::labels), and if there is none.
    fn label(&self, index: usize) -> Result<u32> {
        self.labels(index)?.first().copied().ok_or_else(|| Error::Sample {
            sample: index,
            reason: "no label; expected one for each task".to_owned(),
        })
    }
}

/// Mean and standard deviation of each channel, of pixels scaled to 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

impl Normalisation {
    /// ImageNet's, as torchvision has them; the usual choice for photographs.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// CIFAR-10's and CIFAR-100's, the figures that the authors' scripts use for both.
    pub const CIFAR: Self = Self { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.2010] };

    /// SVHN's, of its training images.
    pub const SVHN: Self = Self { mean: [0.4377, 0.4438, 0.4728], std: [0.1980, 0.2010, 0.1970] };

    /// MNIST's, its one channel repeated.
    pub const MNIST: Self = Self { mean: [0.1307; 3], std: [0.3081; 3] };

    /// Fashion-MNIST's, its one channel repeated.
    pub const FASHION_MNIST: Self = Self { mean: [0.2860; 3], std: [0.3530; 3] };
}

/// A dataset's two splits, and what is needed to feed them to a network.
#[derive(Clone)]
pub struct Splits {
    /// The name it was opened by.
    pub name: String,
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What is evaluated on; the same tasks.
    pub test: Arc<dyn Dataset>,
    /// How pixels are normalised.
    pub stats: Normalisation,
    /// How an image is brought to the network's size.
    pub fit: Fit,
    /// The image size that suits the dataset. A network made for another takes its shape from here.
    pub image_size: Size,
}

impl Splits {
    /// The same, but trained on the first `n` images of each class only, in the order of the
    /// files; a class that has fewer keeps them all. A view: no image is copied or read.
    ///
    /// # Errors
    /// If `n` is 0, a label cannot be had, or there are several tasks.
    pub fn first_per_class(&self, n: usize) -> Result<Self> {
        Ok(Self { train: Arc::new(Subset::first_per_class(&self.train, n)?), ..self.clone() })
    }
}

impl std::fmt::Debug for Splits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splits")
            .field("name", &self.name)
            .field("train", &self.train.len())
            .field("test", &self.test.len())
            .field("tasks", &self.train.tasks().len())
            .field("classes", &self.train.num_classes())
            .field("stats", &self.stats)
            .field("fit", &self.fit)
            .field("image_size", &self.image_size)
            .finish()
    }
}
