//! What the tests of several formats share.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::dataset::{Dataset, Image};

/// A file or folder that `tests/reference/make_data_fixtures.py` made.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// The value that the script gives row y, column x, channel c of image n of the file with this seed.
pub fn pixel(seed: usize, n: usize, y: usize, x: usize, c: usize) -> u8 {
    ((17 * seed + 71 * n + 13 * y + 7 * x + 53 * c + x * y % 11) % 256) as u8
}

/// Image n of the file with this seed, 32×32.
pub fn image(seed: usize, n: usize) -> Image {
    let row = |y| (0..32).flat_map(move |x| (0..3).map(move |c| pixel(seed, n, y, x, c)));
    Image { width: 32, height: 32, channels: 3, data: (0..32).flat_map(row).collect() }
}

/// Image n as CIFAR has it: three planes, row by row.
pub fn planes(seed: usize, n: usize) -> Vec<u8> {
    let at = |i: usize| pixel(seed, n, i % 1024 / 32, i % 32, i / 1024);
    (0..3072).map(at).collect()
}

/// Image n as MATLAB has it: three planes, column by column.
pub fn columns(seed: usize, n: usize) -> Vec<u8> {
    let at = |i: usize| pixel(seed, n, i % 32, i % 1024 / 32, i / 1024);
    (0..3072).map(at).collect()
}

/// Asserts that a split is these images (file's seed, number in the file) with these labels.
pub fn assert_split(split: &dyn Dataset, expected: &[(usize, usize, u32)]) {
    assert_eq!(split.len(), expected.len());
    for (index, &(seed, n, label)) in expected.iter().enumerate() {
        let sample = split.get(index).unwrap();
        assert_eq!(split.label(index).unwrap(), label, "sample {index}");
        assert_eq!(sample.label(), label, "sample {index}");
        assert!(sample.image == image(seed, n), "sample {index} has other pixels");
    }
    assert!(split.get(expected.len()).is_err());
}

/// Writes a file, with its folders.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Copies a folder of files.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A gzip file.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Builds MAT files by hand, little-endian or big-endian.
#[derive(Clone, Copy)]
pub struct Mat {
    pub big: bool,
}

impl Mat {
    pub fn word(self, word: u32) -> [u8; 4] {
        if self.big { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    pub fn header(self) -> Vec<u8> {
        let mut header = b"MATLAB 5.0 MAT-file, by hand".to_vec();
        header.resize(124, b' ');
        header.extend(if self.big { *b"\x01\x00MI" } else { *b"\x00\x01IM" });
        header
    }

    /// A tag and its data, padded to 8 bytes.
    pub fn element(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut element = [self.word(kind), self.word(data.len() as u32)].concat();
        element.extend(data);
        element.resize(element.len().next_multiple_of(8), 0);
        element
    }

    /// An element of at most 4 bytes, inside its tag.
    pub fn small(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut element = self.word((data.len() as u32) << 16 | kind).to_vec();
        element.extend(data);
        element.resize(8, 0);
        element
    }

    /// A variable, of values stored as `kind`.
    pub fn matrix(self, name: &str, class: u32, dims: &[u32], kind: u32, data: &[u8]) -> Vec<u8> {
        let mut body = self.element(6, &[self.word(class), self.word(0)].concat());
        body.extend(self.element(5, &dims.iter().flat_map(|&d| self.word(d)).collect::<Vec<_>>()));
        body.extend(match name.len() {
            1..=4 => self.small(1, name.as_bytes()),
            _ => self.element(1, name.as_bytes()),
        });
        body.extend(match data.len() {
            1..=4 => self.small(kind, data),
            _ => self.element(kind, data),
        });
        self.element(14, &body)
    }

    /// The same, compressed: such an element is not padded.
    pub fn compressed(self, element: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(element).unwrap();
        let data = encoder.finish().unwrap();
        [&self.word(15), &self.word(data.len() as u32), &data[..]].concat()
    }

    /// A column of cells that are strings; empty ones as MATLAB has them.
    pub fn cells(self, name: &str, strings: &[&str]) -> Vec<u8> {
        let mut body = self.element(6, &[self.word(1), self.word(0)].concat());
        body.extend(self.element(5, &[self.word(strings.len() as u32), self.word(1)].concat()));
        body.extend(self.element(1, name.as_bytes()));
        for string in strings {
            let units: Vec<u8> = string.encode_utf16().flat_map(|unit| self.half(unit)).collect();
            let (class, rows) = if string.is_empty() { (6, 0) } else { (4, 1) };
            let dims = [rows, units.len() as u32 / 2];
            let mut cell = self.element(6, &[self.word(class), self.word(0)].concat());
            cell.extend(self.element(5, &dims.map(|d| self.word(d)).concat()));
            cell.extend(self.element(1, b""));
            cell.extend(self.element(if class == 4 { 4 } else { 9 }, &units));
            body.extend(self.element(14, &cell));
        }
        self.element(14, &body)
    }

    fn half(self, unit: u16) -> [u8; 2] {
        if self.big { unit.to_be_bytes() } else { unit.to_le_bytes() }
    }

    /// The two variables of an SVHN file with `labels.len()` images.
    pub fn svhn(self, seed: usize, labels: &[u8]) -> [Vec<u8>; 2] {
        let count = labels.len() as u32;
        let pixels: Vec<u8> = (0..labels.len()).flat_map(|n| columns(seed, n)).collect();
        [
            self.matrix("X", 9, &[32, 32, 3, count], 2, &pixels),
            // As MATLAB stores doubles that are small whole numbers.
            self.matrix("y", 6, &[count, 1], 2, labels),
        ]
    }
}

pub const LITTLE: Mat = Mat { big: false };
