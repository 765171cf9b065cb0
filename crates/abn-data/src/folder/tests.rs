use std::fs;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::dataset::Image;
use crate::listing::EXTENSIONS;

/// A folder with these files; a png or jpg holds a small image, anything else the word "text".
fn folder(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name = path.to_str().unwrap().to_ascii_lowercase();
        if EXTENSIONS.iter().any(|e| name.ends_with(e)) {
            RgbImage::from_pixel(3, 2, Rgb([10, 20, 30])).save(&path).unwrap();
        } else {
            fs::write(path, "text").unwrap();
        }
    }
    root
}

fn message(result: Result<impl Sized>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn classes_and_images_come_sorted() {
    let root =
        folder(&["b/2.png", "b/10.PNG", "a/x.jpeg", "a/y.JPG", "a/notes.txt", "README", ".git/x"]);
    let data = FolderDataset::open(root.path()).unwrap();
    assert_eq!(data.class_names(), ["a", "b"]);
    let files: Vec<_> = data
        .files()
        .iter()
        .map(|(path, label)| (path.strip_prefix(root.path()).unwrap().to_str().unwrap(), *label))
        .collect();
    assert_eq!(files, [("a/x.jpeg", 0), ("a/y.JPG", 0), ("b/10.PNG", 1), ("b/2.png", 1)]);
    let sample = data.get(3).unwrap();
    assert_eq!(sample.label(), 1);
    assert_eq!(
        sample.image,
        Image { width: 3, height: 2, channels: 3, data: [10, 20, 30].repeat(6) }
    );
    assert!(matches!(data.get(4), Err(Error::Index { index: 4, len: 4 })));
}

#[test]
fn splits_share_the_training_labels() {
    let root = folder(&["train/a/1.png", "train/b/1.png", "train/c/1.png", "test/c/1.png"]);
    let splits = splits(root.path()).unwrap();
    assert_eq!(splits.train.num_classes(), 3);
    assert_eq!(splits.test.num_classes(), 3);
    assert_eq!(splits.test.get(0).unwrap().label(), 2);
    let root = folder(&["train/a/1.png", "val/a/1.png"]);
    assert_eq!(super::splits(root.path()).unwrap().test.len(), 1);
}

/// The files of a split, without their folder.
fn files(root: &TempDir, split: &dyn Dataset, all: &FolderDataset) -> Vec<(String, u32)> {
    // The splits are views: their images are told by their labels and their number.
    assert!(split.len() <= all.len());
    let name = |index| {
        let label = split.label(index).unwrap();
        let pixel = split.get(index).unwrap().image.data[0];
        let named = |(path, _): &&(PathBuf, u32)| read_image(path).unwrap().data[0] == pixel;
        let (path, expected) = all.files().iter().find(named).unwrap();
        assert_eq!(label, *expected);
        (path.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned(), label)
    };
    (0..split.len()).map(name).collect()
}

#[test]
fn without_a_test_split_every_fifth_image_of_a_class_is_held_out() {
    let root = tempfile::tempdir().unwrap();
    let mut value = 0;
    for (class, count) in [("cat", 11), ("dog", 4), ("eel", 5)] {
        fs::create_dir(root.path().join(class)).unwrap();
        for i in 0..count {
            value += 1;
            let file = root.path().join(class).join(format!("{i:02}.png"));
            RgbImage::from_pixel(1, 1, Rgb([value, 0, 0])).save(file).unwrap();
        }
    }
    let all = FolderDataset::open(root.path()).unwrap();
    let splits = splits(root.path()).unwrap();
    assert_eq!(splits.train.class_names(), ["cat", "dog", "eel"]);
    assert_eq!(splits.test.class_names(), ["cat", "dog", "eel"]);
    let (train, test) = (files(&root, &*splits.train, &all), files(&root, &*splits.test, &all));
    let held_out = [("cat/04.png", 0), ("cat/09.png", 0), ("eel/04.png", 2)];
    assert_eq!(test, held_out.map(|(name, label)| (name.to_owned(), label)));
    assert_eq!(train.len(), 17);
    assert!(train.iter().all(|image| !test.contains(image)));
}

#[test]
fn classes_may_be_called_train_and_test() {
    let names = ["train", "test"].map(|class| [1, 2, 3, 4, 5].map(|i| format!("{class}/{i}.jpg")));
    let root = folder(&names.as_flattened().iter().map(String::as_str).collect::<Vec<_>>());
    let splits = splits(root.path()).unwrap();
    assert_eq!(splits.train.class_names(), ["test", "train"]);
    assert_eq!((splits.train.len(), splits.test.len()), (8, 2));
}

#[test]
fn layouts_that_cannot_be_trained_on_are_errors() {
    let says = |files: &[&str], at: &str, what: &str| {
        let root = folder(files);
        let message = message(splits(root.path()));
        let path = if at.is_empty() { root.path().to_owned() } else { root.path().join(at) };
        assert!(message.starts_with(&format!("{}: ", path.display())), "{message}");
        assert!(message.contains(what), "{message}");
    };
    says(&["1.png"], "", "no class folders");
    says(&["a/1.png", "b/1.png"], "", "no test/ folder, and no class has 5 images");
    says(&["a/1.png", "b/2.txt"], "b", "no images");
    says(&["train/a/1.png"], "", "no folder `test`; expected train/<class>/");
    says(&["test/a/1.png", "a/1.png"], "", "no folder `train`");
    says(&["train/1.png", "test/a/1.png"], "train", "no class folders");
    says(&["train/a/1.txt", "test/a/1.png"], "train/a", "no images");
    says(
        &["train/a/1.png", "train/b/1.png", "test/z/1.png"],
        "test/z",
        "class `z` has no training images; the training classes are a, b",
    );
    let message = message(splits(Path::new("/nowhere/at/all")));
    assert!(message.starts_with("/nowhere/at/all: no such folder"), "{message}");
}

#[test]
fn an_unreadable_image_is_an_error_that_names_it() {
    let root = folder(&["a/1.png", "a/2.png", "a/3.png", "a/4.png"]);
    let whole = fs::read(root.path().join("a/1.png")).unwrap();
    fs::write(root.path().join("a/2.png"), "no image").unwrap();
    fs::write(root.path().join("a/3.png"), &whole[..whole.len() / 2]).unwrap();
    let data = FolderDataset::open(root.path()).unwrap();
    fs::remove_file(root.path().join("a/4.png")).unwrap();
    assert!(data.get(0).is_ok());
    for (index, name) in [(1, "a/2.png"), (2, "a/3.png"), (3, "a/4.png")] {
        let message = message(data.get(index));
        assert!(message.contains(name), "{message}");
    }
}
