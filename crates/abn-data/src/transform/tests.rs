use super::*;
use crate::rng::Purpose;

/// Pixels pass unchanged through these.
const PLAIN: Normalisation = Normalisation { mean: [0.0; 3], std: [1.0 / 255.0; 3] };

/// A square grey image of 1, 2, 3, … (never 0, so that padding can be told).
fn grey(side: usize) -> Image {
    let data = (0..side * side).map(|i| (i % 255 + 1) as u8).collect();
    Image { width: side, height: side, channels: 1, data }
}

fn apply(transform: &Transform, image: &Image, stream: Option<Stream>) -> Vec<f32> {
    let mut output = vec![f32::NAN; transform.output_len()];
    transform.apply(image, stream, &mut output).unwrap();
    output
}

fn stream(sample: u64) -> Stream {
    Stream::new(Purpose::Augment, 7, 0, sample)
}

/// The slow definition: value at a position of the padded plane, or black outside the image.
fn reference(
    transform: &Transform,
    image: &Image,
    (top, left): (usize, usize),
    mirror: bool,
) -> Vec<f32> {
    let border = |fitted: usize| (transform.padding + (fitted - image.width) / 2) as isize;
    let fitted = transform.fitted_size;
    let Size { height, width } = transform.image_size;
    let mut output = Vec::new();
    for channel in 0..3 {
        for y in 0..height {
            for x in 0..width {
                let x = if mirror { width - 1 - x } else { x };
                let row = (y + top) as isize - border(fitted.height);
                let column = (x + left) as isize - border(fitted.width);
                let inside = 0..image.width as isize;
                let pixel = if inside.contains(&row) && inside.contains(&column) {
                    let at = row as usize * image.width + column as usize;
                    image.data[at * image.channels + if image.channels == 1 { 0 } else { channel }]
                } else {
                    0
                };
                let (mean, std) = (transform.stats.mean[channel], transform.stats.std[channel]);
                output.push((f32::from(pixel) / 255.0 - mean) / std);
            }
        }
    }
    output
}

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 1e-5 * e.abs().max(1.0), "at {i}: {g}, expected {e}");
    }
}

#[test]
fn without_augmentation_the_image_is_centred_repeated_and_normalised() {
    let transform = Transform::standard(Fit::Pad, 32, Normalisation::FASHION_MNIST);
    let image = grey(28);
    let output = apply(&transform, &image, None);
    assert_close(&output, &reference(&transform, &image, (4, 4), false));
    // By hand: a corner of padding, and the image's first pixel at row 2, column 2.
    assert!((output[0] - (0.0 - 0.2860) / 0.3530).abs() < 1e-6);
    assert!((output[2 * 32 + 2] - (1.0 / 255.0 - 0.2860) / 0.3530).abs() < 1e-6);
    assert_eq!(output[..1024], output[1024..2048]);
    assert_eq!(output[..1024], output[2048..]);
}

#[test]
fn every_crop_and_flip_is_the_slow_definition() {
    let channels = |n: usize| {
        let mut image = grey(6);
        image.data = (0..36 * n).map(|i| (i * 7 % 255 + 1) as u8).collect();
        image.channels = n;
        image
    };
    let stats = Normalisation::IMAGENET;
    for image in [channels(1), channels(3)] {
        for (fitted_size, padding, image_size) in [(6, 4, 6), (8, 2, 8), (8, 0, 5), (6, 9, 7)] {
            // A square, and a window that is two wider than high.
            let wider = Size { height: image_size, width: image_size + 2 };
            for image_size in [image_size.into(), wider] {
                let fitted_size = Size {
                    height: fitted_size,
                    width: fitted_size + image_size.width - image_size.height,
                };
                let transform =
                    Transform { fit: Fit::Pad, fitted_size, padding, image_size, stats };
                for sample in 0..64 {
                    let mut draws = stream(sample);
                    let mut offset = |fitted: usize, window: usize| {
                        draws.below((fitted + 2 * padding - window + 1) as u32) as usize
                    };
                    let top = offset(fitted_size.height, image_size.height);
                    let left = offset(fitted_size.width, image_size.width);
                    let expected = reference(&transform, &image, (top, left), draws.coin());
                    assert_close(&apply(&transform, &image, Some(stream(sample))), &expected);
                }
            }
        }
    }
}

#[test]
fn augmentation_reaches_every_offset_and_both_directions() {
    let mut transform = Transform::standard(Fit::Pad, 32, PLAIN);
    transform.fitted_size = 32.into();
    let image = Image { width: 32, height: 32, channels: 1, data: vec![1; 1024] };
    let mut offsets = std::collections::BTreeSet::new();
    for sample in 0..2000 {
        let output = apply(&transform, &image, Some(stream(sample)));
        let visible = |at: usize| output[at] > 0.5;
        let top = (0..32).filter(|y| visible(y * 32 + 16)).count();
        let left = (0..32).filter(|x| visible(16 * 32 + x)).count();
        offsets.insert((top, left, visible(16 * 32), visible(16)));
    }
    // Rows and columns each: 1–4 missing at either side, or none: 9 × 9 (a flip only mirrors them).
    assert_eq!(offsets.len(), 81);
}

#[test]
fn large_images_are_resized_and_centre_cropped() {
    let transform = Transform::standard(Fit::Pad, 224, PLAIN);
    assert_eq!(
        (transform.fit, transform.fitted_size, transform.padding),
        (Fit::Resize, 256.into(), 0)
    );
    // Left half dark, right half bright: stays so at any size.
    let mut image = Image { width: 300, height: 100, channels: 3, data: Vec::new() };
    for _ in 0..100 {
        image.data.extend([10; 150 * 3]);
        image.data.extend([200; 150 * 3]);
    }
    let output = apply(&transform, &image, None);
    for row in output.chunks(224) {
        assert!(row[..108].iter().all(|v| (v - 10.0).abs() < 0.01), "{row:?}");
        assert!(row[116..].iter().all(|v| (v - 200.0).abs() < 0.01), "{row:?}");
    }
    // A small image of the wrong size is resized too where the dataset says so.
    let small = Transform::standard(Fit::Resize, 32, PLAIN);
    let output = apply(&small, &image, None);
    assert!((output[0] - 10.0).abs() < 0.01 && (output[31] - 200.0).abs() < 0.01);
}

#[test]
fn images_that_cannot_be_used_are_errors() {
    let transform = Transform::standard(Fit::Pad, 32, PLAIN);
    let message = |image: &Image, room: usize| {
        transform.apply(image, None, &mut vec![0.0; room]).unwrap_err().to_string()
    };
    assert!(message(&grey(40), 3072).contains("40×40 cannot be zero-padded evenly to 32×32"));
    assert!(message(&grey(27), 3072).contains("27×27"));
    assert!(message(&grey(28), 3071).contains("room for 3072"));
    assert!(message(&Image { channels: 2, ..grey(28) }, 3072).contains("1 or 3 channels"));
    assert!(message(&Image { channels: 3, ..grey(28) }, 3072).contains("784 bytes"));
    assert!(message(&Image { width: 0, data: vec![], ..grey(28) }, 3072).contains("0 bytes"));
}

#[test]
fn covering_keeps_the_shape_and_cuts_off_what_is_over() {
    let window = Size { height: 224, width: 323 };
    let transform = Transform::standard(Fit::Cover, window, PLAIN);
    assert_eq!((transform.fitted_size, transform.padding), (window, 0));
    let flat = |height: usize, width: usize| Image {
        width,
        height,
        channels: 1,
        data: vec![7; height * width],
    };
    for ((height, width), fitted) in [
        // Wider than the window, higher, of its shape, of one pixel, and very long.
        ((600, 1200), (224, 448)),
        ((1000, 1000), (323, 323)),
        ((448, 646), (224, 323)),
        ((1, 1), (323, 323)),
        ((3, 1000), (224, 74667)),
        // Rounding to the nearest pixel never leaves a gap.
        ((669, 965), (224, 323)),
    ] {
        let fitted = Size { height: fitted.0, width: fitted.1 };
        assert_eq!(transform.fitted(&flat(height, width)), fitted, "{height}×{width}");
        let output = apply(&transform, &flat(height, width), None);
        assert!(output.iter().all(|v| (v - 7.0).abs() < 0.01), "{height}×{width}");
    }
    // Left third dark, the rest bright: in the centre, a sixth of a picture twice as wide as high is
    // off the window at its left, and in training any part of it.
    let mut image = Image { width: 600, height: 300, channels: 3, data: Vec::new() };
    for _ in 0..300 {
        image.data.extend([10; 200 * 3]);
        image.data.extend([200; 400 * 3]);
    }
    let edge = |stream: Option<Stream>| {
        let output = apply(&transform, &image, stream);
        let row: Vec<_> = output[100 * 323..101 * 323].iter().map(|v| *v < 105.0).collect();
        let dark = row.iter().filter(|dark| **dark).count();
        assert!(row[..dark].iter().all(|d| *d) || row[323 - dark..].iter().all(|d| *d));
        dark
    };
    // 448 columns, the first 149 dark; the centre's begin at 62.
    assert!(edge(None).abs_diff(149 - 62) <= 1, "{}", edge(None));
    let edges: std::collections::BTreeSet<_> = (0..400).map(|i| edge(Some(stream(i)))).collect();
    assert!(
        edges.len() > 100 && edges.first() < Some(&30) && edges.last() > Some(&140),
        "{edges:?}"
    );
}

#[test]
fn the_whole_image_stays_where_it_is_asked_for() {
    let transform = Transform::standard(Fit::Whole, 224, PLAIN);
    assert_eq!((transform.fitted_size, transform.padding), (224.into(), 0));
    let mut image = Image { width: 178, height: 218, channels: 1, data: vec![50; 178 * 218] };
    (image.data[..178 * 8]).fill(250);
    let output = apply(&transform, &image, None);
    assert!((output[0] - 250.0).abs() < 0.01 && (output[224 * 224 - 1] - 50.0).abs() < 0.01);
    let small = Transform::standard(Fit::Whole, 64, PLAIN);
    assert_eq!((small.fitted_size, small.padding), (64.into(), 4));
}
