//! A map and where it lies on an image.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// How far what a network saw reaches over an image, both centred: the ratio of their sides. 1 if it
/// saw just the image, above 1 if the image was padded to the network's input, below 1 if its border
/// was cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Across.
    pub width: f32,
    /// Down.
    pub height: f32,
}

impl From<f32> for Reach {
    /// As far across as down.
    fn from(reach: f32) -> Self {
        Self { width: reach, height: reach }
    }
}

impl Reach {
    /// The first of both that cannot be.
    pub(super) fn impossible(&self) -> Option<f32> {
        [self.width, self.height].into_iter().find(|reach| !(*reach > 0.0 && reach.is_finite()))
    }
}

/// A value for each cell of a grid over an image, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    width: usize,
    height: usize,
    values: Vec<f32>,
    reach: Reach,
}

impl Heatmap {
    /// A map of `width` × `height` cells.
    ///
    /// `reach` tells how far it reaches over the image: 1 if it covers just that.
    ///
    /// # Errors
    /// [`Error::Heatmap`] if there are no cells, not one value for each, or `reach` is not above 0.
    pub fn new(
        width: usize,
        height: usize,
        values: Vec<f32>,
        reach: impl Into<Reach>,
    ) -> Result<Self> {
        let reach = reach.into();
        let cells = width.checked_mul(height).filter(|&cells| cells > 0);
        if cells != Some(values.len()) || reach.impossible().is_some() {
            let reach = reach.impossible().unwrap_or(reach.width);
            return Err(Error::Heatmap { width, height, values: values.len(), reach });
        }
        Ok(Self { width, height, values, reach })
    }

    /// The map (h, w), or (1, h, w), of one image; `reach` as in [`Heatmap::new`].
    ///
    /// # Errors
    /// If the tensor has another shape.
    pub fn from_tensor(map: &Tensor, reach: impl Into<Reach>) -> Result<Self> {
        let map = if map.rank() == 3 { map.squeeze(0)? } else { map.clone() };
        let (height, width) = map.dims2()?;
        let values = map.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Self::new(width, height, values, reach)
    }

    /// The map (1, h, w), as methods give them.
    ///
    /// # Errors
    /// An error of candle's own.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let shape = (1, self.height, self.width);
        Ok(Tensor::from_slice(&self.values, shape, &candle_core::Device::Cpu)?)
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `height · width` values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// How far the map reaches over the image.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Lowest and highest value; values that are no numbers do not count.
    pub fn range(&self) -> (f32, f32) {
        let extend = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
        self.values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), extend)
    }

    /// Whether all cells have the same value, so that there is nothing to see.
    pub fn is_flat(&self) -> bool {
        let (low, high) = self.range();
        low >= high
    }

    /// Where the centre of the highest cell lies, of equals the first: (0, 0) is the image's top
    /// left corner and (1, 1) its bottom right. Outside of these if it lies in the padding.
    pub fn peak(&self) -> (f32, f32) {
        let higher = |best: usize, i: usize| self.values[i] > self.values[best];
        let best = (1..self.values.len()).fold(0, |best, i| if higher(best, i) { i } else { best });
        self.centre(best % self.width, best / self.width)
    }

    /// Where the centre of a cell lies on the image.
    fn centre(&self, column: usize, row: usize) -> (f32, f32) {
        let place = |cell: usize, cells: usize, reach: f32| {
            0.5 + ((cell as f32 + 0.5) / cells as f32 - 0.5) * reach
        };
        (place(column, self.width, self.reach.width), place(row, self.height, self.reach.height))
    }

    /// The value at a point of the image, (0, 0) its top left corner and (1, 1) its bottom right:
    /// bilinear between the centres of the map's cells, as PyTorch's `interpolate` without
    /// `align_corners`. `None` where the network did not see the image.
    pub fn at(&self, x: f32, y: f32) -> Option<f32> {
        let place = |p: f32, reach: f32| 0.5 + (p - 0.5) / reach;
        let (u, v) = (place(x, self.reach.width), place(y, self.reach.height));
        let seen = (0.0..=1.0).contains(&u) && (0.0..=1.0).contains(&v);
        let (left, right, across) = between(u, self.width);
        let (top, bottom, down) = between(v, self.height);
        let value = |row: usize, column: usize| self.values[row * self.width + column];
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        seen.then(|| {
            let upper = mix(value(top, left), value(top, right), across);
            let lower = mix(value(bottom, left), value(bottom, right), across);
            mix(upper, lower, down)
        })
    }
}

/// The cells on both sides of a place in 0 to 1, and how far it is from the first to the second.
fn between(place: f32, cells: usize) -> (usize, usize, f32) {
    let last = cells.saturating_sub(1);
    let at = (place * cells as f32 - 0.5).clamp(0.0, last as f32);
    let first = at.floor() as usize;
    (first, (first + 1).min(last), at - first as f32)
}
