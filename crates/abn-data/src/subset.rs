//! Some of a dataset's samples, as a dataset.

use std::sync::Arc;

use crate::dataset::{Dataset, Sample, Task};
use crate::error::{Error, Result};

/// A view of a dataset: some of its samples, with its tasks. Copies no image.
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    /// Sample i is the dataset's sample `indices[i]`.
    indices: Vec<usize>,
}

impl Subset {
    /// The samples at these positions, in this order.
    ///
    /// # Errors
    /// If a position is not below the dataset's length.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        let len = dataset.len();
        match indices.iter().find(|&&index| index >= len) {
            Some(&index) => Err(Error::Index { index, len }),
            None => Ok(Self { dataset, indices }),
        }
    }

    /// The first `n` samples of each class, in the dataset's order; all of a class that has fewer.
    ///
    /// # Errors
    /// If `n` is 0, a label cannot be had or is not below the number of classes, or there are
    /// several tasks.
    pub fn first_per_class(dataset: &Arc<dyn Dataset>, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::Config("0 images of each class; expected at least 1".to_owned()));
        }
        if let tasks @ 2.. = dataset.tasks().len() {
            return Err(Error::Config(format!(
                "the first {n} images of each class were asked of a dataset of {tasks} tasks, \
                 which has no one class for each image"
            )));
        }
        let classes = dataset.num_classes();
        let mut counts = vec![0; classes];
        let mut indices = Vec::new();
        for index in 0..dataset.len() {
            let label = dataset.label(index)?;
            let Some(count) = counts.get_mut(label as usize) else {
                let reason = format!("label {label} is not below the number of classes, {classes}");
                return Err(Error::Sample { sample: index, reason });
            };
            if *count < n {
                *count += 1;
                indices.push(index);
            }
        }
        Ok(Self { dataset: dataset.clone(), indices })
    }

    /// The positions in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    fn whole(&self, index: usize) -> Result<usize> {
        self.indices.get(index).copied().ok_or(Error::Index { index, len: self.indices.len() })
    }
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subset({} of {} samples)", self.indices.len(), self.dataset.len())
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn tasks(&self) -> &[Task] {
        self.dataset.tasks()
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        self.dataset.image_shape()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.dataset.get(self.whole(index)?)
    }

    fn labels(&self, index: usize) -> Result<Vec<u32>> {
        self.dataset.labels(self.whole(index)?)
    }
}

#[cfg(test)]
mod tests;
