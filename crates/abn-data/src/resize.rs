//! Bilinear resizing that smooths where it shrinks.

use std::ops::Range;

use crate::dataset::Image;
use crate::error::{Error, Result};

/// Values that the vertical pass sums at a time: few enough to stay in registers.
const CHUNK: usize = 16;
/// Values that the horizontal pass sums at a time: a pixel's channels, filled up.
const LANES: usize = 4;
/// From here to twice it, floats are whole numbers.
const WHOLE: f32 = (1 << 23) as f32;

/// The image at another size, whatever its aspect ratio.
///
/// The filter is a triangle as wide as the step between output pixels, and at least two input
/// pixels wide: PIL's and torchvision's antialiased bilinear, up to rounding.
///
/// # Errors
/// If the image does not have the bytes its size asks for, or either size is empty.
pub fn resize(image: &Image, height: usize, width: usize) -> Result<Image> {
    resize_window(image, (height, width), (0..height, 0..width))
}

/// What [`resize`] to `size` (height, width) gives in these rows and columns, at the cost of these only.
///
/// # Errors
/// As [`resize`], and if the window is empty or reaches beyond the size, or there are more than
/// three channels.
pub(crate) fn resize_window(
    image: &Image,
    size: (usize, usize),
    (rows, columns): (Range<usize>, Range<usize>),
) -> Result<Image> {
    let Image { width, height, channels, ref data } = *image;
    let wrong = |what: String| {
        let bytes = data.len();
        Error::Config(format!(
            "cannot resize {height}×{width}×{channels} pixels of {bytes} bytes to {what}"
        ))
    };
    if data.len() != width * height * channels || data.is_empty() || channels >= LANES {
        return Err(wrong(format!("{}×{}", size.0, size.1)));
    }
    if rows.is_empty() || rows.end > size.0 || columns.is_empty() || columns.end > size.1 {
        return Err(wrong(format!("rows {rows:?} and columns {columns:?} of {size:?}")));
    }
    let vertical = Filter::new(height, size.0, rows.clone());
    let horizontal = Filter::new(width, size.1, columns.clone());

    let output = Image {
        width: columns.len(),
        height: rows.len(),
        channels,
        data: match channels {
            1 => passes::<1>(image, &vertical, &horizontal),
            2 => passes::<2>(image, &vertical, &horizontal),
            _ => passes::<3>(image, &vertical, &horizontal),
        },
    };
    Ok(output)
}

/// Each output row: the input's rows into one of floats, and that along itself.
fn passes<const C: usize>(image: &Image, vertical: &Filter, horizontal: &Filter) -> Vec<u8> {
    // What the horizontal pass will ask for, and no more.
    let columns = horizontal.reach();
    let stride = image.width * C;
    let mut row = vec![0.0; columns.len() * C];
    let mut pixels = vec![[0.0; LANES]; columns.len()];
    let width = horizontal.spans.len();
    let mut results = vec![[0; LANES]; width];
    let mut output = vec![0; vertical.spans.len() * width * C];
    for ((span, weights), output) in vertical.iter().zip(output.chunks_exact_mut(width * C)) {
        sum_rows(&image.data[span.start * stride + columns.start * C..], stride, weights, &mut row);
        for (pixel, values) in pixels.iter_mut().zip(row.as_chunks::<C>().0) {
            for (slot, &value) in pixel.iter_mut().zip(values) {
                *slot = value;
            }
        }
        for ((span, weights), result) in horizontal.iter().zip(&mut results) {
            let taps = &pixels[span.start - columns.start..span.end - columns.start];
            let mut sums = [0.0; LANES];
            for (pixel, &weight) in taps.iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            *result = sums.map(|sum| (sum + WHOLE).to_bits());
        }
        // A mean of bytes needs no clamping: the last bits are the nearest byte.
        for (bytes, result) in output.as_chunks_mut::<C>().0.iter_mut().zip(&results) {
            for (byte, &bits) in bytes.iter_mut().zip(result) {
                *byte = bits as u8;
            }
        }
    }
    output
}

/// The weighted sum of rows, each `stride` after the one before.
fn sum_rows(rows: &[u8], stride: usize, weights: &[f32], sums: &mut [f32]) {
    let len = sums.len();
    let mut chunks = sums.chunks_exact_mut(CHUNK);
    let mut at = 0;
    for chunk in &mut chunks {
        let mut sum = [0.0; CHUNK];
        for (i, &weight) in weights.iter().enumerate() {
            let start = i * stride + at;
            for (sum, &pixel) in sum.iter_mut().zip(&rows[start..start + CHUNK]) {
                *sum += weight * f32::from(pixel);
            }
        }
        chunk.copy_from_slice(&sum);
        at += CHUNK;
    }
    for (at, sum) in (at..len).zip(chunks.into_remainder()) {
        let pixels = rows[at..].iter().step_by(stride);
        *sum = weights.iter().zip(pixels).map(|(&weight, &pixel)| weight * f32::from(pixel)).sum();
    }
}

/// For some output positions of one axis, the input positions each is the weighted mean of.
struct Filter {
    spans: Vec<Range<usize>>,
    /// The weights of all spans, one after the other; a span's begin at `taps` times its index.
    weights: Vec<f32>,
    taps: usize,
}

impl Filter {
    fn new(input: usize, output: usize, positions: Range<usize>) -> Self {
        let scale = input as f64 / output as f64;
        let radius = scale.max(1.0);
        let taps = (2.0 * radius).ceil() as usize + 1;
        let mut weights = vec![0.0; taps * positions.len()];
        let mut spans = Vec::with_capacity(positions.len());
        for (position, weights) in positions.zip(weights.chunks_exact_mut(taps)) {
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

    /// Each position's input positions and their weights.
    fn iter(&self) -> impl Iterator<Item = (&Range<usize>, &[f32])> {
        let weights = self.weights.chunks_exact(self.taps);
        self.spans.iter().zip(weights).map(|(span, weights)| (span, &weights[..span.len()]))
    }

    /// From the first to the last input position that is needed.
    fn reach(&self) -> Range<usize> {
        let start = self.spans.iter().map(|span| span.start).min().unwrap_or(0);
        start..self.spans.iter().map(|span| span.end).max().unwrap_or(start)
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
    fn a_window_is_cut_out_of_the_whole() {
        for channels in [1, 3] {
            let image = image(23, 31, channels);
            for (height, width) in [(11, 13), (40, 45), (23, 31)] {
                let whole = resize(&image, height, width).unwrap();
                for (rows, columns) in [(0..1, 0..1), (3..11, 2..13), (10..11, 5..6)] {
                    let window =
                        resize_window(&image, (height, width), (rows.clone(), columns.clone()));
                    let expected: Vec<u8> = rows
                        .flat_map(|y| {
                            let start = (y * width + columns.start) * channels;
                            whole.data[start..start + columns.len() * channels].to_vec()
                        })
                        .collect();
                    assert_eq!(window.unwrap().data, expected);
                }
            }
        }
        let image = image(5, 7, 1);
        assert!(resize_window(&image, (3, 3), (0..4, 0..3)).is_err());
        assert!(resize_window(&image, (3, 3), (0..3, 2..2)).is_err());
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
