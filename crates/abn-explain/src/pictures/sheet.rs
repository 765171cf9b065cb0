//! Several panels in one picture, and pictures as bytes.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage, imageops};

use crate::Result;

/// Pixels between panels.
const GAP: u32 = 12;

/// The pictures on white, row by row with `columns` of them in each (0 counts as 1). A column is as
/// wide as its widest picture, a row as high as its highest. Without pictures, a white pixel.
pub fn sheet(pictures: &[RgbImage], columns: usize) -> RgbImage {
    grid(pictures, columns, GAP)
}

/// [`sheet`] with so many pixels between the pictures.
pub(super) fn grid(pictures: &[RgbImage], columns: usize, gap: u32) -> RgbImage {
    let columns = columns.clamp(1, pictures.len().max(1));
    let rows: Vec<_> = pictures.chunks(columns).collect();
    let widest =
        |column: usize| rows.iter().filter_map(move |row| row.get(column)).map(|p| p.width());
    let widths: Vec<u32> = (0..columns).map(|column| widest(column).max().unwrap_or(0)).collect();
    let heights: Vec<u32> =
        rows.iter().map(|row| row.iter().map(|p| p.height()).max().unwrap_or(0)).collect();
    let extent = |sides: &[u32]| {
        let gaps = gap * (sides.len() as u32).saturating_sub(1);
        (sides.iter().sum::<u32>() + gaps).max(1)
    };
    let mut sheet = RgbImage::from_pixel(extent(&widths), extent(&heights), Rgb([255; 3]));
    let mut top = 0;
    for (row, height) in rows.iter().zip(&heights) {
        let mut left = 0;
        for (picture, width) in row.iter().zip(&widths) {
            imageops::replace(&mut sheet, picture, i64::from(left), i64::from(top));
            left += width + gap;
        }
        top += height + gap;
    }
    sheet
}

/// The picture as the bytes of a PNG file.
///
/// # Errors
/// [`Error::Png`](crate::Error::Png) if the picture has no pixels.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}
