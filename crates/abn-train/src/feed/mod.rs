//! The way of a data set to the device, in training and in evaluation.
//!
//! On the CPU it is the loader's. A GPU is fed beside its computation: batches go through pinned
//! memory and a stream of copies, two by turns ([`belt`]); and of a data set of small images of one size
//! the bytes are brought over once, so that of a batch only its places and labels remain to be
//! brought ([`resident`]).

mod belt;
mod resident;
#[cfg(test)]
mod tests;

use std::iter::Skip;
use std::sync::Arc;

use abn_data::{Batch, Dataset, Draft, Loader, LoaderConfig, Transform};
use abn_ops::Lane;
use candle_core::Device;

use crate::Result;
use crate::part::Part;
use belt::Belt;
use resident::Resident;

/// A data set on its way to a device.
pub(crate) struct Feed {
    dataset: Arc<dyn Dataset>,
    transform: Transform,
    device: Device,
    way: Way,
}

enum Way {
    /// The loader's batches, brought over when they are asked for.
    Host,
    /// They are brought over meanwhile.
    Beside(Lane),
    /// The images are there.
    Resident(Lane, Arc<Resident>),
}

/// The parts of an epoch. Each is to be used before the next is asked for: they share memory.
pub(crate) enum Parts {
    Host(Skip<Loader>, Device),
    Beside(Belt<Batch>),
    Resident(Belt<Draft>),
}

impl Feed {
    /// The way that suits the device.
    ///
    /// # Errors
    /// If an image cannot be had, or the driver gives no stream.
    pub fn new(dataset: Arc<dyn Dataset>, transform: Transform, device: &Device) -> Result<Self> {
        let way = if device.is_cpu() {
            Way::Host
        } else {
            let lane = Lane::new(device)?;
            match Resident::new(&*dataset, &transform, device)? {
                Some(resident) => Way::Resident(lane, Arc::new(resident)),
                None => Way::Beside(lane),
            }
        };
        Ok(Self { dataset, transform, device: device.clone(), way })
    }

    /// What it brings.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// The parts of an epoch from number `skip` on.
    ///
    /// # Errors
    /// As [`Loader::new`], and if there is no memory for two of them.
    pub fn epoch(&self, config: LoaderConfig, skip: usize) -> Result<Parts> {
        let (dataset, transform) = (self.dataset.clone(), self.transform);
        let images = config.batch_size;
        let (pixels, labels) = (images * transform.output_len(), images * dataset.tasks().len());
        Ok(match &self.way {
            Way::Host => {
                let loader = Loader::new(dataset, transform, config)?;
                Parts::Host(loader.skip(skip), self.device.clone())
            }
            Way::Beside(lane) => {
                let loader = Loader::new(dataset, transform, config)?.skip(skip);
                Parts::Beside(Belt::new(loader, || belt::Carried::new(lane, pixels, labels))?)
            }
            Way::Resident(lane, resident) => {
                let loader = Loader::drafts(dataset, transform, config)?.skip(skip);
                let drafted = || resident::Drafted::new(resident, lane, &transform, images, labels);
                Parts::Resident(Belt::new(loader, drafted)?)
            }
        })
    }
}

impl Iterator for Parts {
    type Item = Result<Part>;

    fn next(&mut self) -> Option<Result<Part>> {
        match self {
            Self::Host(batches, device) => {
                let batch = batches.next()?;
                Some(batch.map_err(Into::into).and_then(|batch| Part::new(batch, device)))
            }
            Self::Beside(belt) => belt.next(),
            Self::Resident(belt) => belt.next(),
        }
    }
}
