//! Fashion-MNIST (Zalando, MIT licence): 28×28 grey images of ten kinds of clothing.
//!
//! `fashion-mnist` reads the four official files; `fashion-mnist-mini` is a subset of them that
//! feature `embedded` compiles in, made by `cargo xtask embed-fashion-mnist`.

use std::path::Path;
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::Result;
use crate::mnist;
use crate::places::Places;

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

const HELP: &str = "run `cargo xtask fetch fashion-mnist`, install Debian's package \
                    `dataset-fashion-mnist`, or put the four official files (plain or .gz) into a \
                    folder and name it as the data folder";

/// Where the files are looked for when no folder is named.
const DEFAULT_FOLDERS: [&str; 2] =
    ["datasets/fashion-mnist/raw", "/usr/share/datasets/fashion-mnist"];

/// The full dataset, from `folder` or the usual places.
pub(crate) fn full(folder: Option<&Path>) -> Result<Splits> {
    let places = Places::new("fashion-mnist", folder, &DEFAULT_FOLDERS, HELP)
        .with_folders(&["FashionMNIST/raw"]);
    mnist::read("fashion-mnist", &places, classes(), Normalisation::FASHION_MNIST)
}

fn classes() -> Arc<[String]> {
    CLASSES.map(str::to_owned).into()
}

/// The subset that is compiled in.
#[cfg(feature = "embedded")]
pub(crate) fn mini() -> Result<Splits> {
    use crate::idx;

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
        mnist::dataset(
            (idx::parse_images(images, images_path)?, images_path),
            (idx::parse_labels(labels, labels_path, CLASSES.len())?, labels_path),
            &classes(),
        )
    };
    let train =
        split(embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz"))?;
    let test =
        split(embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz"))?;
    Ok(mnist::splits_of("fashion-mnist-mini", train, test, Normalisation::FASHION_MNIST))
}

/// The subset is not compiled in.
#[cfg(not(feature = "embedded"))]
pub(crate) fn mini() -> Result<Splits> {
    Err(crate::Error::Unavailable {
        dataset: "fashion-mnist-mini",
        reason: "this program was built without abn-data's feature `embedded`",
    })
}
