//! Images and labels where the network is.

use abn_data::Batch;
use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Images that go through the network at once, on its device.
pub(crate) struct Part {
    /// (N, 3, H, W)
    pub images: Tensor,
    /// (N, T), u32: an image's labels lie together.
    pub labels: Tensor,
    /// The same labels in the same order, on the host.
    pub known: Vec<u32>,
    /// Each image's number in its data set.
    pub indices: Vec<usize>,
}

impl Part {
    /// A batch of the loader's, brought to the device. On the CPU nothing is copied.
    pub fn new(batch: Batch, device: &Device) -> Result<Self> {
        let Batch { images, labels, tasks, shape: [n, c, h, w], indices } = batch;
        Ok(Self {
            images: Tensor::from_vec(images, (n, c, h, w), device)?,
            labels: Tensor::from_slice(&labels, (n, tasks), device)?,
            known: labels,
            indices,
        })
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.images.dims()[0]
    }

    /// The labels of the only task, (N).
    pub fn classes(&self) -> Result<Tensor> {
        Ok(self.labels.flatten_all()?)
    }

    /// So many black images of the same size.
    pub fn stand_ins(&self, count: usize) -> Result<Self> {
        let (device, tasks) = (self.images.device(), self.labels.dims()[1]);
        let (_, c, h, w) = self.images.dims4()?;
        Ok(Self {
            images: Tensor::zeros((count, c, h, w), DType::F32, device)?,
            labels: Tensor::zeros((count, tasks), DType::U32, device)?,
            known: vec![0; count * tasks],
            indices: Vec::new(),
        })
    }
}
