//! From a stored image to a network's input: fit, crop, flip, normalise.

use crate::dataset::{Image, Normalisation};
use crate::error::{Error, Result};
use crate::resize::resize_window;
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
    /// Zeros around that image.
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
        let slack = self.slack()?;
        let (top, left, mirror) = match augment {
            None => (slack / 2, slack / 2, false),
            Some(mut stream) => {
                let bound = u32::try_from(slack + 1).unwrap_or(u32::MAX);
                let (top, left) = (stream.below(bound), stream.below(bound));
                (top as usize, left as usize, stream.coin())
            }
        };
        let resized = self.is_resized(image)?;
        let side = if resized { self.fitted_size } else { image.width };
        // Where the fitted image's first pixel lies in the window: negative if it is cut off.
        let border = self.padding as isize + ((self.fitted_size - side) / 2) as isize;
        let corner = (border - top as isize, border - left as isize);
        if !resized {
            self.write_window(image, corner, mirror, output);
            return Ok(());
        }
        // Only what the window shows of the fitted image is made.
        let shown = |corner: isize| {
            let range = |end: isize| end.clamp(0, side as isize) as usize;
            range(-corner)..range(self.image_size as isize - corner)
        };
        let (rows, columns) = (shown(corner.0), shown(corner.1));
        if rows.is_empty() || columns.is_empty() {
            let nothing = Image { width: 0, height: 0, channels: CHANNELS, data: Vec::new() };
            self.write_window(&nothing, (0, 0), mirror, output);
            return Ok(());
        }
        let part = resize_window(image, (side, side), (rows, columns))?;
        self.write_window(&part, (corner.0.max(0), corner.1.max(0)), mirror, output);
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

    /// Whether the image must be resized to `fitted_size`, rather than padded if need be.
    fn is_resized(&self, image: &Image) -> Result<bool> {
        let side = self.fitted_size;
        let (width, height) = (image.width, image.height);
        if (width, height) == (side, side) {
            return Ok(false);
        }
        match self.fit {
            Fit::Resize => Ok(true),
            Fit::Pad if width == height && width < side && (side - width).is_multiple_of(2) => {
                Ok(false)
            }
            Fit::Pad => Err(Error::Config(format!(
                "an image of {height}×{width} cannot be zero-padded evenly to {side}×{side}"
            ))),
        }
    }

    /// Copies what is visible of an image, whose first pixel is at `corner` (row, column) of the
    /// window, and fills the rest with normalised black.
    fn write_window(
        &self,
        image: &Image,
        corner: (isize, isize),
        mirror: bool,
        output: &mut [f32],
    ) {
        let size = self.image_size;
        let visible = |corner: isize, len: usize| {
            let first = corner.clamp(0, size as isize) as usize;
            let last = (corner + len as isize).clamp(0, size as isize) as usize;
            first..last
        };
        let (rows, columns) = (visible(corner.0, image.height), visible(corner.1, image.width));
        let first = |at: usize, corner: isize| (at as isize - corner) as usize;
        for (channel, plane) in output.chunks_exact_mut(size * size).enumerate() {
            // (p / 255 − mean) / std of every p: looking it up is quicker than converting.
            let (mean, std) = (self.stats.mean[channel], self.stats.std[channel]);
            let (scale, offset) = (1.0 / (255.0 * std), -mean / std);
            let normalised: [f32; 256] = std::array::from_fn(|p| p as f32 * scale + offset);
            let channel = if image.channels == 1 { 0 } else { channel };
            for (y, row) in plane.chunks_exact_mut(size).enumerate() {
                if !rows.contains(&y) || columns.is_empty() {
                    row.fill(offset);
                    continue;
                }
                let start = first(y, corner.0) * image.width + first(columns.start, corner.1);
                let pixels = &image.data[start * image.channels..];
                row[..columns.start].fill(offset);
                row[columns.end..].fill(offset);
                let visible = &mut row[columns.clone()];
                if image.channels == 1 {
                    for (value, &pixel) in visible.iter_mut().zip(pixels) {
                        *value = normalised[usize::from(pixel)];
                    }
                } else {
                    for (value, pixel) in visible.iter_mut().zip(pixels.as_chunks::<CHANNELS>().0) {
                        *value = normalised[usize::from(pixel[channel])];
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
