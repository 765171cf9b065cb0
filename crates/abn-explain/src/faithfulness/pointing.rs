//! The pointing game.

use std::fmt;

use candle_core::{DType, Tensor};

use super::{Mean, order};
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

/// How often the highest point lies in the object's box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hits {
    /// Share of the images; 0 of none.
    pub share: f64,
    /// Wilson's 95 % interval of it ([`Mean::share`]).
    pub interval: (f64, f64),
    /// Number of images.
    pub count: usize,
}

/// What a map marks, by the intervals of its hits and of those of a random map of its grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The object: its peak is there more often than the random map's.
    Object,
    /// The background: its peak is in the object less often than the random map's.
    Background,
    /// Neither can be told.
    Nothing,
}

impl Hits {
    /// Of these images.
    pub fn of(hits: &[bool]) -> Self {
        let (share, interval) = Mean::share(hits);
        Self { share: share.mean, interval, count: share.count }
    }

    /// What the map marks, beside a random map's hits on the same images.
    pub fn marks(&self, random: &Self) -> Marks {
        match (self.interval.0 > random.interval.1, self.interval.1 < random.interval.0) {
            (true, _) => Marks::Object,
            (_, true) => Marks::Background,
            _ => Marks::Nothing,
        }
    }
}

impl Marks {
    /// What it means, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Object => "the object",
            Self::Background => "the background (worse than random)",
            Self::Nothing => "nothing (not told from random)",
        }
    }
}

/// `object`, `background` or `nothing`.
impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Object => "object",
            Self::Background => "background",
            Self::Nothing => "nothing",
        })
    }
}
