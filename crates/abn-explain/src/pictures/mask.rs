//! A map that a person has drawn.

use image::GrayImage;

use super::{Heatmap, Reach};
use crate::{Error, Result};

/// The picture as a map of `width` × `height` cells with this `reach` (see [`Heatmap::new`]): white
/// is 1, look here; black is 0.
///
/// The picture covers the image, whatever its size. A cell is bilinear between the picture's pixels,
/// or where these are smaller than cells, their mean over two cells, nearer ones counting more. Where
/// the map reaches beyond the image, its border goes on.
///
/// # Errors
/// [`Error::Heatmap`] if the picture or the map has no cells, or `reach` is not above 0.
pub fn from_mask(
    mask: &GrayImage,
    (width, height): (usize, usize),
    reach: impl Into<Reach>,
) -> Result<Heatmap> {
    let reach = reach.into();
    let (columns, rows) = (mask.width() as usize, mask.height() as usize);
    if columns == 0 || rows == 0 || reach.impossible().is_some() {
        let reach = reach.impossible().unwrap_or(reach.width);
        return Err(Error::Heatmap { width, height, values: mask.len(), reach });
    }
    let pixels = mask.as_raw().as_slice();
    let across: Vec<_> =
        (0..width).map(|cell| weights(columns, cell, width, reach.width)).collect();
    let mut values = Vec::with_capacity(width.saturating_mul(height));
    for cell in 0..height {
        // Down first: what a row of cells sees of each column.
        let mut line = vec![0f64; columns];
        for (row, weight) in weights(rows, cell, height, reach.height) {
            for (sum, &pixel) in line.iter_mut().zip(&pixels[row * columns..]) {
                *sum += weight * f64::from(pixel) / 255.0;
            }
        }
        for weights in &across {
            let value: f64 = weights.iter().map(|(column, weight)| weight * line[*column]).sum();
            values.push(value as f32);
        }
    }
    Heatmap::new(width, height, values, reach)
}

/// The pixels along an axis that a cell sees, with weights that add up to 1: a triangle around the
/// cell's centre, as wide as two cells or two pixels, whichever is more.
fn weights(pixels: usize, cell: usize, cells: usize, reach: f32) -> Vec<(usize, f64)> {
    let size = pixels as f64;
    let extent = f64::from(reach) * size / cells as f64;
    let centre = 0.5 * size + (cell as f64 + 0.5 - 0.5 * cells as f64) * extent;
    let half = extent.max(1.0);
    let first = (centre - half).clamp(0.0, size) as usize;
    let last = ((centre + half).clamp(0.0, size).ceil() as usize).min(pixels);
    let weight = |pixel: usize| 1.0 - (pixel as f64 + 0.5 - centre).abs() / half;
    let seen = (first..last).map(|pixel| (pixel, weight(pixel)));
    let mut seen: Vec<_> = seen.filter(|(_, weight)| *weight > 0.0).collect();
    if seen.is_empty() {
        // Beyond the image: its border.
        return vec![(if centre < 0.0 { 0 } else { pixels - 1 }, 1.0)];
    }
    let sum: f64 = seen.iter().map(|(_, weight)| weight).sum();
    seen.iter_mut().for_each(|(_, weight)| *weight /= sum);
    seen
}
