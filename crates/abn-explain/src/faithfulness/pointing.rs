//! The pointing game.

use candle_core::{DType, Tensor};

use super::order;
use crate::{Result, resize};

/// A box of pixels; right and bottom are the first outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Column after the last.
    pub right: usize,
    /// Row after the last.
    pub bottom: usize,
}

impl Region {
    /// Whether the pixel (column, row) lies in it.
    pub fn contains(&self, (x, y): (usize, usize)) -> bool {
        (self.left..self.right).contains(&x) && (self.top..self.bottom).contains(&y)
    }

    /// The box with a margin on each side: Zhang et al. allow 15 pixels in photographs.
    #[must_use]
    pub fn with_margin(self, pixels: usize) -> Self {
        Self {
            left: self.left.saturating_sub(pixels),
            top: self.top.saturating_sub(pixels),
            right: self.right.saturating_add(pixels),
            bottom: self.bottom.saturating_add(pixels),
        }
    }

    /// How often a random point of an image lies in it.
    pub fn chance(&self, height: usize, width: usize) -> f64 {
        let side = |from: usize, to: usize, size: usize| to.min(size).saturating_sub(from);
        let area = side(self.left, self.right, width) * side(self.top, self.bottom, height);
        area as f64 / (height * width).max(1) as f64
    }
}

/// The highest point (column, row) of each map (N, h, w), once enlarged to `height` × `width`. Of
/// equals one at random, always the same.
///
/// # Errors
/// If the maps do not have three dimensions or a size is 0.
pub fn peaks(maps: &Tensor, height: usize, width: usize) -> Result<Vec<(usize, usize)>> {
    let maps = resize::bilinear(&maps.to_dtype(DType::F32)?, height, width)?;
    let ties = order::ties(height * width);
    let peak = |map: Vec<f32>| {
        let highest = order::descending(&map, &ties)[0] as usize;
        (highest % width, highest / width)
    };
    Ok(maps.flatten_from(1)?.to_vec2::<f32>()?.into_iter().map(peak).collect())
}
