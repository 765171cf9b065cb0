//! Attention maps as pictures.

use abn_data::Image;
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

use crate::{Error, Result};

/// Where a network looked: values in 0 to 1, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height · width` values.
    pub values: Vec<f32>,
    /// Side of what the map covers over the side of the image, both centred: above 1 if the image
    /// was padded to the network's input, below 1 if its border was cut off.
    pub reach: f32,
}

impl AttentionMap {
    /// Lowest and highest value.
    pub fn range(&self) -> (f32, f32) {
        let extend = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
        self.values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), extend)
    }

    /// The value at a point of the image, (0, 0) its top left corner and (1, 1) its bottom right:
    /// bilinear between the centres of the map's cells, as PyTorch's `interpolate` without
    /// `align_corners`. `None` where the network did not see the image.
    pub fn at(&self, x: f32, y: f32) -> Option<f32> {
        let place = |p: f32| 0.5 + (p - 0.5) / self.reach;
        let (u, v) = (place(x), place(y));
        let seen = (0.0..=1.0).contains(&u) && (0.0..=1.0).contains(&v);
        let (left, right, across) = between(u, self.width);
        let (top, bottom, down) = between(v, self.height);
        let value = |row: usize, column: usize| self.values[row * self.width + column];
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        seen.then(|| {
            let upper = mix(value(top, left), value(top, right), across);
            let lower = mix(value(bottom, left), value(bottom, right), across);
            mix(upper, lower, down)
        })
    }
}

/// The cells on both sides of a place in 0 to 1, and how far it is from the first to the second.
fn between(place: f32, cells: usize) -> (usize, usize, f32) {
    let last = cells.saturating_sub(1);
    let at = (place * cells as f32 - 0.5).clamp(0.0, last as f32);
    let first = at.floor() as usize;
    (first, (first + 1).min(last), at - first as f32)
}

/// The colour map "jet" at a value in 0 to 1: dark blue, blue, cyan, yellow, red, dark red.
pub fn colormap(value: f32) -> Rgb<u8> {
    let value = value.clamp(0.0, 1.0);
    // Each channel is a trapezium of height 1 around its own centre.
    let channel = |centre: f32| {
        let height = (1.5 - (4.0 * value - centre).abs()).clamp(0.0, 1.0);
        (255.0 * height).round() as u8
    };
    Rgb([channel(3.0), channel(2.0), channel(1.0)])
}

/// A dataset's image as a picture.
///
/// # Errors
/// If the image's bytes do not fit its size, or it has neither 1 nor 3 channels.
pub fn picture(image: &Image) -> Result<RgbImage> {
    let Image { width, height, channels, data } = image;
    let bytes = match channels {
        1 => data.iter().flat_map(|&grey| [grey; 3]).collect(),
        _ => data.clone(),
    };
    let size = u32::try_from(*width).ok().zip(u32::try_from(*height).ok());
    size.filter(|_| matches!(channels, 1 | 3) && data.len() == width * height * channels)
        .and_then(|(width, height)| RgbImage::from_raw(width, height, bytes))
        .ok_or_else(|| {
            let bytes = data.len();
            Error::Invalid(format!("an image of {width}×{height}×{channels} has {bytes} bytes"))
        })
}

/// A picture with a small side of at least `side` pixels: a smaller one is enlarged by a whole
/// factor, its pixels staying squares.
pub fn enlarged(picture: RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    match side.div_ceil(width.min(height).max(1)) {
        0 | 1 => picture,
        factor => resize(&picture, width * factor, height * factor, FilterType::Nearest),
    }
}

/// The map over the picture: jet colours, from the map's lowest value to its highest, half
/// transparent. A picture's border that the network did not see keeps its colours.
pub fn overlay(picture: &RgbImage, map: &AttentionMap) -> RgbImage {
    const ALPHA: f32 = 0.5;
    let (low, high) = map.range();
    // A flat map has no contrast to show: all of it is the lowest.
    let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
    let (width, height) = picture.dimensions();
    let centre = |pixel: u32, pixels: u32| (pixel as f32 + 0.5) / pixels as f32;
    let mut result = picture.clone();
    for (x, y, pixel) in result.enumerate_pixels_mut() {
        let Some(value) = map.at(centre(x, width), centre(y, height)) else { continue };
        let colour = colormap((value - low) * scale);
        for (below, above) in pixel.0.iter_mut().zip(colour.0) {
            let mixed = f32::from(*below) * (1.0 - ALPHA) + f32::from(above) * ALPHA;
            *below = mixed.round() as u8;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(width: usize, height: usize, values: &[f32], reach: f32) -> AttentionMap {
        AttentionMap { width, height, values: values.to_vec(), reach }
    }

    #[test]
    fn jet_goes_from_blue_to_red() {
        let expected = [
            (0.0, [0, 0, 128]),
            (0.125, [0, 0, 255]),
            (0.375, [0, 255, 255]),
            (0.5, [128, 255, 128]),
            (0.625, [255, 255, 0]),
            (0.875, [255, 0, 0]),
            (1.0, [128, 0, 0]),
            (7.0, [128, 0, 0]),
        ];
        for (value, colour) in expected {
            assert_eq!(colormap(value), Rgb(colour), "{value}");
        }
    }

    #[test]
    fn the_map_is_bilinear_between_the_centres_of_its_cells() {
        let map = map(2, 2, &[0.0, 1.0, 2.0, 3.0], 1.0);
        assert_eq!(map.at(0.25, 0.25), Some(0.0));
        assert_eq!(map.at(0.75, 0.75), Some(3.0));
        assert_eq!(map.at(0.5, 0.5), Some(1.5));
        assert_eq!(map.at(0.0, 0.0), Some(0.0), "beyond the centres the border's value holds");
    }

    #[test]
    fn padding_and_cropping_move_the_map() {
        // The image fills the middle half of a padded input: its corners are at 1/4 and 3/4.
        let padded = map(4, 1, &[0.0, 1.0, 2.0, 3.0], 2.0);
        assert_eq!(padded.at(0.25, 0.5), Some(1.0));
        assert_eq!(padded.at(0.75, 0.5), Some(2.0));
        let cropped = map(1, 1, &[1.0], 0.5);
        assert_eq!(cropped.at(0.2, 0.5), None);
        assert_eq!(cropped.at(0.3, 0.5), Some(1.0));
    }

    #[test]
    fn the_overlay_mixes_halves_and_leaves_what_was_not_seen() {
        let picture = RgbImage::from_pixel(4, 1, Rgb([100, 100, 100]));
        let map = map(2, 1, &[0.2, 0.6], 0.5);
        let result = overlay(&picture, &map);
        assert_eq!(*result.get_pixel(0, 0), Rgb([100, 100, 100]));
        assert_eq!(*result.get_pixel(1, 0), Rgb([50, 50, 114]));
        assert_eq!(*result.get_pixel(2, 0), Rgb([114, 50, 50]));
        assert_eq!(*result.get_pixel(3, 0), Rgb([100, 100, 100]));
    }

    #[test]
    fn small_pictures_become_readable_and_large_ones_stay() {
        let mut small = RgbImage::new(28, 30);
        small.put_pixel(1, 0, Rgb([9, 9, 9]));
        let large = enlarged(small, 256);
        assert_eq!(large.dimensions(), (280, 300));
        assert_eq!(*large.get_pixel(19, 9), Rgb([9, 9, 9]));
        assert_eq!(*large.get_pixel(20, 9), Rgb([0, 0, 0]));
        assert_eq!(enlarged(RgbImage::new(300, 500), 256).dimensions(), (300, 500));
    }

    #[test]
    fn a_wrong_number_of_bytes_is_an_error() {
        let image = Image { width: 2, height: 2, channels: 3, data: vec![0; 11] };
        assert!(picture(&image).is_err());
    }
}
