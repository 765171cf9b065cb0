//! Datasets that the user places.

use std::fs;
use std::path::Path;

use super::{fetch, message};
use crate::fetch::Manifest;

const MANIFEST: &str = r#"
name = "cars"
title = ""
homepage = ""
licence = ""
layout = "image/*"
[register]
url = "https://publisher.example/agree"
how = "Ask nicely."
[[register.folders]]
path = "image"
suffix = ".jpg"
files = 3
subfolders = [0, 2]
[[register.lists]]
path = "train.txt"
lines = 2
below = "image"
[[register.files]]
path = "names.txt"
lines = 4
[[register.files]]
path = "meta.mat"
bytes = 5
md5 = "5d41402abc4b2a76b9719d911017c592"
[[register.files]]
path = "extra.txt"
optional = "needed for nothing"
"#;

/// Everything that should be there.
fn place(raw: &Path) {
    for folder in ["image/1", "image/2"] {
        fs::create_dir_all(raw.join(folder)).unwrap();
    }
    for file in ["image/1/a.jpg", "image/1/b.jpg", "image/2/a.jpg", "image/2/notes.txt"] {
        fs::write(raw.join(file), "").unwrap();
    }
    fs::write(raw.join("train.txt"), "1/a.jpg\n2/a.jpg\n").unwrap();
    fs::write(raw.join("names.txt"), "a\nb\nc\nd\n").unwrap();
    fs::write(raw.join("meta.mat"), "hello").unwrap();
}

#[test]
fn what_was_placed_right_is_accepted() {
    let raw = tempfile::tempdir().unwrap();
    place(raw.path());
    let manifest = Manifest::parse(MANIFEST).unwrap();
    fetch(&manifest, raw.path()).unwrap();
    // All images in one folder are fine as well: the manifest says so.
    for (from, to) in [("1/a", "a"), ("1/b", "b"), ("2/a", "c")] {
        let image = |name| raw.path().join(format!("image/{name}.jpg"));
        fs::rename(image(from), image(to)).unwrap();
    }
    for folder in ["image/1", "image/2"] {
        fs::remove_dir_all(raw.path().join(folder)).unwrap();
    }
    fs::write(raw.path().join("train.txt"), "a.jpg\nb.jpg\n").unwrap();
    fetch(&manifest, raw.path()).unwrap();
}

#[test]
fn nothing_there_says_where_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let said = message(fetch(&Manifest::parse(MANIFEST).unwrap(), &raw));
    for expected in [
        "image/ is missing",
        "train.txt is missing",
        "names.txt is missing",
        "https://publisher.example/agree",
        "Ask nicely.",
        raw.to_str().unwrap(),
        "cargo xtask fetch cars",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("extra.txt"), "{said}");
    assert!(!raw.exists(), "looking changes nothing");
}

#[test]
fn each_fault_is_named() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 8] = [
        (
            |raw| fs::remove_file(raw.join("image/1/b.jpg")).unwrap(),
            "2 *.jpg files in 2 subfolders, expected 3 in 0 or 2",
        ),
        (|raw| fs::create_dir(raw.join("image/3")).unwrap(), "3 *.jpg files in 3 subfolders"),
        (
            |raw| fs::write(raw.join("train.txt"), "1/a.jpg\n").unwrap(),
            "train.txt has 1 lines, expected 2",
        ),
        (
            |raw| fs::write(raw.join("train.txt"), "1/a.jpg\n9/z.jpg\n").unwrap(),
            "names 1 files that are not below image/: 9/z.jpg",
        ),
        (
            |raw| fs::write(raw.join("train.txt"), "1/a.jpg\n../names.txt\n").unwrap(),
            "not below image/: ../names.txt",
        ),
        (
            |raw| fs::write(raw.join("names.txt"), "a\n").unwrap(),
            "names.txt has 1 lines, expected 4",
        ),
        (
            |raw| fs::write(raw.join("meta.mat"), "hell").unwrap(),
            "meta.mat has 4 bytes, expected 5",
        ),
        (|raw| fs::write(raw.join("meta.mat"), "hullo").unwrap(), "meta.mat has MD5"),
    ];
    for (spoil, expected) in cases {
        let raw = tempfile::tempdir().unwrap();
        place(raw.path());
        spoil(raw.path());
        let said = message(fetch(&Manifest::parse(MANIFEST).unwrap(), raw.path()));
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
