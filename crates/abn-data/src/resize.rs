//! Bilinear resizing that smooths where it shrinks.

use std::ops::Range;

use crate::dataset::Image;
use crate::error::{Error, Result};

/// The image at another size, whatever its aspect ratio.
///
/// The filter is a triangle as wide as the step between output pixels, and at least two input
/// pixels wide: PIL's and torchvision's antialiased bilinear, up to rounding.
///
/// # Errors
/// If the image does not have the bytes its size asks for, or either size is empty.
pub fn resize(image: &Image, height: usize, width: usize) -> Result<Image> {
    let Image { width: columns, height: rows, channels, ref data } = *image;
    if data.len() != rows * columns * channels || data.is_empty() || width * height == 0 {
        return Err(Error::Config(format!(
            "cannot resize {rows}×{columns}×{channels} pixels of {} bytes to {height}×{width}",
            data.len()
        )));
    }
    let vertical = Filter::new(rows, height);
    let horizontal = Filter::new(columns, width);

    let mut output = Vec::with_capacity(height * width * channels);
    let mut row = vec![0.0; columns * channels];
    for y in 0..height {
        row.fill(0.0);
        let (span, weights) = vertical.at(y);
        for (source, &weight) in data[span.start * row.len()..].chunks_exact(row.len()).zip(weights)
        {
            for (sum, &pixel) in row.iter_mut().zip(source) {
                *sum += weight * f32::from(pixel);
            }
        }
        for x in 0..width {
            let (span, weights) = horizontal.at(x);
            let pixels = &row[span.start * channels..span.end * channels];
            for channel in 0..channels {
                let values = pixels[channel..].iter().step_by(channels);
                let sum: f32 = values.zip(weights).map(|(value, weight)| value * weight).sum();
                output.push((sum + 0.5) as u8); // a mean of bytes: no need to clamp
            }
        }
    }
    Ok(Image { width, height, channels, data: output })
}

/// For every output position of one axis, the input positions it is the weighted mean of.
struct Filter {
    spans: Vec<Range<usize>>,
    /// The weights of all spans, one after the other; a span's begin at `taps` times its index.
    weights: Vec<f32>,
    taps: usize,
}

impl Filter {
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let radius = scale.max(1.0);
        let taps = (2.0 * radius).ceil() as usize + 1;
        let mut weights = vec![0.0; taps * output];
        let mut spans = Vec::with_capacity(output);
        for (position, weights) in weights.chunks_exact_mut(taps).enumerate() {
            // In the input's coordinates, in which pixel i reaches from i to i + 1.
            let centre = (position as f64 + 0.5) * scale;
            let first = (centre - radius + 0.5).max(0.0) as usize;
            let last = ((centre + radius + 0.5) as usize).min(input).min(first + taps);
            let weight = |i| (1.0 - ((i as f64 + 0.5 - centre) / radius).abs()).max(0.0);
            let sum: f64 = (first..last).map(weight).sum();
            for (slot, i) in weights.iter_mut().zip(first..last) {
                *slot = (weight(i) / sum) as f32;
            }
            spans.push(first..last);
        }
        Self { spans, weights, taps }
    }

    fn at(&self, position: usize) -> (Range<usize>, &[f32]) {
        let span = self.spans[position].clone();
        let start = position * self.taps;
        let weights = &self.weights[start..start + span.len()];
        (span, weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize, channels: usize) -> Image {
        let data = (0..height * width * channels).map(|i| (i * 37 % 256) as u8).collect();
        Image { width, height, channels, data }
    }

    /// Made with Pillow 13.0.0: `Image.fromarray(a).resize((width, height), Image.BILINEAR)`.
    #[test]
    fn it_is_pillows_bilinear_up_to_rounding() {
        let cases: [((usize, usize), &[u8]); 2] = [((3, 4), &SMALLER), ((8, 9), &LARGER)];
        for ((height, width), expected) in cases {
            let resized = resize(&image(5, 7, 1), height, width).unwrap();
            assert_eq!(resized.data.len(), expected.len());
            for (got, &expected) in resized.data.iter().zip(expected) {
                assert!(got.abs_diff(expected) <= 1, "{:?}, expected {expected:?}", resized.data);
            }
        }
    }

    const SMALLER: [u8; 12] = [20, 78, 146, 204, 25, 83, 151, 209, 30, 88, 156, 214];
    const LARGER: [u8; 72] = [
        0, 25, 53, 82, 111, 140, 169, 197, 222, 1, 26, 54, 83, 112, 141, 170, 198, 223, 3, 28, 56,
        85, 114, 143, 172, 200, 225, 5, 30, 58, 87, 116, 145, 174, 202, 227, 7, 32, 60, 89, 118,
        147, 176, 204, 229, 9, 34, 62, 91, 120, 149, 178, 206, 231, 11, 36, 64, 93, 122, 151, 180,
        208, 233, 12, 37, 65, 94, 123, 152, 181, 209, 234,
    ];

    #[test]
    fn the_same_size_is_the_same_image() {
        assert_eq!(resize(&image(5, 7, 3), 5, 7).unwrap(), image(5, 7, 3));
    }

    #[test]
    fn channels_are_resized_alone() {
        let colour = resize(&image(6, 9, 3), 4, 20).unwrap();
        for channel in 0..3 {
            let plane = |image: &Image| -> Vec<u8> {
                image.data[channel..].iter().step_by(3).copied().collect()
            };
            let grey = Image { width: 9, height: 6, channels: 1, data: plane(&image(6, 9, 3)) };
            assert_eq!(resize(&grey, 4, 20).unwrap().data, plane(&colour));
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        for value in [0, 255] {
            let flat = Image { width: 50, height: 3, channels: 1, data: vec![value; 150] };
            for (height, width) in [(1, 1), (7, 3), (100, 120)] {
                let resized = resize(&flat, height, width).unwrap();
                assert!(resized.data.iter().all(|&v| v == value), "{height}×{width}");
            }
        }
    }

    #[test]
    fn empty_sizes_are_errors() {
        assert!(resize(&image(5, 7, 1), 0, 3).is_err());
        assert!(resize(&Image { data: vec![], ..image(5, 7, 1) }, 3, 3).is_err());
    }
}
