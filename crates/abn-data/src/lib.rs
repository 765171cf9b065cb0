//! Datasets of images with one label or several, and a loader that turns them into normalised batches.
//!
//! Everything here lives on the host: a batch is a `Vec<f32>`, and what device it goes to is the
//! caller's business. The crate knows no tensor library, no network and no training loop.
//!
//! Results do not depend on the number of threads. The order of an epoch, and the crop and flip of
//! every sample, come from a ChaCha stream keyed by `(seed, epoch, sample)` (see [`rng`]).
//!
//! ```no_run
//! use abn_data::{Loader, LoaderConfig, Transform, open};
//!
//! # fn main() -> abn_data::Result<()> {
//! let splits = open("folder", Some("photos".as_ref()))?; // photos/<class>/*.jpg
//! let transform = Transform::standard(splits.fit, 224, splits.stats);
//! let config = LoaderConfig { batch_size: 32, augment: true, shuffle: true, ..Default::default() };
//! for batch in Loader::new(splits.train, transform, config)? {
//!     let batch = batch?; // batch.images: (N, 3, 224, 224)
//!     assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
//! }
//! # Ok(())
//! # }
//! ```

mod celeba;
mod cifar;
mod compcars;
mod dataset;
mod decode;
mod error;
mod fashion_mnist;
mod folder;
pub mod idx;
mod imagenet;
mod listing;
mod lists;
mod loader;
#[cfg(test)]
mod malformed;
mod mat;
mod memory;
mod mnist;
mod open;
mod places;
pub mod planted;
mod resize;
pub mod rng;
mod size;
mod subset;
mod svhn;
#[cfg(test)]
mod testing;
mod transform;

pub use dataset::{Dataset, Image, Normalisation, Sample, Splits, Task};
pub use decode::read_image;
pub use error::{Error, Result};
pub use fashion_mnist::{CLASSES as FASHION_MNIST_CLASSES, SUBSET_PER_CLASS};
pub use folder::FolderDataset;
pub use loader::{Batch, Draft, Loader, LoaderConfig, Shard};
pub use memory::MemoryDataset;
pub use open::{DATASETS, DatasetInfo, open};
pub use resize::resize;
pub use size::Size;
pub use subset::Subset;
pub use transform::{Fit, Placement, Transform};
