//! Datasets by name.

use std::path::Path;

use crate::compcars::Question;
use crate::dataset::Splits;
use crate::error::{Error, Result};
use crate::{celeba, cifar, compcars, fashion_mnist, folder, imagenet, mnist, planted, svhn};

/// A dataset that [`open`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetInfo {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
}

/// Every dataset that [`open`] knows.
pub const DATASETS: [DatasetInfo; 16] = [
    DatasetInfo {
        name: "fashion-mnist-mini",
        summary: "10,000 training and 2,000 test images of Fashion-MNIST, compiled in",
    },
    DatasetInfo {
        name: "fashion-mnist",
        summary: "Fashion-MNIST, 60,000 and 10,000 images, from its four idx files",
    },
    DatasetInfo {
        name: "mnist",
        summary: "MNIST, 60,000 and 10,000 digits, from its four idx files",
    },
    DatasetInfo {
        name: "cifar10",
        summary: "CIFAR-10, 50,000 and 10,000 images, from its binary or python batches",
    },
    DatasetInfo {
        name: "cifar100",
        summary: "CIFAR-100, 50,000 and 10,000 images, from its binary or python files",
    },
    DatasetInfo {
        name: "svhn",
        summary: "SVHN, 73,257 and 26,032 digits, from {train,test}_32x32.mat",
    },
    DatasetInfo {
        name: "svhn-extra",
        summary: "SVHN with extra_32x32.mat: 604,388 and 26,032 digits",
    },
    DatasetInfo {
        name: "imagenet",
        summary: "ILSVRC2012, 1,281,167 and 50,000 photographs: train/<wnid>/ and val/",
    },
    DatasetInfo {
        name: "celeba",
        summary: "CelebA, 182,637 (training and validation) and 19,962 faces, 40 attributes",
    },
    DatasetInfo {
        name: "celeba-val",
        summary: "CelebA, 162,770 training and 19,867 validation faces, 40 attributes",
    },
    DatasetInfo {
        name: "compcars-model",
        summary: "CompCars by its lists, 16,016 and 14,939 photographs of cars: which model",
    },
    DatasetInfo { name: "compcars-maker", summary: "the same photographs: which maker" },
    DatasetInfo { name: "compcars", summary: "the same photographs: model and maker, two tasks" },
    DatasetInfo {
        name: "compcars-viewpoint",
        summary: "the same photographs: from where the car is seen",
    },
    DatasetInfo {
        name: "planted",
        summary: "10,000 and 1,000 drawn images: a shape among clutter, and where it is",
    },
    DatasetInfo {
        name: "folder",
        summary: "your own images: <data folder>/[{train,test}/]<class>/*.{png,jpg,jpeg}",
    },
];

/// Opens a dataset by its name; `data_dir` is the folder with its files.
///
/// Without `data_dir`, `datasets/NAME/raw` is looked into (`svhn-extra`: `datasets/svhn/raw`,
/// `celeba-val`: `datasets/celeba/raw`, `compcars-…`: `datasets/compcars/raw`).
///
/// | name | files |
/// | --- | --- |
/// | `fashion-mnist-mini` | none, but feature `embedded` |
/// | `planted` | none: drawn when asked for ([`planted`]) |
/// | `fashion-mnist`, `mnist` | the four idx files, plain or `.gz`; also in torchvision's `FashionMNIST/raw/`, `MNIST/raw/`. Fashion-MNIST is also found where Debian puts it |
/// | `cifar10`, `cifar100` | `cifar-10-batches-bin/` or `cifar-10-batches-py/` (`cifar-100-binary/`, `cifar-100-python/`), or what is in it |
/// | `svhn`, `svhn-extra` | `train_32x32.mat`, `test_32x32.mat`, and `extra_32x32.mat` |
/// | `imagenet` | `train/<wnid>/*.JPEG`, and `val/<wnid>/*.JPEG` or `val/*.JPEG` with a ground truth: the devkit's, or a text file `val.txt` of lines `NAME WNID` or `WNID` |
/// | `celeba`, `celeba-val` | `img_align_celeba/*.jpg`, `list_attr_celeba.txt`, `list_eval_partition.txt`; or these in `Img/`, `Anno/` and `Eval/`. One task for each attribute. `celeba` trains on partitions 0 and 1 and tests on 2, `celeba-val` trains on 0 and tests on 1 |
/// | `compcars`, `compcars-model`, `compcars-maker`, `compcars-viewpoint` | `image/<maker>/<model>/<year>/*.jpg`, `train_test_split/classification/train.txt` and `test.txt`, `misc/make_model_name.mat`; `label/` for the viewpoint |
/// | `folder` | `train/<class>/` and `test/<class>/` (or `val/<class>/`), or `<class>/` alone: then every fifth image of each class, by name, is held out for the test split. Needs `data_dir` |
///
/// # Errors
/// If there is no dataset of that name (the error lists the nearest), or its files are missing
/// (which, where they were looked for, and how to get them), damaged, or do not fit each other.
pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Splits> {
    match name {
        "fashion-mnist-mini" => fashion_mnist::mini(),
        "planted" => Ok(planted::splits()),
        "fashion-mnist" => fashion_mnist::full(data_dir),
        "mnist" => mnist::splits(data_dir),
        "cifar10" => cifar::splits(&cifar::CIFAR10, data_dir),
        "cifar100" => cifar::splits(&cifar::CIFAR100, data_dir),
        "svhn" => svhn::splits(data_dir, false),
        "svhn-extra" => svhn::splits(data_dir, true),
        "imagenet" => imagenet::splits(data_dir),
        "compcars" => compcars::splits(name, &[Question::Model, Question::Maker], data_dir),
        "compcars-model" => compcars::splits(name, &[Question::Model], data_dir),
        "compcars-maker" => compcars::splits(name, &[Question::Maker], data_dir),
        "compcars-viewpoint" => compcars::splits(name, &[Question::Viewpoint], data_dir),
        "celeba" => celeba::splits(&celeba::PAPER, data_dir),
        "celeba-val" => celeba::splits(&celeba::VALIDATION, data_dir),
        "folder" => folder::splits(data_dir.ok_or(Error::Unavailable {
            dataset: "folder",
            reason: "name the data folder that holds <class>/, or train/<class>/ and test/<class>/",
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
