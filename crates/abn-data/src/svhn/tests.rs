use super::*;
use crate::testing::{LITTLE, Mat, assert_split, columns, fixture, write};

#[test]
fn what_scipy_wrote_is_read_pixel_for_pixel() {
    let root = fixture("svhn");
    // train: compressed, labels of bytes; test: uncompressed, labels of doubles.
    let svhn = splits(Some(&root), false).unwrap();
    assert_split(&*svhn.train, &[(20, 0, 1), (20, 1, 0), (20, 2, 9)]);
    assert_split(&*svhn.test, &[(21, 0, 5), (21, 1, 0)]);
    assert_eq!(svhn.train.class_names()[9], "9");
    assert_eq!((svhn.stats, svhn.fit, svhn.image_size), (Normalisation::SVHN, Fit::Pad, 32.into()));
    // extra: labels before images, and a variable that is not wanted.
    let extra = splits(Some(&root), true).unwrap();
    assert_eq!(extra.name, "svhn-extra");
    assert_split(&*extra.train, &[(20, 0, 1), (20, 1, 0), (20, 2, 9), (22, 0, 2)]);
    assert_eq!(extra.test.len(), 2);
}

#[test]
fn both_byte_orders_and_forms_are_read() {
    for big in [false, true] {
        let mat = Mat { big };
        let [x, y] = mat.svhn(3, &[10, 7]);
        let forms = [
            [mat.header(), x.clone(), y.clone()].concat(),
            [mat.header(), mat.compressed(&x), mat.compressed(&y)].concat(),
            [mat.header(), mat.compressed(&y), x.clone()].concat(),
        ];
        for bytes in forms {
            let root = tempfile::tempdir().unwrap();
            write(root.path().join("train_32x32.mat"), &bytes);
            write(root.path().join("test_32x32.mat"), &bytes);
            let svhn = splits(Some(root.path()), false).unwrap();
            assert_split(&*svhn.test, &[(3, 0, 0), (3, 1, 7)]);
        }
    }
}

#[test]
fn one_image_has_no_fourth_dimension() {
    let root = tempfile::tempdir().unwrap();
    let x = LITTLE.matrix("X", 9, &[32, 32, 3], 2, &columns(1, 0));
    let y = LITTLE.matrix("y", 6, &[1, 1], 2, &[4]);
    let bytes = [LITTLE.header(), x, y].concat();
    write(root.path().join("train_32x32.mat"), &bytes);
    write(root.path().join("test_32x32.mat"), &bytes);
    assert_split(&*splits(Some(root.path()), false).unwrap().train, &[(1, 0, 4)]);
}

#[test]
fn each_missing_file_is_named() {
    let root = fixture("svhn");
    for file in ["train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"] {
        let copy = tempfile::tempdir().unwrap();
        crate::testing::copy(&root, copy.path());
        std::fs::remove_file(copy.path().join(file)).unwrap();
        let message = splits(Some(copy.path()), true).unwrap_err().to_string();
        assert!(message.contains(&format!("{file} not found; looked in ")), "{message}");
        assert_eq!(splits(Some(copy.path()), false).is_ok(), file == "extra_32x32.mat");
    }
}
