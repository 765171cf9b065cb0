use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;

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
    assert_eq!(sample.label, 1);
    assert_eq!(
        sample.image,
        Image { width: 3, height: 2, channels: 3, data: [10, 20, 30].repeat(6) }
    );
    assert!(matches!(data.get(4), Err(Error::Index { index: 4, len: 4 })));
}

#[test]
fn grey_images_become_three_channels() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("grey.png");
    GrayImage::from_pixel(1, 2, Luma([7])).save(&path).unwrap();
    assert_eq!(read_image(&path).unwrap().data, [7; 6]);
}

#[test]
fn splits_share_the_training_labels() {
    let root = folder(&["train/a/1.png", "train/b/1.png", "train/c/1.png", "test/c/1.png"]);
    let splits = splits(root.path()).unwrap();
    assert_eq!(splits.train.num_classes(), 3);
    assert_eq!(splits.test.num_classes(), 3);
    assert_eq!(splits.test.get(0).unwrap().label, 2);
    let root = folder(&["train/a/1.png", "val/a/1.png"]);
    assert_eq!(super::splits(root.path()).unwrap().test.len(), 1);
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
    says(&["a/1.png"], "", "no folder `train`; expected train/<class>/");
    says(&["train/a/1.png"], "", "no folder `test`");
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
