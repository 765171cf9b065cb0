//! Which inputs each window covers, along one axis and along both.

use std::ops::Range;

use candle_core::Shape;
use rayon::prelude::*;

use super::Pool2dConfig;
use crate::{Error, Result};

/// The windows over a feature map (N, H, W, C).
pub struct Windows {
    pub rows: Axis,
    pub columns: Axis,
    pub channels: usize,
    samples: usize,
}

impl Windows {
    /// Those of a configuration.
    pub fn sliding(op: &'static str, x: &[usize], config: &Pool2dConfig) -> Result<Self> {
        let &[samples, h, w, channels] = x else {
            return Err(Error::shape(op, "(N, H, W, C)", x));
        };
        let (rows, columns) = (Axis::sliding(op, h, config)?, Axis::sliding(op, w, config)?);
        Ok(Self { rows, columns, channels, samples })
    }

    /// So many that together cover the map, as even as can be.
    pub fn adaptive(op: &'static str, x: &[usize], size: [usize; 2]) -> Result<Self> {
        let &[samples, h, w, channels] = x else {
            return Err(Error::shape(op, "(N, H, W, C)", x));
        };
        if h == 0 || w == 0 {
            return Err(Error::shape(op, "a feature map with pixels", x));
        }
        if size.contains(&0) {
            return Err(Error::config(op, format!("an output of {size:?} has no pixels")));
        }
        let (rows, columns) = (Axis::adaptive(h, size[0]), Axis::adaptive(w, size[1]));
        Ok(Self { rows, columns, channels, samples })
    }

    pub fn input_shape(&self) -> Shape {
        (self.samples, self.rows.windows.len(), self.columns.windows.len(), self.channels).into()
    }

    pub fn output_shape(&self) -> Shape {
        (self.samples, self.rows.inputs.len(), self.columns.inputs.len(), self.channels).into()
    }

    /// Elements of a row of inputs.
    pub fn input_width(&self) -> usize {
        self.columns.windows.len() * self.channels
    }

    /// Elements of a row of windows.
    pub fn output_width(&self) -> usize {
        self.columns.inputs.len() * self.channels
    }

    /// `f(item, sample, row)` for each row of windows: `row` within its sample, whose inputs are the
    /// elements `sample`.
    pub fn each_output_row<I: Send>(
        &self,
        items: impl IndexedParallelIterator<Item = I>,
        f: impl Fn(I, Range<usize>, usize) + Sync + Send,
    ) {
        each_row(items, self.rows.inputs.len(), self.rows.windows.len() * self.input_width(), f);
    }

    /// `f(item, sample, row)` for each row of inputs: `row` within its sample, whose outputs are the
    /// elements `sample`.
    pub fn each_input_row<I: Send>(
        &self,
        items: impl IndexedParallelIterator<Item = I>,
        f: impl Fn(I, Range<usize>, usize) + Sync + Send,
    ) {
        each_row(items, self.rows.windows.len(), self.rows.inputs.len() * self.output_width(), f);
    }
}

/// `height` items belong to one sample, which has `sample` elements on the other side.
fn each_row<I: Send>(
    items: impl IndexedParallelIterator<Item = I>,
    height: usize,
    sample: usize,
    f: impl Fn(I, Range<usize>, usize) + Sync + Send,
) {
    items.enumerate().for_each(|(i, item)| {
        let start = i / height * sample;
        f(item, start..start + sample, i % height);
    });
}

/// The windows along one axis.
pub struct Axis {
    /// For each window, the inputs in it (padding left out).
    pub inputs: Vec<Range<usize>>,
    /// For each input, the windows over it.
    pub windows: Vec<Range<usize>>,
    /// For each window, what the sum is divided by to give the mean along this axis.
    pub divisors: Vec<usize>,
    /// The configuration, if there was one.
    #[cfg_attr(not(gpu), allow(dead_code))]
    pub sliding: Option<Pool2dConfig>,
}

/// Number of windows along an axis of `len` inputs. As PyTorch: a window that would reach beyond
/// the padding is left out.
fn count(op: &'static str, len: usize, config: &Pool2dConfig) -> Result<usize> {
    let &Pool2dConfig { kernel, stride, padding } = config;
    if kernel == 0 || stride == 0 {
        return Err(Error::config(op, "kernel and stride must be at least 1"));
    }
    if padding > kernel / 2 {
        let reason = format!("padding {padding} is above half the kernel, {kernel}");
        return Err(Error::config(op, reason));
    }
    match (len + 2 * padding).checked_sub(kernel) {
        Some(room) => Ok(room / stride + 1),
        None => Err(Error::config(
            op,
            format!("a kernel of {kernel} is larger than {len} pixels with padding {padding}"),
        )),
    }
}

impl Axis {
    /// The windows of a configuration.
    fn sliding(op: &'static str, len: usize, config: &Pool2dConfig) -> Result<Self> {
        let count = count(op, len, config)?;
        let &Pool2dConfig { kernel, stride, padding } = config;
        let first = |i: usize| (i + padding + 1).saturating_sub(kernel).div_ceil(stride);
        Ok(Self {
            inputs: (0..count)
                .map(|o| {
                    let start = o * stride;
                    start.saturating_sub(padding)..(start + kernel - padding).min(len)
                })
                .collect(),
            windows: (0..len)
                .map(|i| {
                    let end = ((i + padding) / stride + 1).min(count);
                    first(i).min(end)..end
                })
                .collect(),
            divisors: vec![kernel; count],
            sliding: Some(*config),
        })
    }

    /// `count` windows that together cover the axis, as even as can be (PyTorch's adaptive
    /// pooling).
    fn adaptive(len: usize, count: usize) -> Self {
        let inputs: Vec<_> =
            (0..count).map(|o| o * len / count..((o + 1) * len).div_ceil(count)).collect();
        Self {
            divisors: inputs.iter().map(Range::len).collect(),
            sliding: None,
            inputs,
            // The same formula the other way round: o is over i if i is in o's window.
            windows: (0..len).map(|i| i * count / len..((i + 1) * count).div_ceil(len)).collect(),
        }
    }
}
