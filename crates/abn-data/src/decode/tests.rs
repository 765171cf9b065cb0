use image::{GrayImage, Luma};

use super::*;
use crate::resize;
use crate::testing::{fixture, write};

/// Mean and largest difference of two images of the same size.
fn difference(a: &Image, b: &Image) -> (f64, u8) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels));
    let differences = a.data.iter().zip(&b.data).map(|(&a, &b)| a.abs_diff(b));
    let sum: f64 = differences.clone().map(f64::from).sum();
    (sum / a.data.len() as f64, differences.max().unwrap())
}

/// Decoders may round differently, and do: the standard leaves it open.
#[test]
fn jpeg_is_decoded_as_libjpeg_does() {
    for (name, mean, most) in
        [("420", 0.5, 3), ("progressive", 0.5, 3), ("grey", 0.5, 2), ("cmyk", 1.5, 8)]
    {
        let ours = read_image(&fixture(&format!("images/{name}.jpg"))).unwrap();
        let theirs = read_image(&fixture(&format!("images/{name}.png"))).unwrap();
        let (found_mean, found_most) = difference(&ours, &theirs);
        println!("{name}: mean {found_mean:.3}, at most {found_most}");
        assert!(found_mean <= mean && found_most <= most, "{name}: {found_mean}, {found_most}");
    }
}

#[test]
fn resizing_is_pillows() {
    let image = read_image(&fixture("images/420.png")).unwrap();
    for (height, width, name) in [(32, 32, "420-32x32"), (128, 96, "420-96x128")] {
        let theirs = read_image(&fixture(&format!("images/{name}.png"))).unwrap();
        let (_, most) = difference(&resize(&image, height, width).unwrap(), &theirs);
        assert!(most <= 1, "{name}: {most}");
    }
}

#[test]
fn a_truncated_jpeg_is_an_error_wherever_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cut.jpg");
    for name in ["420", "progressive", "grey", "cmyk"] {
        let whole = std::fs::read(fixture(&format!("images/{name}.jpg"))).unwrap();
        for end in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            write(&path, &whole[..end]);
            let message = read_image(&path).unwrap_err().to_string();
            assert!(message.contains("cut.jpg: cannot decode"), "{name} cut at {end}: {message}");
        }
        // What follows the end is nobody's business.
        write(&path, [&whole[..], b"more"].concat());
        assert!(read_image(&path).is_ok());
    }
}

/// A preview inside the file has an end of its own, which is not the file's.
#[test]
fn the_end_of_a_preview_is_not_the_end() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("preview.jpg");
    let whole = std::fs::read(fixture("images/420.jpg")).unwrap();
    let preview = std::fs::read(fixture("images/grey.jpg")).unwrap();
    let length = (preview.len() + 2) as u16;
    let with_preview =
        [&whole[..2], &[0xff, 0xe1], &length.to_be_bytes(), &preview, &whole[2..]].concat();
    write(&path, &with_preview);
    assert!(read_image(&path).is_ok());
    write(&path, &with_preview[..with_preview.len() - 100]);
    assert!(read_image(&path).is_err());
}

#[test]
fn damage_anywhere_is_survived() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("damaged.jpg");
    for name in ["420", "progressive"] {
        let whole = std::fs::read(fixture(&format!("images/{name}.jpg"))).unwrap();
        for at in (0..whole.len()).step_by(5) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                write(&path, bytes);
                if let Ok(image) = read_image(&path) {
                    assert_eq!(image.data.len(), image.width * image.height * 3);
                }
            }
        }
    }
}

#[test]
fn grey_images_become_three_channels() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("grey.png");
    GrayImage::from_pixel(1, 2, Luma([7])).save(&path).unwrap();
    assert_eq!(read_image(&path).unwrap().data, [7; 6]);
}

#[test]
fn a_size_that_no_file_backs_is_not_allocated() {
    let root = tempfile::tempdir().unwrap();
    // A PNG header of 60,000 × 60,000 pixels, and a JPEG's of 65,500 × 65,500.
    let mut png = std::fs::read(fixture("images/420.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let mut jpeg = std::fs::read(fixture("images/420.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    for (name, bytes) in [("huge.png", png), ("huge.jpg", jpeg)] {
        let path = root.path().join(name);
        write(&path, bytes);
        let message = read_image(&path).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("cannot decode"), "{message}");
    }
}
