//! From a stored image to a network's input: fit, crop, flip, normalise.

use crate::dataset::{Image, Normalisation};
use crate::error::{Error, Result};
use crate::resize::resize_window;
use crate::rng::Stream;
use crate::size::Size;

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
    /// Resizing, bilinear (smoothed where it shrinks), whatever the aspect ratio; for photographs, to
    /// 8/7 of the network's input, of which a window is cut out.
    Resize,
    /// Resizing likewise, and to the network's input itself, so that nothing is cut off.
    Whole,
    /// Resizing by one factor, which keeps the aspect ratio, so that the network's input is just
    /// covered; what is over on one axis is cut off.
    Cover,
}

/// How an image is laid into a network's input. Drawn apart from the pixels, so that whoever has the
/// pixels elsewhere can make the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What the image is resized to first, if it is.
    pub resize: Option<Size>,
    /// The row and column of the input at which the image's first pixel lies, below 0 if it is cut off.
    /// What the image leaves free is black.
    pub corner: (isize, isize),
    /// Whether the input is then mirrored, left to right.
    pub mirror: bool,
}

/// The steps from an 8-bit image to a normalised one, three channels, channels first.
///
/// 1. The image is fitted to `fitted_size`, or with [`Fit::Cover`] to the smallest size of its own
///    shape that covers it.
/// 2. A window of `image_size` is cut out of it, after zero-padding it by `padding` on each side: in
///    the centre, or anywhere if augmenting.
/// 3. If augmenting, it is mirrored half of the time.
/// 4. One channel is repeated to three; a pixel p becomes (p / 255 − mean) / std of its channel.
///
/// Padding is black (0 before normalisation), as in torchvision's `RandomCrop` before `Normalize`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// How an image comes to `fitted_size`.
    pub fit: Fit,
    /// What the window is cut from.
    pub fitted_size: Size,
    /// Zeros around that image.
    pub padding: usize,
    /// The window: the network's input.
    pub image_size: Size,
    /// How pixels are normalised.
    pub stats: Normalisation,
}

impl Transform {
    /// The customary steps for a network of this input size.
    ///
    /// If its shorter side is below 128, CIFAR's: fitted to `image_size`, 4 pixels of padding, random
    /// crop, flip. From 128 on ImageNet's: resized to 8/7 of `image_size` (256 for 224), random crop,
    /// flip; but [`Fit::Whole`] and [`Fit::Cover`] are fitted to `image_size`, without padding.
    pub fn standard(fit: Fit, image_size: impl Into<Size>, stats: Normalisation) -> Self {
        let image_size = image_size.into();
        let (fit, fitted_size, padding) = if image_size.shorter() < PHOTO_SIZE {
            (fit, image_size, CROP_PADDING)
        } else if matches!(fit, Fit::Whole | Fit::Cover) {
            (fit, image_size, 0)
        } else {
            let Size { height, width } = image_size;
            (Fit::Resize, Size { height: height * 8 / 7, width: width * 8 / 7 }, 0)
        };
        Self { fit, fitted_size, padding, image_size, stats }
    }

    /// Number of floats in an image, 3 · H · W.
    pub fn output_len(&self) -> usize {
        CHANNELS * self.image_size.height * self.image_size.width
    }

    /// Size of an image once it is fitted, before padding: what the window is cut from.
    pub fn fitted(&self, image: &Image) -> Size {
        self.fitted_to(Size { height: image.height, width: image.width })
    }

    fn fitted_to(&self, own: Size) -> Size {
        let Size { height, width } = self.fitted_size;
        let (rows, columns) = (own.height.max(1), own.width.max(1));
        // The longer of the two factors covers both axes; in whole numbers, rounded to the nearest.
        let scaled = |length: usize, to: usize, of: usize| (length * to + of / 2) / of;
        match self.fit {
            Fit::Pad | Fit::Resize | Fit::Whole => self.fitted_size,
            Fit::Cover if height * columns >= width * rows => {
                Size { height, width: scaled(columns, height, rows).max(width) }
            }
            Fit::Cover => Size { height: scaled(rows, width, columns).max(height), width },
        }
    }

    /// Writes the image's (3, H, W) floats to `output`, augmented if there is a stream for it.
    ///
    /// # Errors
    /// If the image has neither 1 nor 3 channels, does not have the bytes its size asks for, is
    /// larger than what it should be padded to, or `output` is not [`output_len`](Self::output_len) long.
    pub fn apply(&self, image: &Image, augment: Option<Stream>, output: &mut [f32]) -> Result<()> {
        self.check(image, output)?;
        let own = Size { height: image.height, width: image.width };
        let Placement { resize, corner, mirror } = self.place(own, augment)?;
        let Some(size) = resize else {
            self.write_window(image, corner, mirror, output);
            return Ok(());
        };
        // Only what the window shows of the fitted image is made.
        let shown = |corner: isize, size: usize, window: usize| {
            let range = |end: isize| end.clamp(0, size as isize) as usize;
            range(-corner)..range(window as isize - corner)
        };
        let window = self.image_size;
        let rows = shown(corner.0, size.height, window.height);
        let columns = shown(corner.1, size.width, window.width);
        if rows.is_empty() || columns.is_empty() {
            let nothing = Image { width: 0, height: 0, channels: CHANNELS, data: Vec::new() };
            self.write_window(&nothing, (0, 0), mirror, output);
            return Ok(());
        }
        let part = resize_window(image, (size.height, size.width), (rows, columns))?;
        self.write_window(&part, (corner.0.max(0), corner.1.max(0)), mirror, output);
        Ok(())
    }

    /// How [`apply`](Self::apply) lays an image of this size, with the same stream.
    ///
    /// # Errors
    /// If an image of this size cannot be padded as asked for, or the window is larger than what it
    /// is cut from.
    pub fn place(&self, own: Size, augment: Option<Stream>) -> Result<Placement> {
        let fitted = self.fitted_to(own);
        let slack = self.slack(fitted)?;
        let (top, left, mirror) = match augment {
            None => (slack.height / 2, slack.width / 2, false),
            Some(mut stream) => {
                let bound = |slack: usize| u32::try_from(slack + 1).unwrap_or(u32::MAX);
                let (top, left) =
                    (stream.below(bound(slack.height)), stream.below(bound(slack.width)));
                (top as usize, left as usize, stream.coin())
            }
        };
        let resize = self.is_resized(own, fitted)?.then_some(fitted);
        let size = resize.unwrap_or(own);
        // Where the fitted image's first pixel lies in the window.
        let border = |fitted: usize, own: usize| (self.padding + (fitted - own) / 2) as isize;
        let corner = (
            border(fitted.height, size.height) - top as isize,
            border(fitted.width, size.width) - left as isize,
        );
        Ok(Placement { resize, corner, mirror })
    }

    /// (p / 255 − mean) / std for every byte p, of a channel below 3.
    pub fn levels(&self, channel: usize) -> [f32; 256] {
        let (scale, offset) = self.scale_and_offset(channel);
        std::array::from_fn(|p| p as f32 * scale + offset)
    }

    fn scale_and_offset(&self, channel: usize) -> (f32, f32) {
        let (mean, std) = (self.stats.mean[channel], self.stats.std[channel]);
        (1.0 / (255.0 * std), -mean / std)
    }

    /// How far the window can move, down and across.
    fn slack(&self, fitted: Size) -> Result<Size> {
        let along = |fitted: usize, window: usize| {
            (fitted + 2 * self.padding).checked_sub(window).ok_or_else(|| {
                Error::Config(format!(
                    "a window of {} does not fit images of {fitted} padded by {}",
                    window, self.padding
                ))
            })
        };
        Ok(Size {
            height: along(fitted.height, self.image_size.height)?,
            width: along(fitted.width, self.image_size.width)?,
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

    /// Whether the image must be resized to `fitted`, rather than padded if need be.
    fn is_resized(&self, own: Size, fitted: Size) -> Result<bool> {
        let Size { height, width } = own;
        if (height, width) == (fitted.height, fitted.width) {
            return Ok(false);
        }
        let even = |side: usize, to: usize| side <= to && (to - side).is_multiple_of(2);
        match self.fit {
            Fit::Resize | Fit::Whole | Fit::Cover => Ok(true),
            Fit::Pad
                if width == height && even(height, fitted.height) && even(width, fitted.width) =>
            {
                Ok(false)
            }
            Fit::Pad => Err(Error::Config(format!(
                "an image of {height}×{width} cannot be zero-padded evenly to {fitted}"
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
        let Size { height, width } = self.image_size;
        let visible = |corner: isize, len: usize, window: usize| {
            let within = |end: isize| end.clamp(0, window as isize) as usize;
            within(corner)..within(corner + len as isize)
        };
        let rows = visible(corner.0, image.height, height);
        let columns = visible(corner.1, image.width, width);
        let first = |at: usize, corner: isize| (at as isize - corner) as usize;
        for (channel, plane) in output.chunks_exact_mut(height * width).enumerate() {
            // Looking a byte up is quicker than converting it.
            let (normalised, (_, offset)) = (self.levels(channel), self.scale_and_offset(channel));
            let channel = if image.channels == 1 { 0 } else { channel };
            for (y, row) in plane.chunks_exact_mut(width).enumerate() {
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
