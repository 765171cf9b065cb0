//! Which inputs each window covers, along one axis.

use std::ops::Range;

use super::Pool2dConfig;
use crate::{Error, Result};

/// The windows along one axis.
pub struct Axis {
    /// For each window, the inputs in it (padding left out).
    pub inputs: Vec<Range<usize>>,
    /// For each input, the windows over it.
    pub windows: Vec<Range<usize>>,
    /// For each window, what the sum is divided by to give the mean along this axis.
    pub divisors: Vec<usize>,
}

/// Number of windows along an axis of `len` inputs. As PyTorch: a window that would reach beyond
/// the padding is left out.
pub fn count(op: &'static str, len: usize, config: &Pool2dConfig) -> Result<usize> {
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
    /// The windows of a [`Pool2dConfig`] that passed [`count`].
    pub fn sliding(len: usize, config: &Pool2dConfig) -> Self {
        let &Pool2dConfig { kernel, stride, padding } = config;
        let count = (len + 2 * padding - kernel) / stride + 1;
        let first = |i: usize| (i + padding + 1).saturating_sub(kernel).div_ceil(stride);
        Self {
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
        }
    }

    /// `count` windows that together cover the axis, as even as can be (PyTorch's adaptive
    /// pooling).
    pub fn adaptive(len: usize, count: usize) -> Self {
        let inputs: Vec<_> =
            (0..count).map(|o| o * len / count..((o + 1) * len).div_ceil(count)).collect();
        Self {
            divisors: inputs.iter().map(Range::len).collect(),
            inputs,
            // The same formula the other way round: o is over i if i is in o's window.
            windows: (0..len).map(|i| i * count / len..((i + 1) * count).div_ceil(len)).collect(),
        }
    }
}
