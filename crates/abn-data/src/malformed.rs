//! Files that are not what they should be: each gives an error that names file and reason.

use std::fs;
use std::path::Path;

use crate::testing::{LITTLE, copy, fixture, gzip, planes, write};
use crate::{idx, open};

/// The dataset, what is done to the good one, the file that the error must name, and what it must
/// say of it.
type Case = (&'static str, fn(&Path), &'static str, &'static str);

const CASES: &[Case] = &[
    // idx: magic, dimensions, data, labels, and what gzip can hide.
    ("mnist", |r| cut(r, LABELS, 0), LABELS, "an idx header, found a truncated file"),
    ("mnist", |r| cut(r, IMAGES, 3), IMAGES, "an idx header, found a truncated file"),
    ("mnist", |r| cut(r, IMAGES, 11), IMAGES, "an idx header, found a truncated file"),
    ("mnist", |r| cut(r, IMAGES, 16), IMAGES, "1568 bytes of images (2×28×28), found only 0"),
    ("mnist", |r| cut(r, IMAGES, 1000), IMAGES, "1568 bytes of images (2×28×28), found only 984"),
    ("mnist", |r| grow(r, IMAGES), IMAGES, "1568 bytes of images (2×28×28), found more"),
    ("mnist", |r| set(r, IMAGES, 3, 1), IMAGES, "magic number 0x00000803"),
    ("mnist", |r| set(r, LABELS, 2, 0x0d), LABELS, "magic number 0x00000801"),
    ("mnist", |r| set(r, LABELS, 9, 10), LABELS, "label 10 of sample 1"),
    ("mnist", |r| idx_file(r, LABELS, &[3], &[0; 3]), LABELS, "has 3 labels"),
    ("mnist", |r| idx_file(r, IMAGES, &[0, 28, 28], &[]), IMAGES, "at least one image"),
    ("mnist", |r| idx_file(r, IMAGES, &[2, 14, 14], &[0; 392]), IMAGES, "images of 28×28 pixels"),
    ("mnist", |r| set(r, IMAGES, 4, 0xff), IMAGES, "dimensions of at most 1073741824 bytes"),
    (
        "mnist",
        |r| write(r.join(IMAGES), bomb()),
        IMAGES,
        "1568 bytes of images (2×28×28), found more",
    ),
    ("mnist", |r| write(r.join(IMAGES), &gzip(&[0; 99])[..20]), IMAGES, "idx"),
    ("mnist", |r| remove(r, "t10k-labels-idx1-ubyte"), "t10k-labels-idx1-ubyte", "not found"),
    // CIFAR, binary.
    ("cifar10", |r| cut(r, "test_batch.bin", 0), "test_batch.bin", "records of 3073 bytes"),
    ("cifar10", |r| cut(r, "data_batch_3.bin", 3072), "data_batch_3.bin", "found 3072 bytes"),
    ("cifar10", |r| grow(r, "data_batch_5.bin"), "data_batch_5.bin", "found 3074 bytes"),
    ("cifar10", |r| set(r, "data_batch_2.bin", 0, 10), "data_batch_2.bin", "label 10 of sample 0"),
    ("cifar10", |r| remove(r, "data_batch_4.bin"), "data_batch_4.bin", "not found"),
    ("cifar10", |r| huge(r, "data_batch_1.bin"), "data_batch_1.bin", "1 to 1048576 records"),
    ("cifar100", |r| set(r, "test.bin", 1, 100), "test.bin", "label 100 of sample 0"),
    ("cifar100", |r| cut(r, "train.bin", 3073), "train.bin", "records of 3074 bytes"),
    // CIFAR, python.
    ("cifar10", |r| pickle(r, |b| b.truncate(0)), "data_batch_1", "a Python pickle"),
    ("cifar10", |r| pickle(r, |b| b.truncate(300)), "data_batch_1", "a Python pickle"),
    ("cifar10", |r| pickle(r, |b| *b = b"no pickle".to_vec()), "data_batch_1", "a Python pickle"),
    (
        "cifar10",
        |r| pickle(r, |b| *b = b"\x80\x02K\x07.".to_vec()),
        "data_batch_1",
        "a dict with `data`",
    ),
    ("cifar10", |r| pickle(r, |b| *b = EVIL.to_vec()), "data_batch_1", "a dict with `data`, found"),
    (
        "cifar10",
        |r| pickle(r, |b| swap(b, b"labels", b"lapels")),
        "data_batch_1",
        "a dict with `labels`",
    ),
    (
        "cifar10",
        |r| pickle(r, |b| swap(b, b"K\x06K\x09e", b"K\x06K\x0be")),
        "data_batch_1",
        "label 11 of sample 1",
    ),
    (
        "cifar10",
        |r| pickle(r, |b| swap(b, b"K\x06K\x09e", b"K\x06NN0e")),
        "data_batch_1",
        "a list of labels in `labels`, found None",
    ),
    ("cifar10", |r| pickle(r, |b| swap(b, b"u1", b"i1")), "data_batch_1", "an array of uint8"),
    (
        "cifar10",
        |r| pickle(r, |b| swap(b, b"M\x00\x0c", b"M\x01\x0c")),
        "data_batch_1",
        "found 6144 bytes",
    ),
    (
        "cifar10",
        |r| pickle(r, |b| swap(b, b"K\x02M\x00\x0c", b"K\x01M\x00\x18")),
        "data_batch_1",
        "`data` of N×3072",
    ),
    // SVHN.
    ("svhn", |r| cut(r, TRAIN, 0), TRAIN, "shorter than its header"),
    ("svhn", |r| cut(r, TRAIN, 100), TRAIN, "shorter than its header"),
    ("svhn", |r| cut(r, TRAIN, 128), TRAIN, "a variable `X`, found none"),
    ("svhn", |r| cut(r, TRAIN, 131), TRAIN, "the tag of a variable, found a truncated file"),
    ("svhn", |r| cut(r, TRAIN, 2000), TRAIN, "bytes of a variable, found only"),
    ("svhn", |r| set(r, TRAIN, 124, 7), TRAIN, "a MAT file of version 5 (MATLAB: save -v7)"),
    (
        "svhn",
        |r| write(r.join(TRAIN), [&b"\x89HDF\r\n\x1a\n"[..], &[0; 600]].concat()),
        TRAIN,
        "version 7.3 (HDF5)",
    ),
    ("svhn", |r| set(r, TRAIN, 300, 0xff), TRAIN, "a zlib stream"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 2], 9, &[0; 6144], &[0, 1]), TRAIN, "labels of 1 to 10"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 2], 9, &[0; 6144], &[1, 11]), TRAIN, "label 11 of sample 1"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 2], 9, &[0; 6144], &[1]), TRAIN, "has 2 images"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 2], 9, &[0; 6143], &[1, 1]), TRAIN, "6144 bytes of pixels"),
    ("svhn", |r| svhn(r, &[2, 32, 32, 3], 9, &[0; 6144], &[1, 1]), TRAIN, "`X` of 32×32×3×N"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 0], 9, &[], &[]), TRAIN, "`X` of 32×32×3×N"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 1 << 30], 9, &[0; 64], &[1]), TRAIN, "N at most 1048576"),
    ("svhn", |r| svhn(r, &[32, 32, 3, 1], 8, &[0; 3072], &[1]), TRAIN, "`X` of class uint8"),
    ("svhn", |r| zip_bomb(r), TRAIN, "a compressed variable, found more"),
    ("svhn", |r| zip_promise(r), TRAIN, "the pixels of `X`, found a truncated file"),
    ("svhn", |r| remove(r, "test_32x32.mat"), "test_32x32.mat", "not found"),
    // ImageNet: folders, and lists of images.
    (
        "imagenet",
        |r| fs::rename(r.join("train/n01440764"), r.join("train/tench")).unwrap(),
        "tench",
        "not a WordNet id",
    ),
    ("imagenet", |r| write(r.join("train/n00000001/readme.txt"), ""), "n00000001", "no images"),
    (
        "imagenet",
        |r| write(r.join("val/n00000001/a.JPEG"), ""),
        "n00000001",
        "no such class in train/",
    ),
    (
        "imagenet",
        |r| remove(r, "val/ILSVRC2012_val_00000002.JPEG"),
        TRUTH,
        "ILSVRC2012_val_00000002.JPEG, which is not in",
    ),
    ("imagenet", |r| write(r.join("val/b.JPEG"), ""), TRUTH, "b.JPEG, found none"),
    ("imagenet", |r| remove(r, TRUTH), "", "a ground truth is needed"),
    ("imagenet", |r| remove(r, "data/meta.mat"), "meta.mat", "No such file"),
    ("imagenet", |r| cut(r, "data/meta.mat", 500), "meta.mat", "found only"),
    (
        "imagenet",
        |r| write(r.join("data/meta.mat"), LITTLE.header()),
        "meta.mat",
        "a structure `synsets`",
    ),
    (
        "imagenet",
        |r| write(r.join(TRUTH), "3\n1001\n"),
        TRUTH,
        "a class of train/ in line 2, found n00001740",
    ),
    ("imagenet", |r| write(r.join(TRUTH), "3\n0\n"), TRUTH, "an ILSVRC id of meta.mat in line 2"),
    (
        "imagenet",
        |r| write(r.join(TRUTH), "3\nn01440764\n"),
        TRUTH,
        "an ILSVRC id of meta.mat in line 2",
    ),
    ("imagenet", |r| write(r.join(TRUTH), ""), TRUTH, "found an empty file"),
    ("imagenet", |r| write(r.join(TRUTH), [0xff, 0xfe, 3]), TRUTH, "ASCII or UTF-8"),
    (
        "imagenet",
        |r| write(r.join(TRUTH), "3\n3\n3\n"),
        TRUTH,
        "ILSVRC2012_val_00000003.JPEG, which is not in",
    ),
    (
        "imagenet",
        |r| write(r.join(TRUTH), "n01440764\ntench\n"),
        TRUTH,
        "a WordNet id such as n01440764 in line 2",
    ),
    ("imagenet", |r| write(r.join(TRUTH), "../x.JPEG n01440764\n"), TRUTH, "which is not in"),
    // A user's folder; the last are only known when the image is read.
    ("folder", |r| write(r.join("cat/5.jpg"), EVIL), "cat", "cannot decode the image"),
    ("folder", |r| write(r.join("eel/notes.txt"), ""), "eel", "no images"),
    ("folder", |r| cut(r, "cat/1.jpg", 0), "cat/1.jpg", "cannot decode the image"),
    ("folder", |r| cut(r, "cat/1.jpg", 200), "cat/1.jpg", "cannot decode the image"),
    ("folder", |r| cut(r, "cat/1.jpg", 2600), "cat/1.jpg", "a truncated file"),
    ("folder", |r| write(r.join("cat/1.jpg"), "GIF89a"), "cat/1.jpg", "cannot decode the image"),
    ("folder", |r| cut(r, "dog/1.png", 1000), "dog/1.png", "cannot decode the image"),
    ("folder", |r| set(r, "dog/1.png", 60, 0xff), "dog/1.png", "cannot decode the image"),
];

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";
const TRAIN: &str = "train_32x32.mat";
const TRUTH: &str = "data/ILSVRC2012_validation_ground_truth.txt";

/// `os.system("touch /tmp/…")`, as a pickle: it must be refused, not run.
const EVIL: &[u8] = b"cos\nsystem\n(S'touch abn-data-was-here'\ntR.";

#[test]
fn every_malformed_file_is_an_error_that_names_it() {
    let mut failures = Vec::new();
    for (number, &(dataset, spoil, file, reason)) in CASES.iter().enumerate() {
        let root = tempfile::tempdir().unwrap();
        good(dataset, root.path());
        spoil(root.path());
        match read(dataset, root.path()) {
            Ok(()) => failures.push(format!("{number}, {dataset}: no error; expected {reason:?}")),
            Err(error) => {
                let message = error.to_string();
                if !message.contains(file) || !message.contains(reason) {
                    failures.push(format!("{number}, {dataset}: {message:?}, not {reason:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "of {} cases:\n{}", CASES.len(), failures.join("\n"));
    assert!(!Path::new("abn-data-was-here").exists());
}

#[test]
fn what_the_cases_spoil_was_good() {
    for dataset in ["mnist", "cifar10", "cifar100", "svhn", "imagenet", "folder"] {
        let root = tempfile::tempdir().unwrap();
        good(dataset, root.path());
        read(dataset, root.path()).unwrap();
    }
}

/// Opens a dataset and reads every image of it.
fn read(name: &str, root: &Path) -> crate::Result<()> {
    let splits = open(name, Some(root))?;
    for split in [&splits.train, &splits.test] {
        (0..split.len()).try_for_each(|index| split.get(index).map(drop))?;
    }
    Ok(())
}

/// A good dataset of few images.
fn good(dataset: &str, root: &Path) {
    let jpeg = || fs::read(fixture("images/420.jpg")).unwrap();
    match dataset {
        "mnist" => {
            for split in ["train", "t10k"] {
                idx_file(root, &format!("{split}-images-idx3-ubyte"), &[2, 28, 28], &[7; 1568]);
                idx_file(root, &format!("{split}-labels-idx1-ubyte"), &[2], &[3, 9]);
            }
        }
        "cifar10" => {
            let batches = (1..=5).map(|i| format!("data_batch_{i}.bin"));
            for name in batches.chain(["test_batch.bin".to_owned()]) {
                write(root.join(name), [&[3], &planes(0, 0)[..]].concat());
            }
        }
        "cifar100" => {
            for name in ["train.bin", "test.bin"] {
                write(root.join(name), [&[19, 99], &planes(0, 0)[..]].concat());
            }
        }
        "svhn" => copy(&fixture("svhn"), root),
        "imagenet" => {
            for i in 0..3 {
                write(root.join(format!("train/n01440764/{i}.JPEG")), jpeg());
            }
            for i in 1..=2 {
                write(root.join(format!("val/ILSVRC2012_val_0000000{i}.JPEG")), jpeg());
            }
            write(root.join(TRUTH), "3\n3\n");
            fs::copy(fixture("imagenet/meta.mat"), root.join("data/meta.mat")).unwrap();
        }
        "folder" => {
            for i in 1..=5 {
                write(root.join(format!("cat/{i}.jpg")), jpeg());
                let png = fs::read(fixture("images/420.png")).unwrap();
                write(root.join(format!("dog/{i}.png")), png);
            }
        }
        other => panic!("no good {other}"),
    }
}

fn remove(root: &Path, file: &str) {
    fs::remove_file(root.join(file)).unwrap();
}

fn edit(root: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(root.join(file)).unwrap();
    change(&mut bytes);
    fs::write(root.join(file), bytes).unwrap();
}

/// Keeps the first bytes.
fn cut(root: &Path, file: &str, len: usize) {
    edit(root, file, |bytes| {
        assert!(len < bytes.len());
        bytes.truncate(len);
    });
}

fn grow(root: &Path, file: &str) {
    edit(root, file, |bytes| bytes.push(0));
}

fn set(root: &Path, file: &str, at: usize, value: u8) {
    edit(root, file, |bytes| {
        assert_ne!(bytes[at], value);
        bytes[at] = value;
    });
}

/// Makes a file as long as 2²⁰ + 1 records, which takes no space: it is a hole.
fn huge(root: &Path, file: &str) {
    let file = fs::OpenOptions::new().write(true).open(root.join(file)).unwrap();
    file.set_len(3073 * ((1 << 20) + 1)).unwrap();
}

fn idx_file(root: &Path, file: &str, dimensions: &[usize], data: &[u8]) {
    write(root.join(file), idx::encode(dimensions, data).unwrap());
}

/// A gzip file of two images, as its header says, and of a hundred megabytes.
fn bomb() -> Vec<u8> {
    let mut bytes = idx::encode(&[2, 28, 28], &[0; 1568]).unwrap();
    bytes.resize(100 << 20, 0);
    gzip(&bytes)
}

/// Puts the python form in the place of the binary one, its first batch changed.
fn pickle(root: &Path, change: fn(&mut Vec<u8>)) {
    fs::remove_dir_all(root).unwrap();
    copy(&fixture("cifar-10-batches-py"), root);
    edit(root, "data_batch_1", change);
}

/// Replaces the first of these bytes.
fn swap(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes.splice(at..at + from.len(), to.iter().copied());
}

/// A training file of these two variables.
fn svhn(root: &Path, dims: &[u32], class: u32, pixels: &[u8], labels: &[u8]) {
    let x = LITTLE.matrix("X", class, dims, 2, pixels);
    let y = LITTLE.matrix("y", 6, &[labels.len() as u32, 1], 2, labels);
    write(root.join(TRAIN), [LITTLE.header(), x, LITTLE.compressed(&y)].concat());
}

/// Images whose zlib stream goes on for a hundred megabytes after them.
fn zip_bomb(root: &Path) {
    let mut x = LITTLE.matrix("X", 9, &[32, 32, 3, 1], 2, &[0; 3072]);
    x.resize(100 << 20, 0);
    write(root.join(TRAIN), [LITTLE.header(), LITTLE.compressed(&x)].concat());
}

/// A stream of a few bytes that promises three gigabytes of images.
fn zip_promise(root: &Path) {
    let mut x = LITTLE.matrix("X", 9, &[32, 32, 3, 1 << 20], 2, &[0; 3072]);
    let bytes = 3072_u32 << 20;
    let pixels = x.len() - 3072;
    x[pixels - 4..pixels].copy_from_slice(&bytes.to_le_bytes());
    x[4..8].copy_from_slice(&(bytes + 56).to_le_bytes());
    write(root.join(TRAIN), [LITTLE.header(), LITTLE.compressed(&x)].concat());
}
