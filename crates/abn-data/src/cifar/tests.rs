use super::*;
use crate::testing::{assert_split, copy, fixture, planes, write};

/// The six binary files of CIFAR-10, each with one image, of the label that is its number.
fn binary10(folder: &Path) {
    for (seed, name) in CIFAR10.binary.train.iter().chain([&CIFAR10.binary.test]).enumerate() {
        write(folder.join(name), [&[seed as u8], &planes(seed, 0)[..]].concat());
    }
}

/// The two of CIFAR-100: coarse label, fine label, image.
fn binary100(folder: &Path) {
    let train = [&[11, 19], &planes(10, 0)[..], &[4, 99], &planes(10, 1)[..]].concat();
    write(folder.join("train.bin"), train);
    write(folder.join("test.bin"), [&[10, 49], &planes(11, 0)[..]].concat());
}

const TEN: [(usize, usize, u32); 5] = [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 0, 4)];

#[test]
fn the_binary_form_is_read_pixel_for_pixel() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("cifar-10-batches-bin");
    binary10(&folder);
    // The folder that holds the official one, and that one itself.
    for place in [root.path(), &folder] {
        let cifar = splits(&CIFAR10, Some(place)).unwrap();
        assert_split(&*cifar.train, &TEN);
        assert_split(&*cifar.test, &[(5, 0, 5)]);
        assert_eq!(cifar.train.class_names()[..2], ["airplane", "automobile"]);
        assert_eq!(
            (cifar.stats, cifar.fit, cifar.image_size),
            (Normalisation::CIFAR, Fit::Pad, 32.into())
        );
    }
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("cifar-100-binary");
    binary100(&folder);
    for place in [root.path(), &folder] {
        let cifar = splits(&CIFAR100, Some(place)).unwrap();
        assert_split(&*cifar.train, &[(10, 0, 19), (10, 1, 99)]);
        assert_split(&*cifar.test, &[(11, 0, 49)]);
        assert_eq!(cifar.train.num_classes(), 100);
        assert_eq!(cifar.train.class_names()[19], "cattle");
        assert_eq!(cifar.train.class_names()[99], "worm");
    }
}

#[test]
fn the_python_form_is_read_pixel_for_pixel() {
    // As Python 2 wrote the official files, with the names of its `str`.
    for place in [fixture(""), fixture("cifar-10-batches-py")] {
        let cifar = splits(&CIFAR10, Some(&place)).unwrap();
        let train = [(0, 0, 6), (0, 1, 9), (1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 0, 3)];
        assert_split(&*cifar.train, &train);
        assert_split(&*cifar.test, &[(5, 0, 8), (5, 1, 5)]);
    }
    // As Python 3 and numpy 2 write them.
    for place in [fixture(""), fixture("cifar-100-python")] {
        let cifar = splits(&CIFAR100, Some(&place)).unwrap();
        assert_split(&*cifar.train, &[(10, 0, 19), (10, 1, 99), (10, 2, 0)]);
        assert_split(&*cifar.test, &[(11, 0, 49)]);
    }
}

#[test]
fn each_missing_file_is_named_and_no_other_form_stands_in_for_it() {
    for file in ["data_batch_1", "data_batch_4", "test_batch"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cifar-10-batches-py");
        copy(&fixture("cifar-10-batches-py"), &folder);
        std::fs::remove_file(folder.join(file)).unwrap();
        let message = splits(&CIFAR10, Some(root.path())).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cifar10: {file} not found")), "{message}");
        assert!(message.contains(folder.to_str().unwrap()), "{message}");
    }
    let root = tempfile::tempdir().unwrap();
    let message = splits(&CIFAR100, Some(root.path())).unwrap_err().to_string();
    assert!(message.starts_with("cifar100: train.bin or train not found"), "{message}");
    for folder in ["cifar-100-binary", "cifar-100-python", "cs.toronto.edu"] {
        assert!(message.contains(folder), "{message}");
    }
}

#[test]
fn the_binary_form_comes_first() {
    let root = tempfile::tempdir().unwrap();
    copy(&fixture("cifar-100-python"), &root.path().join("cifar-100-python"));
    assert_eq!(splits(&CIFAR100, Some(root.path())).unwrap().train.len(), 3);
    binary100(&root.path().join("cifar-100-binary"));
    assert_eq!(splits(&CIFAR100, Some(root.path())).unwrap().train.len(), 2);
}
