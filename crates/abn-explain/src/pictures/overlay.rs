//! One map, drawn.

use image::RgbImage;
use rayon::prelude::*;

use super::{ColourMap, Heatmap};

/// How much of a pixel is the map's colour; the rest stays the image's.
pub const ALPHA: f32 = 0.5;

/// The map over the picture: colours from the map's lowest value to its highest, half transparent.
/// A picture's border that the network did not see keeps its colours; of a flat map, all is the
/// lowest.
pub fn overlay(picture: &RgbImage, map: &Heatmap, colours: ColourMap) -> RgbImage {
    let (low, high) = map.range();
    let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
    let mut result = picture.clone();
    for_each_pixel(&mut result, |x, y, pixel| {
        let Some(value) = map.at(x, y) else { return };
        let colour = colours.colour((value - low) * scale);
        for (below, above) in pixel.iter_mut().zip(colour.0) {
            let mixed = f32::from(*below) * (1.0 - ALPHA) + f32::from(above) * ALPHA;
            *below = mixed.round() as u8;
        }
    });
    result
}

/// Signed values of red, green and blue, such as a gradient with respect to the image, on a canvas
/// of this size (width, height): grey is 0, brighter more, darker less. What the network did not
/// see is grey.
///
/// The 99.5th percentile of the magnitudes is full: of gradients, a few pixels are far above all
/// others, and would leave the rest grey.
pub fn signed(channels: &[Heatmap; 3], (width, height): (u32, u32)) -> RgbImage {
    const GREY: f32 = 127.5;
    let full = percentile(channels, 0.995);
    let scale = if full > 0.0 { GREY / full } else { 0.0 };
    let mut result = RgbImage::new(width, height);
    for_each_pixel(&mut result, |x, y, pixel| {
        for (value, channel) in pixel.iter_mut().zip(channels) {
            let signed = channel.at(x, y).unwrap_or(0.0);
            *value = (GREY + signed * scale).round().clamp(0.0, 255.0) as u8;
        }
    });
    result
}

/// The magnitude below which this share of the values lies.
fn percentile(channels: &[Heatmap; 3], share: f64) -> f32 {
    let values = channels.iter().flat_map(|channel| channel.values());
    let mut magnitudes: Vec<f32> = values.map(|value| value.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let last = magnitudes.len().saturating_sub(1);
    let found = magnitudes.get((share * last as f64).round() as usize).copied().unwrap_or(0.0);
    // An image of which the network uses a few pixels only.
    if found > 0.0 { found } else { magnitudes.last().copied().unwrap_or(0.0) }
}

/// Every pixel with the place of its centre, (0, 0) the top left corner and (1, 1) the bottom right.
fn for_each_pixel(picture: &mut RgbImage, f: impl Fn(f32, f32, &mut [u8; 3]) + Sync) {
    let (width, height) = picture.dimensions();
    let centre = |pixel: usize, pixels: u32| (pixel as f32 + 0.5) / pixels as f32;
    // Photographs have millions of pixels.
    let rows = picture.par_chunks_exact_mut(3 * width.max(1) as usize).enumerate();
    rows.for_each(|(y, row)| {
        for (x, pixel) in row.as_chunks_mut().0.iter_mut().enumerate() {
            f(centre(x, width), centre(y, height), pixel);
        }
    });
}
