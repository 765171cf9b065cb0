//! A data set whose images are on the device.

use std::sync::Arc;

use abn_data::{Dataset, Draft, Transform};
use abn_ops::{Inlet, Lane, Window, cut_windows};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::belt::{Berth, Cargo};
use crate::part::Part;
use crate::{Error, Result};

/// Bytes of images that a device is given at most: all of CIFAR and SVHN.
const MOST_BYTES: usize = 2 << 30;
/// Channels of a network's input, and the values of a byte.
const LEVELS: (usize, usize) = (3, 256);

/// All images of a data set, as bytes, and what each byte is once normalised.
pub(crate) struct Resident {
    /// (N, H, W, channels), u8
    images: Tensor,
    /// (3, 256)
    levels: Tensor,
}

impl Resident {
    /// `None` if images are of several sizes, decoded or resized, too many bytes, or the device has no
    /// room for them.
    ///
    /// # Errors
    /// If an image cannot be had.
    pub fn new(
        dataset: &dyn Dataset,
        transform: &Transform,
        device: &Device,
    ) -> Result<Option<Self>> {
        let Some([height, width, channels]) = dataset.image_shape() else { return Ok(None) };
        let own = abn_data::Size { height, width };
        let resized = transform.place(own, None)?.resize.is_some();
        let bytes = height * width * channels;
        let (count, all) = (dataset.len(), bytes.saturating_mul(dataset.len()));
        if resized || all > MOST_BYTES || u32::try_from(count).is_err() || all == 0 {
            return Ok(None);
        }
        let mut images = vec![0; all];
        images.par_chunks_exact_mut(bytes).enumerate().try_for_each(|(index, to)| {
            let image = dataset.get(index)?.image;
            let shape = [image.height, image.width, image.channels];
            if shape != [height, width, channels] || image.data.len() != bytes {
                let expected = [height, width, channels];
                let reason = format!("an image of {shape:?} in a data set of {expected:?}");
                return Err(abn_data::Error::Sample { sample: index, reason });
            }
            to.copy_from_slice(&image.data);
            Ok(())
        })?;
        let levels: Vec<f32> = (0..LEVELS.0).flat_map(|c| transform.levels(c)).collect();
        let levels = Tensor::from_vec(levels, LEVELS, device)?;
        let images = Tensor::from_vec(images, (count, height, width, channels), device);
        Ok(images.ok().map(|images| Self { images, levels }))
    }
}

/// A batch of which places and labels are brought, and which is then cut out of the images.
pub(crate) struct Drafted {
    resident: Arc<Resident>,
    /// Windows, then labels.
    words: Inlet<u32>,
    /// Room for the batch.
    images: Tensor,
    tasks: usize,
    known: Vec<u32>,
    indices: Vec<usize>,
}

impl Drafted {
    /// Room for so many.
    pub fn new(
        resident: &Arc<Resident>,
        lane: &Lane,
        transform: &Transform,
        images: usize,
        labels: usize,
    ) -> Result<Self> {
        let size = transform.image_size;
        let shape = (images, LEVELS.0, size.height, size.width);
        Ok(Self {
            resident: resident.clone(),
            words: Inlet::new(lane, images * Window::WORDS + labels)?,
            images: Tensor::zeros(shape, DType::F32, resident.levels.device())?,
            tasks: 1,
            known: Vec::new(),
            indices: Vec::new(),
        })
    }
}

impl Cargo for Draft {
    type Berth = Drafted;
}

impl Berth for Drafted {
    type Cargo = Draft;

    fn load(&mut self, draft: Draft) -> Result<()> {
        let too_far = |_| Error::Invalid("an image further away than a window tells".into());
        let mut words = Vec::with_capacity(self.words.capacity());
        for (&index, placement) in draft.indices.iter().zip(&draft.placements) {
            let (row, column) = placement.corner;
            let window = Window {
                image: u32::try_from(index).map_err(too_far)?,
                corner: (
                    i32::try_from(row).map_err(too_far)?,
                    i32::try_from(column).map_err(too_far)?,
                ),
                mirror: placement.mirror,
            };
            words.extend(window.words());
        }
        words.extend(&draft.labels);
        self.words.fill(&words)?;
        (self.tasks, self.known, self.indices) = (draft.tasks, draft.labels, draft.indices);
        Ok(())
    }

    fn part(&self) -> Result<Part> {
        let (n, tasks) = (self.indices.len(), self.tasks);
        let words = self.words.take(n * (Window::WORDS + tasks))?;
        let windows = words.narrow(0, 0, n * Window::WORDS)?.reshape((n, Window::WORDS))?;
        let labels = words.narrow(0, n * Window::WORDS, n * tasks)?.reshape((n, tasks))?;
        let images = self.images.narrow(0, 0, n)?;
        if n > 0 {
            let Resident { images: all, levels } = &*self.resident;
            cut_windows(all, &windows, levels, &images)?;
        }
        Ok(Part { images, labels, known: self.known.clone(), indices: self.indices.clone() })
    }

    fn let_go(&self) -> Result<()> {
        Ok(self.words.release()?)
    }
}
