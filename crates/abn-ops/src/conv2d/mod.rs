//! 2-D convolution.

use candle_core::Shape;

use crate::host::Element;
use crate::weighted::{self, Weighted};
use crate::{Result, Tracked};

mod correlate;
pub(crate) mod cpu;
mod geometry;
mod lower;
mod pack;
#[cfg(test)]
mod reference;
#[cfg(test)]
pub(crate) mod tests;
mod weight_gradient;
mod winograd;

pub(crate) use geometry::Geometry;

const OP: &str = "conv2d";

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step of the kernel over the input, in pixels, both directions.
    pub stride: usize,
    /// Zeros added on every side of the input, in pixels.
    pub padding: usize,
    /// Distance of neighbouring kernel taps, in pixels.
    pub dilation: usize,
    /// Number of groups: output channels of a group see the input channels of that group only.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    /// Stride 1, no padding, no dilation, one group.
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// Convolution (cross-correlation, as in every deep learning library) over channels-last images.
///
/// `y[n,i,j,o] = bias[o] + Σ x[n, i·stride − padding + u·dilation, j·stride − padding + v·dilation, c] · weight[o,c,u,v]`,
/// the sum over kernel taps `(u, v)` and the channels `c` of `o`'s group. The same as PyTorch's
/// `torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)` but for the
/// position of the channels.
///
/// # Shapes
/// `x` (N, H, W, C_in), `weight` (C_out, C_in / groups, KH, KW), `bias` (C_out), result
/// (N, H_out, W_out, C_out) with `H_out = (H + 2·padding − dilation·(KH − 1) − 1) / stride + 1`.
///
/// # Errors
/// If shapes do not fit each other, `groups` does not divide both channel counts, the kernel does
/// not fit the padded input, or a setting is zero.
pub fn conv2d(
    x: &Tracked,
    weight: &Tracked,
    bias: Option<&Tracked>,
    cfg: &Conv2dConfig,
) -> Result<Tracked> {
    let geo = Geometry::new(OP, x.dims(), weight.dims(), bias.map(Tracked::dims), cfg)?;
    weighted::apply(geo, x, weight, bias)
}

impl Weighted for Geometry {
    const OP: &'static str = OP;

    fn input_shape(&self) -> Shape {
        self.input_shape().as_slice().into()
    }

    fn weight_shape(&self) -> Shape {
        self.weight_shape().as_slice().into()
    }

    fn output_shape(&self) -> Shape {
        self.output_shape().as_slice().into()
    }

    fn macs(&self) -> u64 {
        self.macs()
    }

    fn forward<T: Element>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        cpu::forward(self, x, weight, bias)
    }

    fn input_gradient<T: Element>(&self, weight: &[T], dy: &[T]) -> Vec<T> {
        cpu::input_gradient(self, weight, dy)
    }

    fn weight_gradient<T: Element>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        cpu::weight_gradient(self, x, dy)
    }

    fn bias_gradient<T: Element>(&self, dy: &[T]) -> Vec<T> {
        cpu::bias_gradient(self.co, dy)
    }
}
