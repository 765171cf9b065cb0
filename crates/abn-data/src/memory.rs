//! A dataset held in memory.

use std::sync::Arc;

use crate::dataset::{Dataset, Image, Sample, Task};
use crate::error::{Error, Result};

/// No file of a dataset in memory may promise more images than this: twice SVHN's largest.
pub(crate) const MAX_IMAGES: usize = 1 << 20;

/// Images of one size, held in memory.
#[derive(Clone, Debug)]
pub struct MemoryDataset {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    tasks: [Task; 1],
}

impl MemoryDataset {
    /// A dataset of `labels.len()` images, each `height · width · channels` of the bytes in `pixels`.
    ///
    /// # Errors
    /// If the number of bytes does not match, or a label is not below `class_names.len()`.
    pub fn new(
        [height, width, channels]: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<u8>,
        class_names: Arc<[String]>,
    ) -> Result<Self> {
        let expected = labels.len() * height * width * channels;
        if pixels.len() != expected {
            return Err(Error::Config(format!(
                "{} images of {height}×{width}×{channels} need {expected} bytes, got {}",
                labels.len(),
                pixels.len()
            )));
        }
        if let Some(sample) = labels.iter().position(|&l| usize::from(l) >= class_names.len()) {
            return Err(Error::Config(format!(
                "label {} of sample {sample} is not below the number of classes, {}",
                labels[sample],
                class_names.len()
            )));
        }
        let tasks = [Task::classes(class_names.to_vec())];
        Ok(Self { width, height, channels, pixels, labels, tasks })
    }
}

impl Dataset for MemoryDataset {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        Some([self.height, self.width, self.channels])
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let labels = self.labels(index)?;
        let Self { width, height, channels, .. } = *self;
        let bytes = width * height * channels;
        let data = self.pixels[index * bytes..(index + 1) * bytes].to_vec();
        Ok(Sample { image: Image { width, height, channels, data }, labels })
    }

    fn labels(&self, index: usize) -> Result<Vec<u32>> {
        let label = self.labels.get(index).ok_or(Error::Index { index, len: self.len() })?;
        Ok(vec![(*label).into()])
    }
}
