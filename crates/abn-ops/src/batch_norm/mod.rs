//! Batch normalisation, with the residual sum and the ReLU that follow it in the same pass.

mod cpu;
#[cfg(gpu)]
pub(crate) mod cuda;
mod moments;
mod pattern;
mod shared;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use rayon::prelude::*;

use self::cpu::{Affine, Slope, Sums};
use self::moments::Moments;
use crate::host::{Element, by_dtype, host, on_gpu, tensor, unwritten, update};
use crate::{Error, Result, Tracked, across, autograd, cost, elementwise};

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
/// [`guided`](crate::guided), the ReLU's backward pass drops negative gradients; inside
/// [`synchronised`](crate::synchronised), the batch is that of all processes.
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
    dispatch(x, bn, residual, relu, train.then_some(1))
}

/// [`batch_norm`] in training, of several batches that lie one after the other: each is normalised
/// by statistics of its own, and the running statistics move towards each in turn.
///
/// Values, running statistics and the gradients of `x` and `residual` are to the bit those of
/// [`batch_norm`] on one part after the other; the gradients of weight and bias are the sums over
/// the parts, taken in f64.
///
/// # Shapes
/// `x` (parts·N, …, C), `residual` as `x`, to the same.
///
/// # Errors
/// As [`batch_norm`] on one part, and if the first dimension is no multiple of `parts`.
pub fn batch_norm_parts(
    x: &Tracked,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    parts: usize,
) -> Result<Tracked> {
    let rows = x.dims().first().copied().unwrap_or(0);
    if parts == 0 || !rows.is_multiple_of(parts) {
        return Err(Error::shape(OP, format!("a multiple of {parts} parts"), x.dims()));
    }
    dispatch(x, bn, residual, relu, Some(parts))
}

/// In training, of that many parts.
fn dispatch(
    x: &Tracked,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    parts: Option<usize>,
) -> Result<Tracked> {
    check(x.dims(), bn, residual, parts)?;
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    on_gpu!(x.value() => cuda::run(x, bn, residual, relu, parts));
    by_dtype!(OP, x.value(), T => run::<T>(x, bn, residual, relu, parts))
}

/// Whether everything fits a feature map of this shape, in training of that many parts.
pub(crate) fn check(
    shape: &[usize],
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    parts: Option<usize>,
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
    // Of a shared batch it is the whole that needs more than one.
    let alone = parts.filter(|_| across::current().is_none());
    if elements == 0 || alone.is_some_and(|parts| elements == parts * channels) {
        let expected = if parts.is_some() { "more than one value" } else { "a value" };
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
    parts: Option<usize>,
) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let rest = residual.map(|r| r.value().contiguous()).transpose()?;
    let train = parts.is_some();
    let len = input.elem_count() / parts.unwrap_or(1);
    let shared = across::current().filter(|_| train);
    let counts = shared.as_ref().is_none_or(|across| across.counts());
    let moments = if train {
        let x = host::<T>(OP, &input)?;
        let of_batch = |x| Moments::of_batch::<T>(x, bn.weight.dims()[0]);
        let mut moments: Vec<_> = x.par_chunks(len).map(of_batch).collect();
        if let Some(across) = &shared {
            moments = Moments::of_all(&moments, &**across)?;
            if moments.iter().any(|moments| moments.count < 2) {
                let expected = "more than one value per channel over all processes";
                return Err(Error::shape(OP, expected, input.dims()));
            }
        }
        moments.iter().try_for_each(|moments| moments.update_running::<T>(bn))?;
        moments
    } else {
        vec![Moments::running::<T>(bn)?]
    };
    let affines = moments.iter().map(|moments| affine::<T>(moments, bn));
    let affines = affines.collect::<Result<Vec<_>>>()?;
    let y = {
        let x = host::<T>(OP, &input)?;
        let rest = rest.as_ref().map(|r| host::<T>(OP, r)).transpose()?;
        // SAFETY: each part is written whole.
        let mut y = unsafe { unwritten::<T>(x.len()) };
        y.par_chunks_mut(len).zip(x.par_chunks(len)).enumerate().for_each(|(i, (y, x))| {
            let rest = rest.as_ref().map(|rest| &rest[i * len..][..len]);
            cpu::forward(y, x, rest, &affines[i], relu);
        });
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
    let values: Vec<usize> = moments.iter().map(|moments| moments.count).collect();
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
        let channels = affines[0].channels();
        let sums: Vec<Sums> = if train || parameters_tracked {
            let dy = host::<T>(OP, &grad)?;
            let parts = (dy.par_chunks(len), x.par_chunks(len), &affines).into_par_iter();
            parts.map(|(dy, x, affine)| Sums::new(dy, x, affine, mask)).collect()
        } else {
            vec![Sums::zero(channels)]
        };
        let d_weight = tensor(Sums::d_weight(&sums, &affines), channels)?;
        let d_bias = tensor(Sums::d_bias::<T>(&sums), channels)?;
        // The parameters' gradients are this part's; how x's follows depends on the whole batch.
        let sums = match &shared {
            Some(across) => {
                let whole = Sums::of_all(&sums, counts, &**across)?;
                // Values that do not count have no part in mean and variance.
                if counts { whole } else { sums.iter().map(|_| Sums::zero(channels)).collect() }
            }
            None => sums,
        };
        let slope = |((affine, sums), &values): ((&Affine<T>, &Sums), &usize)| {
            affine.slope(train.then_some(sums), values)
        };
        let slopes: Vec<Slope<T>> = affines.iter().zip(&sums).zip(&values).map(slope).collect();
        let (dx, d_residual) = if residual_tracked && x_tracked {
            let dy = host::<T>(OP, &grad)?;
            // SAFETY: each part is written whole.
            let mut dx = unsafe { unwritten::<T>(x.len()) };
            (dx.par_chunks_mut(len), dy.par_chunks(len), x.par_chunks(len), &slopes)
                .into_par_iter()
                .for_each(|(dx, dy, x, slope)| cpu::input_gradient(dx, dy, x, slope));
            drop(dy);
            (Some(tensor(dx, input.shape().clone())?), Some(grad))
        } else if residual_tracked {
            (None, Some(grad))
        } else if x_tracked {
            update::<T>(OP, &grad, |grad| {
                (grad.par_chunks_mut(len), x.par_chunks(len), &slopes, &affines)
                    .into_par_iter()
                    .for_each(|(grad, x, slope, affine)| {
                        cpu::input_gradient_in_place(grad, x, slope, mask.then_some(affine));
                    });
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
