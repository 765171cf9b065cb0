//! Datasets by name.

use std::path::Path;

use crate::dataset::Splits;
use crate::error::{Error, Result};
use crate::{fashion_mnist, folder};

/// A dataset that [`open`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetInfo {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
}

/// Every dataset that [`open`] knows.
pub const DATASETS: [DatasetInfo; 3] = [
    DatasetInfo {
        name: "fashion-mnist-mini",
        summary: "10,000 training and 2,000 test images of Fashion-MNIST, compiled in",
    },
    DatasetInfo {
        name: "fashion-mnist",
        summary: "Fashion-MNIST, 60,000 and 10,000 images, from its four idx files",
    },
    DatasetInfo {
        name: "folder",
        summary: "your own images: <data folder>/{train,test}/<class>/*.{png,jpg,jpeg}",
    },
];

/// Opens a dataset by its name; `data_dir` is the folder with its files.
///
/// - `fashion-mnist-mini` needs no folder, but feature `embedded`;
/// - `fashion-mnist` looks in `data_dir`, or else in `datasets/fashion-mnist/raw` and Debian's
///   `/usr/share/datasets/fashion-mnist`;
/// - `folder` needs `data_dir`.
///
/// # Errors
/// If there is no dataset of that name (the error lists the nearest), or its files are missing
/// (which, where they were looked for, and how to get them), damaged, or do not fit each other.
pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Splits> {
    match name {
        "fashion-mnist-mini" => fashion_mnist::mini(),
        "fashion-mnist" => fashion_mnist::full(data_dir),
        "folder" => folder::splits(data_dir.ok_or(Error::Unavailable {
            dataset: "folder",
            reason: "name the data folder that holds train/<class>/ and test/<class>/",
        })?),
        _ => Err(Error::UnknownDataset { name: name.to_owned(), nearest: nearest(name) }),
    }
}

fn nearest(name: &str) -> Vec<String> {
    let mut names = DATASETS.map(|info| info.name);
    let name = name.to_lowercase();
    // The sort is stable: names equally near stay in the order of the list.
    names.sort_by(|a, b| strsim::jaro_winkler(&name, b).total_cmp(&strsim::jaro_winkler(&name, a)));
    names.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
