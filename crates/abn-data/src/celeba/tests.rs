use std::fs;

use tempfile::TempDir;

use super::*;
use crate::open;
use crate::testing::write;

const ATTR: &str = "list_attr_celeba.txt";
const EVAL: &str = "list_eval_partition.txt";

/// As the official file is: a blank at the end of the names, values aligned by blanks.
const ATTR_TEXT: &str = "\
6
5_o_Clock_Shadow Eyeglasses Smiling \n\
000001.jpg -1  1  1\n\
000002.jpg -1 -1  1\n\
000003.jpg  1 -1 -1\n\
000004.jpg  1  1  1\n\
000005.jpg -1 -1 -1\n\
000006.jpg -1  1 -1\n";
const EVAL_TEXT: &str = "\
000001.jpg 0
000002.jpg 2
000003.jpg 0
000004.jpg 1
000005.jpg 1
000006.jpg 2
";

/// Grey faces; image n is all of value 40·n.
fn official() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path().join(ATTR), ATTR_TEXT);
    write(root.path().join(EVAL), EVAL_TEXT);
    fs::create_dir(root.path().join(IMAGES)).unwrap();
    for n in 1..=6u8 {
        let image = image::RgbImage::from_pixel(178, 218, image::Rgb([40 * n; 3]));
        image.save(root.path().join(IMAGES).join(format!("{n:06}.jpg"))).unwrap();
    }
    root
}

/// Number of the image and labels of each sample.
fn samples(split: &dyn Dataset) -> Vec<(u8, Vec<u32>)> {
    let sample = |index| {
        let sample = split.get(index).unwrap();
        assert_eq!(sample.labels, split.labels(index).unwrap());
        assert_eq!((sample.image.height, sample.image.width), (218, 178));
        (((u16::from(sample.image.data[0]) + 20) / 40) as u8, sample.labels)
    };
    (0..split.len()).map(sample).collect()
}

#[test]
fn the_papers_protocol_trains_on_training_and_validation_images() {
    let root = official();
    let celeba = open("celeba", Some(root.path())).unwrap();
    let names: Vec<_> = celeba.train.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["5_o_Clock_Shadow", "Eyeglasses", "Smiling"]);
    assert_eq!(celeba.train.tasks()[2].categories, ["no", "yes"]);
    let train = [(1, vec![0, 1, 1]), (3, vec![1, 0, 0]), (4, vec![1, 1, 1]), (5, vec![0, 0, 0])];
    assert_eq!(samples(&*celeba.train), train);
    assert_eq!(samples(&*celeba.test), [(2, vec![0, 0, 1]), (6, vec![0, 1, 0])]);
    assert_eq!((celeba.fit, celeba.image_size), (Fit::Whole, 224.into()));
    assert_eq!(celeba.stats, Normalisation::IMAGENET);
    assert!(matches!(celeba.test.labels(2), Err(Error::Index { index: 2, len: 2 })));
    assert!(celeba.test.get(2).is_err());

    let val = open("celeba-val", Some(root.path())).unwrap();
    assert_eq!(val.name, "celeba-val");
    assert_eq!(samples(&*val.train), [(1, vec![0, 1, 1]), (3, vec![1, 0, 0])]);
    assert_eq!(samples(&*val.test), [(4, vec![1, 1, 1]), (5, vec![0, 0, 0])]);
}

#[test]
fn the_folders_of_the_download_and_torchvisions_are_found() {
    let root = official();
    let move_to = |folder: &str, file: &str| {
        fs::create_dir_all(root.path().join(folder)).unwrap();
        fs::rename(root.path().join(file), root.path().join(folder).join(file)).unwrap();
    };
    for (folder, file) in [("Anno", ATTR), ("Eval", EVAL), ("Img", IMAGES)] {
        move_to(folder, file);
        assert_eq!(open("celeba", Some(root.path())).unwrap().train.len(), 4, "{folder}");
    }
    let torchvisions = tempfile::tempdir().unwrap();
    fs::rename(root.keep(), torchvisions.path().join("celeba")).unwrap();
    assert_eq!(open("celeba", Some(torchvisions.path())).unwrap().test.len(), 2);
}

#[test]
fn lines_may_end_as_windows_has_them() {
    let root = official();
    write(root.path().join(ATTR), ATTR_TEXT.replace('\n', "\r\n"));
    write(root.path().join(EVAL), EVAL_TEXT.replace('\n', "\r\n"));
    let celeba = open("celeba", Some(root.path())).unwrap();
    assert_eq!(celeba.train.tasks()[2].name, "Smiling");
    assert_eq!(samples(&*celeba.test), [(2, vec![0, 0, 1]), (6, vec![0, 1, 0])]);
}

#[test]
fn each_malformed_line_is_named() {
    // Which list, what is put in place of what, and what the message must say after the path.
    for (file, from, to, said) in [
        (ATTR, "6\n5_o", "six\n5_o", "line 1: expected the number of images, found \"six\""),
        (
            ATTR,
            "6\n5_o",
            "7\n5_o",
            "line 1: expected 6, the number of the images below, found \"7\"",
        ),
        (ATTR, "6\n5_o", "5\n5_o", "line 1: expected 6, the number of the images below"),
        (ATTR, ATTR_TEXT, "", "line 1: expected the number of images, found \"\""),
        (ATTR, ATTR_TEXT, "6\n", "line 2: expected the names of the attributes"),
        (ATTR, ATTR_TEXT, "0\nSmiling\n", "line 1: expected 1, the number of the images"),
        (ATTR, "Eyeglasses", "Smiling", "line 2: expected each attribute once, found \"Smiling\""),
        (ATTR, "2.jpg -1 -1  1", "2.jpg -1 -1", "line 4: expected a name and 3 values, found \"2"),
        (ATTR, "2.jpg -1 -1  1", "2.jpg -1 -1 1 1", "line 4: expected a name and 3 values"),
        (ATTR, "1 -1 -1\n", "1 0 -1\n", "line 5: expected 1 or -1 for Eyeglasses, found \"0\""),
        (ATTR, "1 -1 -1\n", "1 -1 yes\n", "line 5: expected 1 or -1 for Smiling, found \"yes\""),
        (ATTR, "000004", "000003", "line 6: expected each image once, found \"000003.jpg\""),
        (ATTR, "000004.jpg", "../4.jpg", "line 6: expected the name of an image"),
        (ATTR, "000002.jpg -1 -1  1\n", "\n", "line 4: expected the name of an image, found \"\""),
        (EVAL, "3.jpg 0", "3.jpg 3", "line 3: expected partition 0 (training), 1"),
        (EVAL, "3.jpg 0", "3.jpg -1", "found \"-1\""),
        (EVAL, "3.jpg 0", "3.jpg", "line 3: expected `NAME PARTITION`"),
        (EVAL, "000003", "000007", "line 3: expected an image of "),
        (EVAL, "000003", "000002", "line 3: expected each image once, found \"000002.jpg\""),
        (
            EVAL,
            "000003.jpg 0\n",
            "",
            "expected a partition for each of 6 images, found none for 1 image (000003.jpg)",
        ),
    ] {
        let root = official();
        let good = fs::read_to_string(root.path().join(file)).unwrap();
        assert!(good.contains(from), "{from}");
        write(root.path().join(file), good.replacen(from, to, 1));
        let message = open("celeba", Some(root.path())).expect_err(said).to_string();
        assert!(message.contains(file) && message.contains(said), "{said}:\n{message}");
    }
    let root = official();
    write(root.path().join(EVAL), b"000001.jpg 0\n0000\xff2.jpg 2\n");
    let message = open("celeba", Some(root.path())).unwrap_err().to_string();
    assert!(message.contains("txt, line 2: expected a list in ASCII or UTF-8"), "{message}");
    write(root.path().join(EVAL), EVAL_TEXT.replace(" 2", " 1"));
    let message = open("celeba", Some(root.path())).unwrap_err().to_string();
    assert!(message.contains("expected images of partition 2, found none"), "{message}");
}

#[test]
fn missing_and_extra_images_are_told_before_training() {
    let message = |root: &TempDir| open("celeba-val", Some(root.path())).unwrap_err().to_string();
    let root = official();
    let image = |name: &str| root.path().join(IMAGES).join(name);
    // Neither hidden files nor other ones count.
    write(image(".DS_Store"), "");
    write(image("readme.txt"), "");
    assert!(open("celeba", Some(root.path())).is_ok());
    fs::copy(image("000001.jpg"), image("000010.jpg")).unwrap();
    let said = message(&root);
    assert!(said.contains("img_align_celeba: has 1 image (000010.jpg) too many"), "{said}");
    assert!(said.contains("expected the 6 images of"), "{said}");
    // A missing test image is told too, though nobody trains on it.
    fs::remove_file(image("000006.jpg")).unwrap();
    let said = message(&root);
    let expected = "lacks 1 image (000006.jpg) and has 1 image (000010.jpg) too many";
    assert!(said.contains(expected), "{said}");
    fs::remove_file(image("000010.jpg")).unwrap();
    for n in 2..=5 {
        fs::remove_file(image(&format!("{n:06}.jpg"))).unwrap();
    }
    let said = message(&root);
    let expected = "lacks 5 images (000002.jpg, 000003.jpg, 000004.jpg, …); expected the 6";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn each_missing_file_is_named_with_where_and_how() {
    for (file, said) in
        [(ATTR, "list_attr_celeba.txt"), (EVAL, EVAL), (IMAGES, "img_align_celeba/")]
    {
        let root = official();
        fs::rename(root.path().join(file), root.path().join("elsewhere")).unwrap();
        let message = open("celeba", Some(root.path())).unwrap_err().to_string();
        assert!(message.contains(said) && message.contains("not found; looked in"), "{message}");
        assert!(message.contains("cargo xtask fetch celeba"), "{message}");
    }
}
