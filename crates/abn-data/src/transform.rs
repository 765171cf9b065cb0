//! From a stored image to a network's input: fit, crop, flip, normalise.

use std::borrow::Cow;

use crate::dataset::{Image, Normalisation};
use crate::error::{Error, Result};
use crate::resize::resize;
use crate::rng::Stream;

/// Channels of a network's input.
pub(crate) const CHANNELS: usize = 3;
/// Zero padding on each side for the random crop of small images.
const CROP_PADDING: usize = 4;
/// From this size on images are treated as photographs.
const PHOTO_SIZE: usize = 128;

/// How an image is brought to the size that crops are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Zeros on all sides. For datasets of one size: 28×28 becomes 32×32 without new pixels.
    Pad,
    /// Resizing to a square, bilinear (smoothed where it shrinks), whatever the aspect ratio.
    Resize,
}

/// The steps from an 8-bit image to a normalised one, three channels, channels first.
///
/// 1. The image is fitted to `fitted_size` × `fitted_size`.
/// 2. A window of `image_size` × `image_size` is cut out of it, after zero-padding it by
///    `padding` on each side: in the centre, or anywhere if augmenting.
/// 3. If augmenting, it is mirrored half of the time.
/// 4. One channel is repeated to three; a pixel p becomes (p / 255 − mean) / std of its channel.
///
/// Padding is black (0 before normalisation), as in torchvision's `RandomCrop` before `Normalize`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// How an image comes to `fitted_size`.
    pub fit: Fit,
    /// Side of the square that the window is cut from.
    pub fitted_size: usize,
    /// Zeros around that square.
    pub padding: usize,
    /// Side of the window: the network's input.
    pub image_size: usize,
    /// How pixels are normalised.
    pub stats: Normalisation,
}

impl Transform {
    /// The customary steps for a network of this input size.
    ///
    /// Below 128 CIFAR's: fitted to `image_size`, 4 pixels of padding, random crop, flip.
    /// From 128 on ImageNet's: resized to 8/7 of `image_size` (256 for 224), random crop, flip.
    pub fn standard(fit: Fit, image_size: usize, stats: Normalisation) -> Self {
        let (fit, fitted_size, padding) = if image_size < PHOTO_SIZE {
            (fit, image_size, CROP_PADDING)
        } else {
            (Fit::Resize, image_size * 8 / 7, 0)
        };
        Self { fit, fitted_size, padding, image_size, stats }
    }

    /// Number of floats in an image, 3 · `image_size`².
    pub fn output_len(&self) -> usize {
        CHANNELS * self.image_size * self.image_size
    }

    /// Writes the image's (3, H, W) floats to `output`, augmented if there is a stream for it.
    ///
    /// # Errors
    /// If the image has neither 1 nor 3 channels, does not have the bytes its size asks for, is
    /// larger than what it should be padded to, or `output` is not [`output_len`](Self::output_len) long.
    pub fn apply(&self, image: &Image, augment: Option<Stream>, output: &mut [f32]) -> Result<()> {
        self.check(image, output)?;
        let square = self.fitted(image)?;
        let slack = self.slack()?;
        let (top, left, mirror) = match augment {
            None => (slack / 2, slack / 2, false),
            Some(mut stream) => {
                let bound = u32::try_from(slack + 1).unwrap_or(u32::MAX);
                let (top, left) = (stream.below(bound), stream.below(bound));
                (top as usize, left as usize, stream.coin())
            }
        };
        // Where the fitted image's first pixel lies in the window: negative if it is cut off.
        let border = self.padding as isize + ((self.fitted_size - square.width) / 2) as isize;
        let corner = (border - top as isize, border - left as isize);
        self.write_window(&square, corner, mirror, output);
        Ok(())
    }

    /// How far the window can move.
    fn slack(&self) -> Result<usize> {
        (self.fitted_size + 2 * self.padding).checked_sub(self.image_size).ok_or_else(|| {
            Error::Config(format!(
                "a window of {} does not fit images of {} padded by {}",
                self.image_size, self.fitted_size, self.padding
            ))
        })
    }

    fn check(&self, image: &Image, output: &[f32]) -> Result<()> {
        let Image { width, height, channels, ref data } = *image;
        let reason = if !matches!(channels, 1 | CHANNELS) {
            format!("expected an image of 1 or 3 channels, found {channels}")
        } else if data.len() != width * height * channels || data.is_empty() {
            format!("an image of {height}×{width}×{channels} with {} bytes", data.len())
        } else if output.len() != self.output_len() {
            format!("expected room for {} floats, found {}", self.output_len(), output.len())
        } else {
            return Ok(());
        };
        Err(Error::Config(reason))
    }

    /// The image as a square of at most `fitted_size`; what is missing is padding.
    fn fitted<'a>(&self, image: &'a Image) -> Result<Cow<'a, Image>> {
        let side = self.fitted_size;
        let (width, height) = (image.width, image.height);
        if (width, height) == (side, side) {
            return Ok(Cow::Borrowed(image));
        }
        match self.fit {
            Fit::Resize => Ok(Cow::Owned(resize(image, side, side)?)),
            Fit::Pad if width == height && width < side && (side - width).is_multiple_of(2) => {
                Ok(Cow::Borrowed(image))
            }
            Fit::Pad => Err(Error::Config(format!(
                "an image of {height}×{width} cannot be zero-padded evenly to {side}×{side}"
            ))),
        }
    }

    /// Copies what is visible of a square image, whose first pixel is at `corner` (row, column)
    /// of the window, and fills the rest with normalised black.
    fn write_window(
        &self,
        square: &Image,
        corner: (isize, isize),
        mirror: bool,
        output: &mut [f32],
    ) {
        let (size, side) = (self.image_size, square.width);
        let visible = |corner: isize| {
            let first = corner.clamp(0, size as isize) as usize;
            let last = (corner + side as isize).clamp(0, size as isize) as usize;
            first..last
        };
        let (rows, columns) = (visible(corner.0), visible(corner.1));
        let first = |at: usize, corner: isize| (at as isize - corner) as usize;
        for (channel, plane) in output.chunks_exact_mut(size * size).enumerate() {
            // (p / 255 − mean) / std as one multiplication and one addition.
            let (mean, std) = (self.stats.mean[channel], self.stats.std[channel]);
            let (scale, offset) = (1.0 / (255.0 * std), -mean / std);
            let source_channel = if square.channels == 1 { 0 } else { channel };
            for (y, row) in plane.chunks_exact_mut(size).enumerate() {
                if !rows.contains(&y) || columns.is_empty() {
                    row.fill(offset);
                    continue;
                }
                let start = first(y, corner.0) * side + first(columns.start, corner.1);
                let pixels = &square.data[start * square.channels + source_channel..];
                row[..columns.start].fill(offset);
                row[columns.end..].fill(offset);
                let visible = &mut row[columns.clone()];
                if square.channels == 1 {
                    for (value, &pixel) in visible.iter_mut().zip(pixels) {
                        *value = f32::from(pixel) * scale + offset;
                    }
                } else {
                    for (value, &pixel) in visible.iter_mut().zip(pixels.iter().step_by(CHANNELS)) {
                        *value = f32::from(pixel) * scale + offset;
                    }
                }
                if mirror {
                    row.reverse();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
