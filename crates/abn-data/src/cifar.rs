//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32×32 colour images, in both of their official forms.
//!
//! - *Binary*: a file is a sequence of records: one byte of label (CIFAR-100: coarse label, fine
//!   label) and 3,072 bytes of image, three planes row by row.
//! - *Python*: a file is a pickle of a `dict` with `data`, a numpy array of N×3,072 bytes of the
//!   same order, and `labels` (CIFAR-100: `fine_labels`), a list.

mod names;
mod python;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::{Error, Result};
use crate::memory::{MAX_IMAGES, MemoryDataset};
use crate::places::Places;
use crate::transform::Fit;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const IMAGE: usize = 3 * PLANE;

/// What one of the two is called on disk.
#[derive(Debug)]
pub(crate) struct Kind {
    name: &'static str,
    classes: &'static [&'static str],
    default_folder: &'static str,
    help: &'static str,
    binary: Form,
    python: Form,
    /// Labels before an image in the binary form; the last is the class.
    label_bytes: usize,
    /// The key of the labels in the python form.
    label_key: &'static str,
}

/// The files of a form, and the folder that they are distributed in.
#[derive(Debug)]
struct Form {
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
}

/// CIFAR-10.
pub(crate) const CIFAR10: Kind = Kind {
    name: "cifar10",
    classes: &names::CIFAR10,
    default_folder: "datasets/cifar10/raw",
    help: "run `cargo xtask fetch cifar10`, or unpack cifar-10-binary.tar.gz or cifar-10-python.tar.gz of \
           https://www.cs.toronto.edu/~kriz/cifar.html into a folder and name it as the data folder",
    binary: Form {
        folder: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
    },
    python: Form {
        folder: "cifar-10-batches-py",
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: "test_batch",
    },
    label_bytes: 1,
    label_key: "labels",
};

/// CIFAR-100, by its fine labels.
pub(crate) const CIFAR100: Kind = Kind {
    name: "cifar100",
    classes: &names::CIFAR100,
    default_folder: "datasets/cifar100/raw",
    help: "run `cargo xtask fetch cifar100`, or unpack cifar-100-binary.tar.gz or cifar-100-python.tar.gz of \
           https://www.cs.toronto.edu/~kriz/cifar.html into a folder and name it as the data folder",
    binary: Form { folder: "cifar-100-binary", train: &["train.bin"], test: "test.bin" },
    python: Form { folder: "cifar-100-python", train: &["train"], test: "test" },
    label_bytes: 2,
    label_key: "fine_labels",
};

/// The dataset, from `folder` or the usual place: the folder that holds the official one, or that
/// one itself. Where both forms are there, the binary one is read.
pub(crate) fn splits(kind: &Kind, folder: Option<&Path>) -> Result<Splits> {
    let (places, form, is_python) = locate(kind, folder)?;
    // All are looked for before the first is read.
    let train = form.train.iter().map(|name| places.find(&[name])).collect::<Result<Vec<_>>>()?;
    let test = [places.find(&[form.test])?];
    let names: Arc<[String]> = kind.classes.iter().map(|&name| name.to_owned()).collect();
    let read = |files: &[PathBuf]| {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in files {
            match is_python {
                true => python::read(kind, path, &mut pixels, &mut labels)?,
                false => read_records(kind, path, &mut pixels, &mut labels)?,
            }
        }
        MemoryDataset::new([SIDE, SIDE, 3], pixels, labels, names.clone())
    };
    Ok(Splits {
        name: kind.name.to_owned(),
        train: Arc::new(read(&train)?),
        test: Arc::new(read(&test)?),
        stats: Normalisation::CIFAR,
        fit: Fit::Pad,
        image_size: SIDE.into(),
    })
}

/// The form that is there, be it not all of it, and where its files are.
fn locate<'k>(kind: &'k Kind, folder: Option<&Path>) -> Result<(Places, &'k Form, bool)> {
    let places = |folders: &[&str]| {
        Places::new(kind.name, folder, &[kind.default_folder], kind.help).with_folders(folders)
    };
    for (form, is_python) in [(&kind.binary, false), (&kind.python, true)] {
        let places = places(&[form.folder]);
        if form.train.iter().chain([&form.test]).any(|name| places.find(&[name]).is_ok()) {
            return Ok((places, form, is_python));
        }
    }
    let (binary, python) = (&kind.binary, &kind.python);
    let file = format!("{} or {}", binary.train[0], python.train[0]);
    Err(places(&[binary.folder, python.folder]).missing(&file))
}

/// Appends the images and labels of a binary file.
fn read_records(
    kind: &Kind,
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u8>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    let bytes = file.metadata().map_err(Error::io(path))?.len();
    let record_len = kind.label_bytes + IMAGE;
    let count = bytes / record_len as u64;
    if bytes == 0 || !bytes.is_multiple_of(record_len as u64) || count > MAX_IMAGES as u64 {
        let expected = format!("1 to {MAX_IMAGES} records of {record_len} bytes");
        return Err(Error::format(path, expected, format!("{bytes} bytes")));
    }
    pixels.reserve_exact(count as usize * IMAGE);
    let mut file = BufReader::new(file);
    let mut record = vec![0; record_len];
    for sample in 0..count as usize {
        file.read_exact(&mut record).map_err(Error::io(path))?;
        let (label, image) = record.split_at(kind.label_bytes);
        labels.push(checked_label(kind, path, sample, label[label.len() - 1].into())?);
        append_planes(image, pixels);
    }
    Ok(())
}

/// The label, if it names a class.
fn checked_label(kind: &Kind, path: &Path, sample: usize, label: u32) -> Result<u8> {
    let classes = kind.classes.len();
    match u8::try_from(label) {
        Ok(byte) if usize::from(byte) < classes => Ok(byte),
        _ => Err(Error::Label { path: path.to_owned(), sample, label, classes }),
    }
}

/// Appends an image of three planes, channels innermost.
fn append_planes(image: &[u8], pixels: &mut Vec<u8>) {
    let (red, rest) = image.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
}

#[cfg(test)]
mod tests;
