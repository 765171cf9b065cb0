use std::fs;

use tempfile::TempDir;

use super::*;
use crate::idx;

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The four files, with three training images and two test images.
fn official() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, dimensions: &[usize], data: &[u8]| {
        fs::write(folder.path().join(name), idx::encode(dimensions, data).unwrap()).unwrap();
    };
    let pixels: Vec<u8> = (0..3 * 784).map(|i| (i % 251) as u8).collect();
    write(FILES[0], &[3, 28, 28], &pixels);
    write(FILES[1], &[3], &[9, 0, 4]);
    write(FILES[2], &[2, 28, 28], &pixels[..2 * 784]);
    write(FILES[3], &[2], &[1, 2]);
    folder
}

fn message(folder: &TempDir) -> String {
    open("fashion-mnist", Some(folder.path())).unwrap_err().to_string()
}

#[test]
fn fashion_mnist_is_read_from_its_four_files() {
    let folder = official();
    let splits = open("fashion-mnist", Some(folder.path())).unwrap();
    assert_eq!((splits.train.len(), splits.test.len()), (3, 2));
    assert_eq!(splits.train.num_classes(), 10);
    let sample = splits.train.get(1).unwrap();
    assert_eq!(sample.label(), 0);
    assert_eq!((sample.image.width, sample.image.height, sample.image.channels), (28, 28, 1));
    let expected: Vec<u8> = (784..2 * 784).map(|i| (i % 251) as u8).collect();
    assert_eq!(sample.image.data, expected);
    assert!(splits.train.get(3).is_err());
}

#[test]
fn each_missing_file_is_named_with_where_and_how() {
    for file in FILES {
        let folder = official();
        fs::remove_file(folder.path().join(file)).unwrap();
        let message = message(&folder);
        assert!(message.contains(&format!("{file}[.gz] not found")), "{message}");
        assert!(message.contains(folder.path().to_str().unwrap()), "{message}");
        assert!(message.contains("dataset-fashion-mnist"), "{message}");
    }
}

#[test]
fn files_that_do_not_fit_each_other_are_errors() {
    let folder = official();
    fs::write(folder.path().join(FILES[3]), idx::encode(&[3], &[0, 0, 0]).unwrap()).unwrap();
    let error = message(&folder);
    assert!(error.contains("t10k-images-idx3-ubyte has 2 images"), "{error}");
    assert!(error.contains("t10k-labels-idx1-ubyte has 3 labels"), "{error}");

    let folder = official();
    fs::write(folder.path().join(FILES[1]), idx::encode(&[3], &[0, 10, 0]).unwrap()).unwrap();
    let error = message(&folder);
    assert!(error.contains("train-labels-idx1-ubyte: label 10 of sample 1"), "{error}");

    let folder = official();
    fs::write(folder.path().join(FILES[0]), idx::encode(&[3, 1, 1], &[0; 3]).unwrap()).unwrap();
    let error = message(&folder);
    assert!(error.contains("expected images of 28×28 pixels, found 1×1"), "{error}");
}

#[test]
fn an_unknown_name_lists_the_nearest() {
    let nearest = |name| match open(name, None) {
        Err(Error::UnknownDataset { nearest, .. }) => nearest[0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(nearest("fashon-mnist"), "fashion-mnist");
    assert_eq!(nearest("Fashion-MNIST"), "fashion-mnist");
    assert_eq!(nearest("fashion-mnist-min"), "fashion-mnist-mini");
    assert_eq!(nearest("folders"), "folder");
    let message = open("x", None).unwrap_err().to_string();
    assert!(DATASETS.iter().all(|info| message.contains(info.name)), "{message}");
}

#[test]
fn every_listed_name_is_known() {
    for info in DATASETS {
        let result = open(info.name, Some(Path::new("/nowhere")));
        assert!(!matches!(result, Err(Error::UnknownDataset { .. })), "{}", info.name);
    }
    assert!(open("folder", None).unwrap_err().to_string().contains("name the data folder"));
}

#[cfg(feature = "embedded")]
#[test]
fn the_embedded_subset_is_what_it_says() {
    let splits = open("fashion-mnist-mini", None).unwrap();
    for (split, per_class) in
        [(&splits.train, crate::SUBSET_PER_CLASS.0), (&splits.test, crate::SUBSET_PER_CLASS.1)]
    {
        let mut counts = vec![0; 10];
        for index in 0..split.len() {
            counts[split.get(index).unwrap().label() as usize] += 1;
        }
        assert_eq!(counts, vec![per_class; 10]);
    }
    // The first training image of the full files is an ankle boot, the first test image too.
    assert_eq!(splits.train.get(0).unwrap().label(), 9);
    assert_eq!(splits.test.get(0).unwrap().label(), 9);
}

#[cfg(not(feature = "embedded"))]
#[test]
fn without_the_feature_the_error_says_so() {
    let message = open("fashion-mnist-mini", None).unwrap_err().to_string();
    assert!(message.contains("feature `embedded`"), "{message}");
}
