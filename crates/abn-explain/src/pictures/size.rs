//! Pictures at a size that can be read.

use image::RgbImage;
use image::imageops::{FilterType, resize};

/// A picture with a longer side of at least `side` pixels: a smaller one is enlarged by a whole
/// factor, its pixels staying squares.
pub fn enlarged(picture: RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    match side.div_ceil(width.max(height).max(1)) {
        0 | 1 => picture,
        factor => resize(&picture, width * factor, height * factor, FilterType::Nearest),
    }
}

/// A picture whose longer side has `side` to twice as many pixels: [`enlarged`], or made smaller
/// with its proportions kept.
pub fn fitted(picture: RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (longer, most) = (width.max(height), side.max(1).saturating_mul(2));
    if longer <= most {
        return enlarged(picture, side);
    }
    let shrunk = |pixels: u32| {
        let scaled = u64::from(pixels) * u64::from(most) / u64::from(longer);
        u32::try_from(scaled).unwrap_or(most).max(1)
    };
    resize(&picture, shrunk(width), shrunk(height), FilterType::Triangle)
}
