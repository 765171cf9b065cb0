//! Fashion-MNIST (Zalando, MIT licence): 28×28 grey images of ten kinds of clothing.
//!
//! `fashion-mnist` reads the four official files; `fashion-mnist-mini` is a subset of them that
//! feature `embedded` compiles in, made by `cargo xtask embed-fashion-mnist`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::{Error, Result};
use crate::idx::{self, Images};
use crate::memory::MemoryDataset;
use crate::transform::Fit;

/// The classes, in the order of their labels.
pub const CLASSES: [&str; 10] = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
];

/// How many images of each class `fashion-mnist-mini` takes, in file order: (train, test).
pub const SUBSET_PER_CLASS: (usize, usize) = (1000, 200);

/// Side of the images as stored.
const SIDE: usize = 28;
/// Side of the padded images that networks for 32×32 see.
const PADDED_SIDE: usize = 32;

const HELP: &str = "install Debian's package `dataset-fashion-mnist`, or put the four official \
                    files (plain or .gz) into a folder and name it as the data folder";

/// Where the files are looked for when no folder is named.
const DEFAULT_FOLDERS: [&str; 2] =
    ["datasets/fashion-mnist/raw", "/usr/share/datasets/fashion-mnist"];

/// The full dataset, from `folder` or the usual places.
pub(crate) fn full(folder: Option<&Path>) -> Result<Splits> {
    let folders: Vec<PathBuf> = match folder {
        Some(folder) => vec![folder.to_owned()],
        None => DEFAULT_FOLDERS.iter().map(PathBuf::from).collect(),
    };
    // All four are looked for before the first is read.
    let [train_images, train_labels, test_images, test_labels] = [
        find(&folders, "train-images-idx3-ubyte")?,
        find(&folders, "train-labels-idx1-ubyte")?,
        find(&folders, "t10k-images-idx3-ubyte")?,
        find(&folders, "t10k-labels-idx1-ubyte")?,
    ];
    let split = |images: &Path, labels: &Path| {
        dataset(
            (idx::read_images(images)?, images),
            (idx::read_labels(labels, CLASSES.len())?, labels),
        )
    };
    Ok(splits(
        "fashion-mnist",
        split(&train_images, &train_labels)?,
        split(&test_images, &test_labels)?,
    ))
}

/// The subset that is compiled in.
#[cfg(feature = "embedded")]
pub(crate) fn mini() -> Result<Splits> {
    /// Name and bytes of an embedded file.
    macro_rules! embedded {
        ($name:literal) => {
            (
                Path::new(concat!("embedded:", $name)),
                include_bytes!(concat!("../../../datasets/fashion-mnist/", $name)).as_slice(),
            )
        };
    }
    let split = |(images_path, images), (labels_path, labels)| {
        dataset(
            (idx::parse_images(images, images_path)?, images_path),
            (idx::parse_labels(labels, labels_path, CLASSES.len())?, labels_path),
        )
    };
    let train =
        split(embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"))?;
    let test =
        split(embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz"))?;
    Ok(splits("fashion-mnist-mini", train, test))
}

/// The subset is not compiled in.
#[cfg(not(feature = "embedded"))]
pub(crate) fn mini() -> Result<Splits> {
    Err(Error::Unavailable {
        dataset: "fashion-mnist-mini",
        reason: "this program was built without abn-data's feature `embedded`",
    })
}

fn splits(name: &str, train: MemoryDataset, test: MemoryDataset) -> Splits {
    Splits {
        name: name.to_owned(),
        train: Arc::new(train),
        test: Arc::new(test),
        stats: Normalisation::FASHION_MNIST,
        fit: Fit::Pad,
        image_size: PADDED_SIDE,
    }
}

fn dataset(
    (images, images_path): (Images, &Path),
    (labels, labels_path): (Vec<u8>, &Path),
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
    let names = CLASSES.map(str::to_owned).into();
    MemoryDataset::new([SIDE, SIDE, 1], images.pixels, labels, names)
}

/// The first of `name` and `name.gz` that is in one of the folders.
fn find(folders: &[PathBuf], name: &str) -> Result<PathBuf> {
    let zipped = format!("{name}.gz");
    folders
        .iter()
        .flat_map(|folder| [folder.join(name), folder.join(&zipped)])
        .find(|file| file.is_file())
        .ok_or_else(|| Error::Missing {
            dataset: "fashion-mnist".to_owned(),
            file: format!("{name}[.gz]"),
            looked_in: folders.to_vec(),
            help: HELP,
        })
}
