//! Image files to pixels.

use std::io::Cursor;
use std::path::Path;

use image::error::{DecodingError, ImageFormatHint, LimitError, LimitErrorKind};
use image::{ImageError, ImageFormat, ImageReader, Limits};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::dataset::Image;
use crate::error::{Error, Result};

/// What an image may take when decoded, whatever size its header claims: 89 megapixels.
const MAX_BYTES: usize = 256 << 20;

/// Decodes a file to red, green and blue. The format is told by its bytes, not by its name.
///
/// # Errors
/// If the file cannot be read or decoded, ends early, or is larger than 256 MiB of pixels; the
/// error names it.
pub fn read_image(path: &Path) -> Result<Image> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let decoded = if bytes.starts_with(&[0xff, 0xd8]) { jpeg(&bytes) } else { other(&bytes) };
    decoded.map_err(|source| Error::Image { path: path.to_owned(), source })
}

fn jpeg(bytes: &[u8]) -> std::result::Result<Image, ImageError> {
    let wrong = |reason: String| {
        let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
        ImageError::Decoding(DecodingError::new(format, reason))
    };
    if !is_whole(bytes) {
        return Err(wrong("a truncated file".to_owned()));
    }
    // Cameras write files that the standard would not have, so other rules are not enforced.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| wrong(format!("{error}")))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    if width * height * 3 > MAX_BYTES {
        return Err(ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)));
    }
    let data = decoder.decode().map_err(|error| wrong(format!("{error}")))?;
    if data.is_empty() || data.len() != width * height * 3 {
        return Err(wrong(format!("{} bytes for {width}×{height} pixels", data.len())));
    }
    Ok(Image { width, height, channels: 3, data })
}

/// Whether a JPEG file's data come to their end, which the decoder does not say: of what is
/// missing it makes grey. PIL refuses such files too.
fn is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut at = 2;
    // Segments, of which each begins with 0xff, a marker and a length, come before the first scan;
    // a preview in one of them has an end of its own.
    while let Some(&[first, marker, high, low]) = bytes.get(at..at + 4) {
        match (first, marker) {
            (0xff, SCAN) => return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, END]),
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0x02..=0xfe) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => at += 1,
        }
    }
    false
}

/// Any other format that the crate `image` was built with.
fn other(bytes: &[u8]) -> std::result::Result<Image, ImageError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES as u64);
    reader.limits(limits);
    let decoded = reader.decode()?.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { width, height, channels: 3, data: decoded.into_raw() })
}

#[cfg(test)]
mod tests;
