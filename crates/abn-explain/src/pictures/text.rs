//! Words in pictures.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{
    FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width,
};

const SIZE: RasterHeight = RasterHeight::Size16;
/// Height of a line in pixels, with some air.
pub(super) const LINE: u32 = 20;

/// How thick letters are.
#[derive(Clone, Copy)]
pub(super) enum Weight {
    Regular,
    Bold,
}

impl Weight {
    fn font(self) -> FontWeight {
        match self {
            Self::Regular => FontWeight::Regular,
            Self::Bold => FontWeight::Bold,
        }
    }
}

/// How many letters fit into this many pixels.
pub(super) fn letters(pixels: u32) -> usize {
    // One width for both weights, so that a line can be cut before it is known to be bold.
    let width =
        get_raster_width(FontWeight::Bold, SIZE).max(get_raster_width(FontWeight::Regular, SIZE));
    pixels as usize / width.max(1)
}

/// The text with at most `room` letters, its end given up for two dots.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(2)).collect();
    kept + &".."[..room.min(2)]
}

/// Writes a line with its top left corner at (x, y). What lies outside the picture is left out.
pub(super) fn write(
    picture: &mut RgbImage,
    (x, y): (u32, u32),
    text: &str,
    weight: Weight,
    ink: Rgb<u8>,
) {
    let mut left = x;
    for letter in text.chars() {
        let glyph = glyph(letter, weight);
        for (row, pixels) in glyph.rows().enumerate() {
            for (column, &cover) in pixels.iter().enumerate() {
                let place = (left + column as u32, y + row as u32);
                let Some(pixel) = picture.get_pixel_mut_checked(place.0, place.1) else { continue };
                for (below, above) in pixel.0.iter_mut().zip(ink.0) {
                    let (a, b, share) = (u32::from(*below), u32::from(above), u32::from(cover));
                    *below = ((a * (255 - share) + b * share + 127) / 255) as u8;
                }
            }
        }
        left += glyph.width() as u32;
    }
}

/// The letter's shape; a question mark for a letter that the font lacks.
fn glyph(letter: char, weight: Weight) -> RasterizedChar {
    let raster = |letter| get_raster(letter, weight.font(), SIZE);
    raster(letter).or_else(|| raster('?')).expect("the font has ASCII")
}
