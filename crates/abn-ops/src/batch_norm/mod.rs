//! Batch normalisation, with the residual sum and the ReLU that follow it in the same pass.

mod cpu;
mod moments;
mod pattern;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use self::cpu::{Affine, Sums};
use self::moments::Moments;
use crate::host::{Element, by_dtype, host, tensor, update};
use crate::{Error, Result, Tracked, autograd, cost, elementwise};

/// A batch normalisation's parameters and running statistics, each of shape (C).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// γ: what the normalised value is multiplied by.
    pub weight: &'a Tracked,
    /// β: what is added to it.
    pub bias: &'a Tracked,
    /// Running mean: read in evaluation, updated in place in training.
    pub running_mean: &'a Tensor,
    /// Running (unbiased) variance: read in evaluation, updated in place in training.
    pub running_var: &'a Tensor,
    /// Share of the batch's statistics in the update of the running ones (PyTorch's meaning).
    pub momentum: f64,
    /// Added to the variance, under the square root.
    pub eps: f64,
}

const OP: &str = "batch_norm";

/// `relu?((x − mean) / √(var + eps) · weight + bias + residual?)` over the last dimension's
/// channels.
///
/// In training, mean and (biased) variance are the batch's, and the running statistics move
/// towards them: `running += momentum · (batch − running)`, with the unbiased variance. Otherwise
/// they are the running ones; the result is differentiable all the same. Inside
/// [`guided`](crate::guided), the ReLU's backward pass drops negative gradients.
///
/// # Shapes
/// `x` (…, C) of at least two dimensions, `residual` as `x`, to the same.
/// PyTorch, channels first: `F.batch_norm(x, running_mean, running_var, weight, bias, train,
/// momentum, eps)`, then `+ residual` and `F.relu`.
///
/// # Errors
/// If a shape or number type does not match, and in training if there is only one value per
/// channel.
pub fn batch_norm(
    x: &Tracked,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    train: bool,
) -> Result<Tracked> {
    check(x.dims(), bn, residual, train)?;
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    by_dtype!(OP, x.value(), T => run::<T>(x, bn, residual, relu, train))
}

/// Whether everything fits a feature map of this shape.
pub(crate) fn check(
    shape: &[usize],
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    train: bool,
) -> Result<()> {
    let &[.., channels] = shape else {
        return Err(Error::shape(OP, "(…, C)", shape));
    };
    if shape.len() < 2 {
        return Err(Error::shape(OP, "at least two dimensions, (…, C)", shape));
    }
    for parameter in [bn.weight.value(), bn.bias.value(), bn.running_mean, bn.running_var] {
        if parameter.dims() != [channels] {
            let expected = format!("parameters and statistics of {channels} channels");
            return Err(Error::shape(OP, expected, parameter.dims()));
        }
    }
    if let Some(residual) = residual
        && residual.dims() != shape
    {
        return Err(Error::shape(OP, format!("a residual of {shape:?}"), residual.dims()));
    }
    let elements: usize = shape.iter().product();
    if elements == 0 || train && elements == channels {
        let expected = if train { "more than one value" } else { "a value" };
        return Err(Error::shape(OP, format!("{expected} per channel"), shape));
    }
    Ok(())
}

/// What evaluation does to a value, by the running statistics.
pub(crate) fn running<T: Element>(bn: &BatchNorm) -> Result<Affine<T>> {
    affine(&Moments::running::<T>(bn)?, bn)
}

fn affine<T: Element>(moments: &Moments, bn: &BatchNorm) -> Result<Affine<T>> {
    let (weight, bias) = (values::<T>(bn.weight.value())?, values::<T>(bn.bias.value())?);
    Ok(Affine::new(moments, &weight, &bias, bn.eps))
}

fn run<T: Element>(
    x: &Tracked,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    train: bool,
) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let rest = residual.map(|r| r.value().contiguous()).transpose()?;
    let moments = if train {
        let moments = Moments::of_batch(&host::<T>(OP, &input)?, bn.weight.dims()[0]);
        moments.update_running::<T>(bn)?;
        moments
    } else {
        Moments::running::<T>(bn)?
    };
    let affine = affine::<T>(&moments, bn)?;
    let y = {
        let rest = rest.as_ref().map(|r| host::<T>(OP, r)).transpose()?;
        let y = cpu::forward(&host::<T>(OP, &input)?, rest.as_deref(), &affine, relu);
        tensor(y, input.shape().clone())?
    };
    // With a residual, the ReLU's mask comes from the output, which the next operation keeps
    // anyway; without one it is computed from the input again, at no further memory traffic.
    let output = (relu && rest.is_some()).then(|| y.clone());
    let mask = relu && rest.is_none();
    let x_tracked = x.is_tracked();
    let parameters_tracked = bn.weight.is_tracked() || bn.bias.is_tracked();
    let residual_tracked = residual.is_some_and(Tracked::is_tracked);
    let guided = relu && autograd::is_guided();
    let no_residual = Tracked::constant(input.clone());
    let inputs = [x, bn.weight, bn.bias, residual.unwrap_or(&no_residual)];
    Ok(Tracked::from_op(y, &inputs, move |grad| {
        let x = host::<T>(OP, &input)?;
        if guided {
            update::<T>(OP, &grad, elementwise::positive)?;
        }
        if let Some(output) = output {
            let y = host::<T>(OP, &output)?;
            update::<T>(OP, &grad, |grad| cpu::mask(grad, &y))?;
        }
        let sums = if train || parameters_tracked {
            Sums::new(&host::<T>(OP, &grad)?, &x, &affine, mask)
        } else {
            Sums::zero(affine.channels())
        };
        let d_weight = tensor(sums.d_weight(&affine), affine.channels())?;
        let d_bias = tensor(sums.d_bias::<T>(), affine.channels())?;
        let slope = affine.slope(train.then_some(&sums), x.len() / affine.channels());
        let (dx, d_residual) = if residual_tracked && x_tracked {
            let dx = cpu::input_gradient(&host::<T>(OP, &grad)?, &x, &slope);
            (Some(tensor(dx, input.shape().clone())?), Some(grad))
        } else if residual_tracked {
            (None, Some(grad))
        } else if x_tracked {
            update::<T>(OP, &grad, |grad| {
                cpu::input_gradient_in_place(grad, &x, &slope, mask.then_some(&affine))
            })?;
            (Some(grad), None)
        } else {
            (None, None)
        };
        Ok(vec![dx, Some(d_weight), Some(d_bias), d_residual])
    }))
}

/// A small tensor's elements, in f64.
fn values<T: Element>(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor.contiguous()?;
    Ok(host::<T>(OP, &tensor)?.iter().map(|v| v.wide()).collect())
}
