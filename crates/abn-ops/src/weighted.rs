//! What convolution and fully connected layers share: an input, a weight, perhaps a bias, and a
//! gradient of each.

#[cfg(gpu)]
mod cuda;

use candle_core::{Shape, Tensor};

#[cfg(not(gpu))]
pub(crate) use self::Weighted as OnGpu;
#[cfg(gpu)]
pub(crate) use self::cuda::OnGpu;
use crate::host::{Element, by_dtype, host, on_gpu, tensor};
use crate::{Result, Tracked, autograd, cost};

/// An operation of that kind: its sizes, which were checked, and its kernels.
pub(crate) trait Weighted: Copy + Send + 'static {
    /// Its name in errors.
    const OP: &'static str;

    fn input_shape(&self) -> Shape;
    fn weight_shape(&self) -> Shape;
    /// The last dimension is the bias's only one.
    fn output_shape(&self) -> Shape;
    /// Multiply-adds of the forward pass.
    fn macs(&self) -> u64;

    fn forward<T: Element>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T>;
    fn input_gradient<T: Element>(&self, weight: &[T], dy: &[T]) -> Vec<T>;
    fn weight_gradient<T: Element>(&self, x: &[T], dy: &[T]) -> Vec<T>;
    fn bias_gradient<T: Element>(&self, dy: &[T]) -> Vec<T>;
}

/// The operation on these inputs, whose shapes are those it was made for.
pub(crate) fn apply<O: OnGpu>(
    op: O,
    x: &Tracked,
    weight: &Tracked,
    bias: Option<&Tracked>,
) -> Result<Tracked> {
    if let Some(value) = cost::shape_only(op.output_shape(), x.value().dtype(), op.macs())? {
        return Ok(Tracked::constant(value));
    }
    on_gpu!(x.value() => cuda::apply(op, x, weight, bias));
    let input = x.value().contiguous()?;
    let kernel = weight.value().contiguous()?;
    let value = by_dtype!(O::OP, x.value(), T => {
        let bias = bias.map(|b| b.value().contiguous()).transpose()?;
        let bias = bias.as_ref().map(|b| host::<T>(O::OP, b)).transpose()?;
        let (input, kernel) = (host::<T>(O::OP, &input)?, host::<T>(O::OP, &kernel)?);
        tensor(op.forward(&input, &kernel, bias.as_deref()), op.output_shape())?
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
        move |grad| by_dtype!(O::OP, &grad, T => backward::<O, T>(op, &input, &kernel, grad, wanted)),
    ))
}

/// Gradients of input, weight and bias, where wanted.
fn backward<O: Weighted, T: Element>(
    op: O,
    input: &Tensor,
    kernel: &Tensor,
    grad: Tensor,
    [for_input, for_weight, for_bias]: [bool; 3],
) -> Result<Vec<Option<Tensor>>> {
    let grad = grad.contiguous()?;
    let grad = host::<T>(O::OP, &grad)?;
    let d_weight = if for_weight {
        let input = host::<T>(O::OP, input)?;
        Some(tensor(op.weight_gradient(&input, &grad), op.weight_shape())?)
    } else {
        None
    };
    let d_bias = if for_bias {
        let gradient = op.bias_gradient(&grad);
        let channels = gradient.len();
        Some(tensor(gradient, channels)?)
    } else {
        None
    };
    let d_input = if for_input {
        let kernel = host::<T>(O::OP, kernel)?;
        Some(tensor(op.input_gradient(&kernel, &grad), op.input_shape())?)
    } else {
        None
    };
    Ok(vec![d_input, d_weight, d_bias])
}
