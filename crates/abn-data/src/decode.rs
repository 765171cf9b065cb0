//! Image files to pixels.

use std::path::Path;

use image::{ImageReader, Limits};

use crate::dataset::Image;
use crate::error::{Error, Result};

/// What an image may take when decoded, whatever size its header claims: 89 megapixels.
const MAX_BYTES: u64 = 256 << 20;

/// Decodes a file to red, green and blue. The format is told by its bytes, not by its name.
///
/// # Errors
/// If the file cannot be read or decoded, or is larger than 256 MiB of pixels; the error names it.
pub fn read_image(path: &Path) -> Result<Image> {
    let reader = ImageReader::open(path).map_err(Error::io(path))?;
    let mut reader = reader.with_guessed_format().map_err(Error::io(path))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoded =
        reader.decode().map_err(|source| Error::Image { path: path.to_owned(), source })?;
    let decoded = decoded.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { width, height, channels: 3, data: decoded.into_raw() })
}

#[cfg(test)]
mod tests;
