use std::fs;

use tempfile::TempDir;

use super::*;
use crate::dataset::Dataset;
use crate::open;
use crate::testing::{LITTLE, Mat, write};

const TRAIN: &str = "train_test_split/classification/train.txt";
const TEST: &str = "train_test_split/classification/test.txt";
const NAMES: &str = "misc/make_model_name.mat";
/// Path and viewpoint; maker 1 has models 2 and 7, maker 3 has model 5, which has no name.
const TRAIN_CARS: [(&str, i32); 4] = [
    ("3/5/2014/aa.jpg", 1),
    ("1/7/2012/bb.jpg", 4),
    ("1/2/unknown/cc.jpg", -1),
    ("1/2/2010/dd.jpg", 5),
];
const TEST_CARS: [(&str, i32); 2] = [("1/7/2012/ee.jpg", 2), ("3/5/2014/ff.jpg", 3)];

fn lines(cars: &[(&str, i32)]) -> String {
    cars.iter().map(|(path, _)| format!("{path}\n")).collect()
}

fn names(mat: Mat) -> Vec<u8> {
    let makers = mat.cells("make_names", &["Audi", "BMW", "Citroën "]);
    let models = ["x", "Audi A4", "x", "y", "", "z", "TT"];
    let models = mat.compressed(&mat.cells("model_names", &models));
    [mat.header(), makers, models].concat()
}

/// Grey photographs, each 30 wide and 20 high.
fn official() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    write(at(TRAIN), lines(&TRAIN_CARS));
    write(at(TEST), lines(&TEST_CARS));
    write(at(NAMES), names(LITTLE));
    for (path, viewpoint) in TRAIN_CARS.iter().chain(&TEST_CARS) {
        let image = at("image").join(path);
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(30, 20, image::Rgb([90; 3])).save(image).unwrap();
        let label = at("label").join(path).with_extension("txt");
        write(label, format!("{viewpoint}\n1\n2 3 28 18\n"));
    }
    // An image that no list names.
    fs::copy(at("image/1/2/2010/dd.jpg"), at("image/1/2/2010/gg.jpg")).unwrap();
    root
}

fn labels(split: &dyn Dataset) -> Vec<Vec<u32>> {
    let labels = |index| {
        let sample = split.get(index).unwrap();
        assert_eq!((sample.image.height, sample.image.width), (20, 30));
        assert_eq!(sample.labels, split.labels(index).unwrap());
        sample.labels
    };
    (0..split.len()).map(labels).collect()
}

#[test]
fn models_and_makers_are_counted_by_their_numbers_and_called_by_their_names() {
    let root = official();
    let cars = open("compcars", Some(root.path())).unwrap();
    let [model, maker] = cars.train.tasks() else { panic!("two tasks") };
    assert_eq!((model.name.as_str(), maker.name.as_str()), ("model", "maker"));
    assert_eq!(model.categories, ["Audi A4", "Citroën 5", "Audi TT"]);
    assert_eq!(maker.categories, ["Audi", "Citroën"]);
    assert_eq!(labels(&*cars.train), [[1, 1], [2, 0], [0, 0], [0, 0]]);
    assert_eq!(labels(&*cars.test), [[2, 0], [1, 1]]);
    assert_eq!((cars.fit, cars.image_size), (Fit::Cover, Size { height: 224, width: 323 }));

    for (name, task) in [("compcars-model", model), ("compcars-maker", maker)] {
        let one = open(name, Some(root.path())).unwrap();
        assert_eq!((one.name.as_str(), one.train.tasks()), (name, &[task.clone()][..]));
        assert_eq!(one.train.label(1).unwrap(), u32::from(name == "compcars-model") * 2);
    }
    let views = open("compcars-viewpoint", Some(root.path())).unwrap();
    assert_eq!(views.train.class_names(), VIEWPOINTS);
    assert_eq!(labels(&*views.train), [[0], [3], [5], [4]]);
    assert_eq!(labels(&*views.test), [[1], [2]]);
}

#[test]
fn the_folder_may_be_the_one_around_data_and_numbers_of_any_byte_order() {
    let root = official();
    write(root.path().join(NAMES), names(Mat { big: true }));
    let around = tempfile::tempdir().unwrap();
    fs::rename(root.keep(), around.path().join("data")).unwrap();
    let cars = open("compcars-maker", Some(around.path())).unwrap();
    assert_eq!(cars.test.class_names(), ["Audi", "Citroën"]);
}

#[test]
fn names_that_two_models_have_get_their_numbers() {
    let root = official();
    let models = LITTLE.cells("model_names", &["", "TT", "", "", "", "", "TT"]);
    let makers = LITTLE.cells("make_names", &["Audi", "", ""]);
    write(root.path().join(NAMES), [LITTLE.header(), makers, models].concat());
    let cars = open("compcars-model", Some(root.path())).unwrap();
    assert_eq!(cars.test.class_names(), ["Audi TT (2)", "3 5", "Audi TT (7)"]);
}

#[test]
fn each_malformed_line_is_named() {
    for (file, from, to, said) in [
        (TRAIN, "3/5/2014/aa.jpg", "3/5/aa.jpg", "line 1: expected `MAKER/MODEL/YEAR/NAME.jpg`"),
        (
            TRAIN,
            "3/5/2014/aa.jpg",
            "\n",
            "line 1: expected `MAKER/MODEL/YEAR/NAME.jpg`, found \"\"",
        ),
        (TRAIN, "aa.jpg", "aa", "line 1: expected `MAKER/MODEL/YEAR/NAME.jpg`"),
        (TRAIN, "2014/aa", "../aa", "line 1: expected `MAKER/MODEL/YEAR/NAME.jpg`"),
        (
            TRAIN,
            "1/7/",
            "4/7/",
            "line 2: expected a maker of make_model_name.mat, 1 to 3, found \"4\"",
        ),
        (TRAIN, "1/7/", "0/7/", "line 2: expected a maker of make_model_name.mat"),
        (TRAIN, "1/7/", "Audi/7/", "line 2: expected a maker of make_model_name.mat"),
        (
            TRAIN,
            "1/7/",
            "1/8/",
            "line 2: expected a model of make_model_name.mat, 1 to 7, found \"8\"",
        ),
        (TRAIN, "1/2/2010/dd", "1/7/2012/bb", "line 4: expected each image once"),
        (TRAIN, "1/2/2010", "2/2/2010", "line 4: expected model 2 of maker 1, as before"),
        (
            TEST,
            "3/5/2014/ff",
            "3/5/2014/aa",
            "line 2: expected each image once, in one of the lists",
        ),
        (TEST, "3/5", "3/6", "line 2: expected a maker and model of train.txt"),
        (TEST, "3/5", "1/5", "line 2: expected a maker and model of train.txt"),
        (TEST, "1/7/2012/ee.jpg\n3/5/2014/ff.jpg\n", "", "line 1: expected a line for each image"),
        (
            "label/1/7/2012/bb.txt",
            "4\n",
            "6\n",
            "bb.txt, line 1: expected a viewpoint, 1 to 5 or -1",
        ),
        ("label/1/7/2012/bb.txt", "4\n1\n2 3 28 18\n", "", "expected a viewpoint"),
    ] {
        let root = official();
        let path = root.path().join(file);
        let good = fs::read_to_string(&path).unwrap();
        assert!(good.contains(from), "{from}");
        write(&path, good.replacen(from, to, 1));
        let message = open("compcars-viewpoint", Some(root.path())).expect_err(said).to_string();
        assert!(message.contains(file) && message.contains(said), "{said}:\n{message}");
    }
}

#[test]
fn damaged_name_tables_are_errors() {
    let root = official();
    let message = |bytes: &[u8]| {
        write(root.path().join(NAMES), bytes);
        open("compcars", Some(root.path())).unwrap_err().to_string()
    };
    let makers = LITTLE.cells("make_names", &["Audi"]);
    let said = message(&[LITTLE.header(), makers.clone()].concat());
    assert!(said.contains("expected a cell array `model_names`, found none"), "{said}");
    let numbers = LITTLE.matrix("model_names", 6, &[1, 1], 2, &[3]);
    let said = message(&[LITTLE.header(), makers, numbers].concat());
    assert!(said.contains("expected `model_names` as a cell array, found a variable of"), "{said}");
    // Wherever it is cut, but at the end of its header or of a variable.
    let good = names(LITTLE);
    for end in (0..good.len()).step_by(7) {
        let said = message(&good[..end]);
        assert!(said.contains("make_model_name.mat: expected"), "{end}: {said}");
    }
}

#[test]
fn missing_images_and_files_are_told_before_training() {
    let root = official();
    fs::remove_file(root.path().join("image/1/7/2012/ee.jpg")).unwrap();
    let said = open("compcars-model", Some(root.path())).unwrap_err().to_string();
    assert!(said.contains("lacks 1 image (1/7/2012/ee.jpg); expected the 2 images of"), "{said}");
    for file in [TRAIN, TEST, NAMES, "image"] {
        let root = official();
        fs::rename(root.path().join(file), root.path().join("elsewhere")).unwrap();
        let said = open("compcars-model", Some(root.path())).unwrap_err().to_string();
        assert!(said.contains(file) && said.contains("not found; looked in"), "{said}");
        assert!(said.contains("cargo xtask fetch compcars"), "{said}");
    }
    // Who does not ask for the viewpoint needs no labels.
    let root = official();
    fs::remove_dir_all(root.path().join("label")).unwrap();
    assert!(open("compcars", Some(root.path())).is_ok());
    assert!(open("compcars-viewpoint", Some(root.path())).is_err());
}
