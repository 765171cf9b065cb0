//! 2-D convolution.

use candle_core::Shape;

use crate::host::{Element, by_dtype, host, tensor};
use crate::weighted::{self, Weighted};
use crate::{BatchNorm, Result, Tracked, autograd, batch_norm, cost, host, packed};

mod correlate;
pub(crate) mod cpu;
#[cfg(gpu)]
mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod cudnn;
mod finish;
mod geometry;
mod lower;
mod pack;
#[cfg(test)]
mod reference;
#[cfg(test)]
pub(crate) mod tests;
mod weight_gradient;
mod winograd;

use cpu::ForwardWeights;
use finish::Finish;
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
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    if autograd::records(&inputs) || host::is_on_gpu(x.value()) {
        return weighted::apply(geo, x, weight, bias);
    }
    evaluated(&geo, x, &Conv2d { weight, bias, config: cfg }, None, None, false)
}

/// A convolution's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d<'a> {
    /// (C_out, C_in / groups, KH, KW).
    pub weight: &'a Tracked,
    /// (C_out).
    pub bias: Option<&'a Tracked>,
    /// How it moves.
    pub config: &'a Conv2dConfig,
}

/// `relu?(bn(conv(x)) + residual?)`: [`conv2d`], then [`batch_norm`](crate::batch_norm()).
///
/// In evaluation, where nothing is to be differentiated, it is one pass: the convolution's sums are
/// normalised, added to and cut off before they are written.
///
/// # Shapes
/// As the two; `residual` as the result.
///
/// # Errors
/// As the two.
pub fn conv2d_batch_norm(
    x: &Tracked,
    conv: &Conv2d,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    train: bool,
) -> Result<Tracked> {
    let mut inputs = vec![x, conv.weight, bn.weight, bn.bias];
    inputs.extend(conv.bias);
    inputs.extend(residual);
    if train || autograd::records(&inputs) || host::is_on_gpu(x.value()) {
        let y = conv2d(x, conv.weight, conv.bias, conv.config)?;
        return batch_norm(&y, bn, residual, relu, train);
    }
    let bias = conv.bias.map(Tracked::dims);
    let geo = Geometry::new(OP, x.dims(), conv.weight.dims(), bias, conv.config)?;
    batch_norm::check(&geo.output_shape(), bn, residual, None)?;
    evaluated(&geo, x, conv, Some(bn), residual, relu)
}

/// What is not differentiated, in one pass.
fn evaluated(
    geo: &Geometry,
    x: &Tracked,
    conv: &Conv2d,
    bn: Option<&BatchNorm>,
    residual: Option<&Tracked>,
    relu: bool,
) -> Result<Tracked> {
    let shape = geo.output_shape();
    if let Some(value) = cost::shape_only(shape.as_slice(), x.value().dtype(), geo.macs())? {
        return Ok(Tracked::constant(value));
    }
    let contiguous = |tracked: &Tracked| tracked.value().contiguous();
    let (input, weight) = (contiguous(x)?, contiguous(conv.weight)?);
    let bias = conv.bias.map(contiguous).transpose()?;
    let residual = residual.map(contiguous).transpose()?;
    let order = cpu::forward_order(geo);
    let key = packed::Key { weight: conv.weight.value().id(), order, groups: geo.groups };
    let value = by_dtype!(OP, x.value(), T => {
        let affine = bn.map(batch_norm::running::<T>).transpose()?;
        let bias = bias.as_ref().map(|bias| host::<T>(OP, bias)).transpose()?;
        let residual = residual.as_ref().map(|residual| host::<T>(OP, residual)).transpose()?;
        let finish = Finish {
            bias: bias.as_deref(),
            norm: affine.as_ref().map(|affine| affine.terms()),
            residual: residual.as_deref(),
            relu,
        };
        let (input, weight) = (host::<T>(OP, &input)?, host::<T>(OP, &weight)?);
        let weights = packed::kept(key, || Ok(ForwardWeights::<T>::new(geo, &weight)))?;
        tensor(cpu::forward(geo, &input, &weights, &finish), shape.as_slice())?
    });
    Ok(Tracked::constant(value))
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
        cpu::forward(self, x, &ForwardWeights::new(self, weight), &Finish::bias(bias))
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
