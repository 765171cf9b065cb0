//! 2-D convolution.

use candle_core::Tensor;

use crate::host::{self, by_dtype};
use crate::{Result, Tracked, autograd, cost};

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
    if let Some(value) = cost::shape_only(&geo.output_shape(), x.value().dtype(), geo.macs())? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let kernel = weight.value().contiguous()?;
    let value = by_dtype!(OP, x.value(), T => {
        let bias = bias.map(|b| b.value().contiguous()).transpose()?;
        let bias = bias.as_ref().map(|b| host::host::<T>(OP, b)).transpose()?;
        let (input, kernel) = (host::host::<T>(OP, &input)?, host::host::<T>(OP, &kernel)?);
        host::tensor(cpu::forward(&geo, &input, &kernel, bias.as_deref()), &geo.output_shape())?
    });
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    if !autograd::records(&inputs) {
        return Ok(Tracked::constant(value));
    }
    let wanted = [x.is_tracked(), weight.is_tracked(), bias.is_some_and(Tracked::is_tracked)];
    Ok(Tracked::from_op(
        value,
        &inputs,
        move |grad| by_dtype!(OP, &grad, T => backward::<T>(&geo, &input, &kernel, grad, wanted)),
    ))
}

/// Gradients of input, weight and bias, where wanted.
fn backward<T: host::Element>(
    geo: &Geometry,
    input: &Tensor,
    kernel: &Tensor,
    grad: Tensor,
    wanted: [bool; 3],
) -> Result<Vec<Option<Tensor>>> {
    let grad = grad.contiguous()?;
    let grad = host::host::<T>(OP, &grad)?;
    let [for_input, for_weight, for_bias] = wanted;
    let d_weight = if for_weight {
        let input = host::host::<T>(OP, input)?;
        Some(host::tensor(cpu::weight_gradient(geo, &input, &grad), &geo.weight_shape())?)
    } else {
        None
    };
    let d_bias = if for_bias {
        Some(host::tensor(cpu::bias_gradient(geo.co, &grad), geo.co)?)
    } else {
        None
    };
    let d_input = if for_input {
        let kernel = host::host::<T>(OP, kernel)?;
        Some(host::tensor(cpu::input_gradient(geo, &kernel, &grad), &geo.input_shape())?)
    } else {
        None
    };
    Ok(vec![d_input, d_weight, d_bias])
}
