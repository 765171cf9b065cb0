use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn path() -> &'static Path {
    Path::new("some/train-images-idx3-ubyte.gz")
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three images of 2×4, pixels 0, 1, 2, ….
fn images() -> Vec<u8> {
    encode(&[3, 2, 4], &(0..24).collect::<Vec<u8>>()).unwrap()
}

fn message(bytes: &[u8]) -> String {
    let message = parse_images(bytes, path()).unwrap_err().to_string();
    assert!(message.starts_with("some/train-images-idx3-ubyte.gz: "), "{message}");
    message
}

#[test]
fn the_official_layout_is_read_plain_and_gzipped() {
    // Written out by hand, so that `encode` is checked too.
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4];
    bytes.extend(0..24);
    assert_eq!(images(), bytes);
    let expected = Images { count: 3, rows: 2, columns: 4, pixels: (0..24).collect() };
    assert_eq!(parse_images(&bytes, path()).unwrap(), expected);
    assert_eq!(parse_images(&gz(&bytes), path()).unwrap(), expected);

    let labels = [0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1];
    assert_eq!(parse_labels(&labels, path(), 3).unwrap(), [2, 0, 1]);
}

#[test]
fn files_are_read_by_content_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images");
    std::fs::write(&file, gz(&images())).unwrap();
    assert_eq!(read_images(&file).unwrap().count, 3);
    let missing = folder.path().join("none");
    let message = read_labels(&missing, 10).unwrap_err().to_string();
    assert!(message.contains(missing.to_str().unwrap()), "{message}");
}

#[test]
fn truncation_anywhere_is_an_error() {
    let (plain, zipped) = (images(), gz(&images()));
    for end in 0..plain.len() {
        message(&plain[..end]);
    }
    for end in 0..zipped.len() {
        message(&zipped[..end]);
    }
    let message = message(&plain[..30]);
    assert!(message.ends_with("expected 24 bytes of images (3×2×4), found only 14"), "{message}");
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = images();
    bytes.push(0);
    assert!(message(&bytes).ends_with("found more"));
    assert!(message(&gz(&bytes)).ends_with("found more"));
    let mut bytes = gz(&images());
    bytes.extend([1, 2, 3]);
    assert!(message(&bytes).ends_with("found 3 more bytes"));
}

#[test]
fn a_damaged_gzip_stream_is_an_error() {
    let mut bytes = gz(&images());
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    assert!(message(&bytes).contains("a damaged one"));
}

#[test]
fn another_magic_number_is_an_error() {
    let labels = encode(&[3], &[0, 1, 2]).unwrap();
    let message = message(&labels);
    assert!(
        message.ends_with("expected magic number 0x00000803 (idx images), found 0x00000801"),
        "{message}"
    );
    let message = parse_labels(&images(), path(), 10).unwrap_err().to_string();
    assert!(message.contains("0x00000801 (idx labels)"), "{message}");
}

#[test]
fn dimensions_that_cannot_be_are_an_error() {
    // Overflows 64 bits, and promises far more than there is: neither may allocate what it claims.
    let mut bytes = vec![0, 0, 8, 3];
    bytes.extend([0xff; 12]);
    assert!(message(&bytes).contains("dimensions of at most 1073741824 bytes"));
    let mut bytes = vec![0, 0, 8, 3, 0x7f, 0xff, 0xff, 0xff, 0, 0, 1, 0, 0, 0, 1, 0];
    assert!(message(&bytes).contains("2147483647×256×256"));
    bytes[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
    bytes.push(7);
    assert!(message(&bytes).ends_with("found only 1"));
    assert!(message(&encode(&[0, 28, 28], &[]).unwrap()).contains("at least one image"));
}

#[test]
fn a_label_that_names_no_class_is_an_error() {
    let labels = encode(&[4], &[0, 9, 10, 11]).unwrap();
    let message = parse_labels(&labels, path(), 10).unwrap_err().to_string();
    assert!(message.contains("label 10 of sample 2"), "{message}");
    assert!(message.contains("number of classes, 10"), "{message}");
}

#[test]
fn encode_refuses_what_it_cannot_write() {
    assert!(encode(&[2, 2], &[0; 3]).is_err());
    assert!(encode(&[1; 256], &[0]).is_err());
}
