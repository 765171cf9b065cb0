//! A map that a person has drawn.

use image::GrayImage;
use image::imageops::{FilterType, resize};

use super::Heatmap;
use crate::Result;

/// The picture as a map of `width` × `height` cells with this `reach` (see [`Heatmap::new`]): white
/// is 1, look here; black is 0.
///
/// The picture covers the image, whatever its size. It is brought to the cells' size bilinearly,
/// smoothed where it shrinks; where the map reaches beyond the image, its border goes on.
///
/// # Errors
/// If the picture or the map has no cells, or `reach` is not above 0.
pub fn from_mask(mask: &GrayImage, (width, height): (usize, usize), reach: f32) -> Result<Heatmap> {
    // An empty map, to refuse what cannot be before its size is computed with.
    let blank = Heatmap::new(width, height, vec![0.0; width.saturating_mul(height)], reach)?;
    let cells = |cells: usize| (cells as f32 / reach).round().clamp(1.0, 65_536.0) as u32;
    let small = resize(mask, cells(width), cells(height), FilterType::Triangle);
    let values = small.pixels().map(|pixel| f32::from(pixel.0[0]) / 255.0).collect();
    let small = Heatmap::new(small.width() as usize, small.height() as usize, values, 1.0)?;
    let mut values = Vec::with_capacity(width * height);
    for row in 0..height {
        for column in 0..width {
            let (x, y) = blank.centre(column, row);
            let value = small.at(x.clamp(0.0, 1.0), y.clamp(0.0, 1.0));
            values.push(value.unwrap_or_default());
        }
    }
    Heatmap::new(width, height, values, reach)
}
