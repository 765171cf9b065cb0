use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::testing::{LITTLE, Mat, fixture, write};

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.mat");
    write(&path, bytes);
    (folder, path)
}

/// Name, dimensions and values of a variable.
type Numbers = (String, Vec<usize>, Vec<f64>);

fn numbers(bytes: &[u8]) -> Result<Vec<Numbers>> {
    let (_folder, path) = file(bytes);
    numbers_of(&path)
}

fn numbers_of(path: &Path) -> Result<Vec<Numbers>> {
    let mut found = Vec::new();
    variables(path, |variable| {
        let values = variable.numbers(100)?;
        found.push((variable.name.clone(), variable.dims.clone(), values));
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn values_of_every_type_are_read_in_both_byte_orders() {
    for big in [false, true] {
        let mat = Mat { big };
        let ordered = |mut little: Vec<u8>| {
            if big {
                little.reverse();
            }
            little
        };
        let cases = [
            (1, ordered((-3_i8).to_le_bytes().into()), -3.0),
            (2, vec![200], 200.0),
            (3, ordered((-300_i16).to_le_bytes().into()), -300.0),
            (4, ordered(60_000_u16.to_le_bytes().into()), 60_000.0),
            (5, ordered((-70_000_i32).to_le_bytes().into()), -70_000.0),
            (6, ordered(4_000_000_000_u32.to_le_bytes().into()), 4e9),
            (7, ordered(1.5_f32.to_le_bytes().into()), 1.5),
            (9, ordered((-0.1_f64).to_le_bytes().into()), -0.1),
            (12, ordered((-1_i64 << 40).to_le_bytes().into()), -(2_f64.powi(40))),
            (13, ordered((1_u64 << 40).to_le_bytes().into()), 2_f64.powi(40)),
        ];
        for (kind, bytes, value) in cases {
            let matrix = mat.matrix("some name", 6, &[1, 1], kind, &bytes);
            for element in [mat.compressed(&matrix), matrix] {
                let found = numbers(&[mat.header(), element].concat()).unwrap();
                assert_eq!(found, [("some name".to_owned(), vec![1, 1], vec![value])]);
            }
        }
    }
}

#[test]
fn unwanted_variables_are_skipped_without_being_read() {
    // The second variable's stream is damaged, but nobody looks at its values.
    let good = LITTLE.compressed(&LITTLE.matrix("a", 6, &[1, 5], 2, &[1, 2, 3, 4, 5]));
    let noise: Vec<u8> =
        (0..4000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut bad = LITTLE.compressed(&LITTLE.matrix("b", 9, &[1, 4000], 2, &noise));
    let at = bad.len() - 100;
    bad[at..].fill(0xff);
    let opaque = LITTLE.element(2, &[7; 24]);
    let (_folder, path) = file(&[LITTLE.header(), good.clone(), bad, opaque, good].concat());
    let mut names = Vec::new();
    variables(&path, |variable| {
        names.push(variable.name.clone());
        if variable.name == "a" {
            assert_eq!(variable.numbers(5)?, [1.0, 2.0, 3.0, 4.0, 5.0]);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(names, ["a", "b", "a"]);
}

#[test]
fn a_table_gives_the_fields_asked_for() {
    let mut rows = Vec::new();
    variables(&fixture("imagenet/meta.mat"), |variable| {
        assert_eq!((variable.name.as_str(), variable.class), ("synsets", STRUCT_CLASS));
        rows = table(variable, ["WNID", "ILSVRC2012_ID", "children"])?;
        Ok(())
    })
    .unwrap();
    assert_eq!(rows.len(), 5);
    let text = |text: &str| Field::Text(text.to_owned());
    let numbers = |numbers: &[f64]| Field::Numbers(numbers.to_vec());
    assert_eq!(rows[2], [text("n01440764"), numbers(&[3.0]), numbers(&[])]);
    assert_eq!(rows[4], [text("n00001740"), numbers(&[1001.0]), numbers(&[1.0, 2.0])]);
}

/// Wherever a file is cut, the error says so; nothing panics.
#[test]
fn truncation_anywhere_is_an_error() {
    let matrix = LITTLE.matrix("name", 6, &[3, 4], 2, &[9; 12]);
    for element in [LITTLE.compressed(&matrix), matrix] {
        let bytes = [LITTLE.header(), element].concat();
        let (_folder, path) = file(&bytes);
        assert_eq!(numbers_of(&path).unwrap().len(), 1);
        for end in (0..bytes.len()).filter(|&end| end != 128) {
            write(&path, &bytes[..end]);
            let message = numbers_of(&path).expect_err("cut").to_string();
            assert!(message.contains("some.mat: expected"), "cut at {end}: {message}");
        }
    }
    let whole = std::fs::read(fixture("imagenet/meta.mat")).unwrap();
    let (_folder, path) = file(&[]);
    for end in 129..whole.len() {
        write(&path, &whole[..end]);
        assert!(variables(&path, |v| table(v, ["WNID"]).map(drop)).is_err(), "cut at {end}");
    }
}

/// Whatever bytes change, there is an answer, and in bounded memory.
#[test]
fn damage_anywhere_is_survived() {
    let (_folder, path) = file(&[]);
    let matrix = LITTLE.matrix("name", 6, &[3, 4], 2, &[9; 12]);
    let plain = [LITTLE.header(), matrix.clone()].concat();
    let zipped = [LITTLE.header(), LITTLE.compressed(&matrix)].concat();
    let mut errors = 0;
    for whole in [plain, zipped] {
        for at in 124..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                write(&path, bytes);
                errors += usize::from(numbers_of(&path).is_err());
            }
        }
    }
    assert!(errors > 200, "{errors}");
    // An array of structures, of which only the last checksum would notice.
    let compressed = std::fs::read(fixture("imagenet/meta.mat")).unwrap();
    let mut matrix = Vec::new();
    ZlibDecoder::new(&compressed[136..]).read_to_end(&mut matrix).unwrap();
    let whole = [LITTLE.header(), matrix].concat();
    for at in (128..whole.len()).filter(|at| *at < 600 || at % 7 == 0) {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            write(&path, bytes);
            let _answer = variables(&path, |v| table(v, ["ILSVRC2012_ID", "WNID"]).map(drop));
        }
    }
}
