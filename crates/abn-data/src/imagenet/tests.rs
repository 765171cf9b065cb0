use std::fs;

use tempfile::TempDir;

use super::*;
use crate::testing::{fixture, write};

/// An image that can be told from others by its first pixel.
fn picture(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // The official names end in JPEG whatever is inside, and one of them is a PNG.
    let pixels = image::RgbImage::from_pixel(4, 3, image::Rgb([value, 0, 0]));
    pixels.save_with_format(path, image::ImageFormat::Png).unwrap();
}

fn train(root: &Path) {
    for (wnid, count) in [("n01440764", 2), ("n01443537", 1), ("n02119789", 3)] {
        for i in 0..count {
            picture(&root.join(format!("train/{wnid}/{wnid}_{i}.JPEG")), i);
        }
    }
}

/// A flat validation folder, image i of value i.
fn flat_val(root: &Path, count: u8) {
    for i in 1..=count {
        picture(&root.join(format!("val/ILSVRC2012_val_{i:08}.JPEG")), i);
    }
}

fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    train(root.path());
    root
}

/// First pixel and label of each sample.
fn samples(split: &dyn crate::Dataset) -> Vec<(u8, u32)> {
    let sample = |index| {
        let sample = split.get(index).unwrap();
        assert_eq!(split.label(index).unwrap(), sample.label());
        (sample.image.data[0], sample.label())
    };
    (0..split.len()).map(sample).collect()
}

#[test]
fn class_folders_are_read_as_torchvision_lays_them_out() {
    let root = root();
    picture(&root.path().join("val/n02119789/b.JPEG"), 9);
    picture(&root.path().join("val/n01440764/a.JPEG"), 8);
    let imagenet = splits(Some(root.path())).unwrap();
    assert_eq!(imagenet.train.class_names(), ["n01440764", "n01443537", "n02119789"]);
    assert_eq!(samples(&*imagenet.train), [(0, 0), (1, 0), (0, 1), (0, 2), (1, 2), (2, 2)]);
    assert_eq!(samples(&*imagenet.test), [(8, 0), (9, 2)]);
    assert_eq!((imagenet.fit, imagenet.image_size), (Fit::Resize, 224.into()));
    assert_eq!(imagenet.stats, Normalisation::IMAGENET);
}

#[test]
fn the_devkits_ids_are_not_labels() {
    // Of the devkit: 1 is n02119789 (label 2), 3 is n01440764 (0), 4 is n01443537 (1).
    for folder in ["ILSVRC2012_devkit_t12/data", "data", ""] {
        let root = root();
        flat_val(root.path(), 4);
        let data = root.path().join(folder);
        write(data.join("ILSVRC2012_validation_ground_truth.txt"), "1\n3\n4\n1\n");
        fs::copy(fixture("imagenet/meta.mat"), data.join("meta.mat")).unwrap();
        let imagenet = splits(Some(root.path())).unwrap();
        assert_eq!(samples(&*imagenet.test), [(1, 2), (2, 0), (3, 1), (4, 2)]);
        assert_eq!(imagenet.test.class_names(), imagenet.train.class_names());
    }
}

#[test]
fn text_ground_truths_name_the_class() {
    let root = root();
    flat_val(root.path(), 2);
    write(root.path().join("val.txt"), "n01443537\nn01440764\n");
    assert_eq!(samples(&*splits(Some(root.path())).unwrap().test), [(1, 1), (2, 0)]);

    let root = self::root();
    picture(&root.path().join("val/one.jpg"), 1);
    picture(&root.path().join("val/two.JPEG"), 2);
    write(root.path().join("val/val.txt"), "two.JPEG n02119789\r\none.jpg n01440764\r\n");
    assert_eq!(samples(&*splits(Some(root.path())).unwrap().test), [(2, 2), (1, 0)]);
}

#[test]
fn a_subset_needs_no_more_than_its_classes() {
    let root = root();
    fs::remove_dir_all(root.path().join("train/n01440764")).unwrap();
    picture(&root.path().join("val/n02119789/b.JPEG"), 9);
    assert_eq!(samples(&*splits(Some(root.path())).unwrap().test), [(9, 1)]);
}

#[test]
fn what_is_missing_is_named() {
    let message = |root: &Path| splits(Some(root)).unwrap_err().to_string();
    let empty = tempfile::tempdir().unwrap();
    let text = message(empty.path());
    assert!(text.starts_with("imagenet: train/ not found; looked in /"), "{text}");
    assert!(text.contains("image-net.org"), "{text}");
    let root = root();
    assert!(message(root.path()).starts_with("imagenet: val/ not found"));
    flat_val(root.path(), 1);
    let text = message(root.path());
    assert!(
        text.contains("a ground truth is needed; expected one of ILSVRC2012_devkit_t12"),
        "{text}"
    );
}
