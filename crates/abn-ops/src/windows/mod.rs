//! Batches of small images, cut out of a data set that lies on the device.

#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{CpuStorage, DType, Storage, Tensor};
use rayon::prelude::*;

use crate::host::{host, on_gpu, update};
use crate::{Error, Result};

const OP: &str = "cut_windows";
/// Channels of a network's input.
const CHANNELS: usize = 3;

/// Where a window lies in one of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which image.
    pub image: u32,
    /// The row and column of the window at which the image's first pixel lies, below 0 if it is cut off.
    pub corner: (i32, i32),
    /// Whether the window is then mirrored, left to right.
    pub mirror: bool,
}

impl Window {
    /// Numbers that a window is told in.
    pub const WORDS: usize = 4;

    /// The window as [`cut_windows`] takes it.
    pub fn words(self) -> [u32; Self::WORDS] {
        let (row, column) = self.corner;
        [self.image, row.cast_unsigned(), column.cast_unsigned(), self.mirror.into()]
    }
}

/// Cuts a window out of an image for each entry of `windows`, mirrors it if that says so, and looks
/// each byte up in its channel's `levels`. What the image leaves free is black: the level of byte 0.
/// One channel serves for all three.
///
/// This is a random crop with padding, flip and normalisation, in one pass, whose random numbers
/// someone else has drawn. No arithmetic is done, so the GPU gives the very bits of the CPU.
///
/// # Shapes
/// `images` (M, R, C, 1 or 3), u8; `windows` (N, 4), u32, from [`Window::words`]; `levels` (3, 256), f32; to
/// `output` (N, 3, H, W), f32. All contiguous, on one device.
///
/// # Errors
/// On other shapes or types, and on the CPU if a window is of no image; on a GPU, such a window's
/// numbers are NaN.
pub fn cut_windows(
    images: &Tensor,
    windows: &Tensor,
    levels: &Tensor,
    output: &Tensor,
) -> Result<()> {
    let &[count, rows, columns, channels] = images.dims() else {
        return Err(Error::shape(OP, "images (M, R, C, 1 or 3)", images.dims()));
    };
    let &[n, CHANNELS, height, width] = output.dims() else {
        return Err(Error::shape(OP, "an output (N, 3, H, W)", output.dims()));
    };
    if !matches!(channels, 1 | CHANNELS) {
        return Err(Error::shape(OP, "images (M, R, C, 1 or 3)", images.dims()));
    }
    if windows.dims() != [n, Window::WORDS] {
        return Err(Error::shape(OP, format!("{n} windows of 4 numbers"), windows.dims()));
    }
    if levels.dims() != [CHANNELS, 256] {
        return Err(Error::shape(OP, "levels (3, 256)", levels.dims()));
    }
    for (tensor, dtype) in [(images, DType::U8), (windows, DType::U32), (output, DType::F32)] {
        if tensor.dtype() != dtype {
            let what = format!("{:?} where {dtype:?} is expected", tensor.dtype());
            return Err(Error::Unsupported { op: OP, what });
        }
    }
    on_gpu!(output => cuda::cut(images, windows, levels, output));
    let windows = windows.to_vec2::<u32>()?;
    if let Some(window) = windows.iter().find(|window| window[0] as usize >= count) {
        return Err(Error::config(OP, format!("image {} of {count}", window[0])));
    }
    let (storage, layout) = images.storage_and_layout();
    let (Storage::Cpu(CpuStorage::U8(bytes)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        return Err(Error::Unsupported { op: OP, what: format!("{:?}", images.device()) });
    };
    let (bytes, levels) = (&bytes[start..end], host::<f32>(OP, levels)?);
    let levels = &*levels;
    update::<f32>(OP, output, |output| {
        let image = CHANNELS * height * width;
        output.par_chunks_exact_mut(image.max(1)).zip(&windows).for_each(|(output, window)| {
            let &[image, top, left, mirror] = window.as_slice() else { return };
            let [top, left] = [top, left].map(|at| i64::from(at.cast_signed()));
            for (i, value) in output.iter_mut().enumerate() {
                let (channel, y, x) = (i / (height * width), i / width % height, i % width);
                let x = if mirror != 0 { width - 1 - x } else { x };
                let (row, column) = (y as i64 - top, x as i64 - left);
                let inside =
                    (0..rows as i64).contains(&row) && (0..columns as i64).contains(&column);
                let byte = if inside {
                    let pixel = (image as usize * rows + row as usize) * columns + column as usize;
                    bytes[pixel * channels + channel % channels]
                } else {
                    0
                };
                *value = levels[channel * 256 + usize::from(byte)];
            }
        });
    })
}
