//! MNIST (LeCun, Cortes, Burges), and what it shares with its descendants: four idx files of
//! 28×28 grey images of ten classes.

use std::path::Path;
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::{Error, Result};
use crate::idx::{self, Images};
use crate::memory::MemoryDataset;
use crate::places::Places;
use crate::transform::Fit;

/// Side of the images as stored.
const SIDE: usize = 28;
/// Side of the padded images that networks for 32×32 see.
const PADDED_SIDE: usize = 32;

const HELP: &str = "run `cargo xtask fetch mnist`, or put the four official files (plain or .gz) \
                    into a folder and name it as the data folder";

/// The dataset, from `folder` or `datasets/mnist/raw`.
pub(crate) fn splits(folder: Option<&Path>) -> Result<Splits> {
    let places =
        Places::new("mnist", folder, &["datasets/mnist/raw"], HELP).with_folders(&["MNIST/raw"]);
    let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    read("mnist", &places, classes.into(), Normalisation::MNIST)
}

/// The four files in one of the places, plain or gzipped.
pub(crate) fn read(
    name: &str,
    places: &Places,
    classes: Arc<[String]>,
    stats: Normalisation,
) -> Result<Splits> {
    // All four are looked for before the first is read.
    let [train_images, train_labels, test_images, test_labels] = [
        places.find_idx("train-images-idx3-ubyte")?,
        places.find_idx("train-labels-idx1-ubyte")?,
        places.find_idx("t10k-images-idx3-ubyte")?,
        places.find_idx("t10k-labels-idx1-ubyte")?,
    ];
    let split = |images: &Path, labels: &Path| {
        let found = idx::read_images(images)?;
        dataset((found, images), (idx::read_labels(labels, classes.len())?, labels), &classes)
    };
    let train = split(&train_images, &train_labels)?;
    Ok(splits_of(name, train, split(&test_images, &test_labels)?, stats))
}

/// Two splits of 28×28 images, to be padded to 32×32.
pub(crate) fn splits_of(
    name: &str,
    train: MemoryDataset,
    test: MemoryDataset,
    stats: Normalisation,
) -> Splits {
    Splits {
        name: name.to_owned(),
        train: Arc::new(train),
        test: Arc::new(test),
        stats,
        fit: Fit::Pad,
        image_size: PADDED_SIDE.into(),
    }
}

/// Images and labels that belong together.
pub(crate) fn dataset(
    (images, images_path): (Images, &Path),
    (labels, labels_path): (Vec<u8>, &Path),
    classes: &Arc<[String]>,
) -> Result<MemoryDataset> {
    if images.count != labels.len() {
        return Err(Error::CountMismatch {
            images_path: images_path.to_owned(),
            labels_path: labels_path.to_owned(),
            images: images.count,
            labels: labels.len(),
        });
    }
    if (images.rows, images.columns) != (SIDE, SIDE) {
        let found = format!("{}×{}", images.rows, images.columns);
        return Err(Error::format(images_path, format!("images of {SIDE}×{SIDE} pixels"), found));
    }
    MemoryDataset::new([SIDE, SIDE, 1], images.pixels, labels, classes.clone())
}
