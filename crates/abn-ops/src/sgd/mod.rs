//! The optimizer's step.

#[cfg(gpu)]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::host::{Element, by_dtype, host, update};
use crate::parallel::{CHUNK, chunks2};
use crate::simd::multiversion;
use crate::{Error, Result};

const OP: &str = "sgd_step";

/// Settings of stochastic gradient descent, with PyTorch's meanings (`torch.optim.SGD`,
/// dampening 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// Share of the velocity that stays from step to step; 0: none is kept.
    pub momentum: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Whether to step by the velocity as it will be after the next step.
    pub nesterov: bool,
}

/// One step of stochastic gradient descent, in place and in one pass over memory:
///
/// ```text
/// g = grad + weight_decay · param
/// v = first ? g : momentum · v + g
/// param -= lr · (nesterov ? g + momentum · v : v)
/// ```
///
/// `velocity` is neither read nor written if `momentum` is 0, and not read on the `first` step.
///
/// # Shapes
/// Three contiguous tensors of any one shape, in memory of their own.
///
/// # Errors
/// If the shapes or types differ, or on Nesterov without momentum.
pub fn sgd_step(
    param: &Tensor,
    velocity: &Tensor,
    grad: &Tensor,
    config: &SgdConfig,
    first: bool,
) -> Result<()> {
    sgd_step_all(&[(param, velocity, grad)], config, first)
}

/// [`sgd_step`] for many parameters, each with its velocity and its gradient. On a GPU it takes one
/// kernel for a hundred of them.
///
/// # Shapes
/// As [`sgd_step`], for each.
///
/// # Errors
/// As [`sgd_step`]; on a GPU, also if the parameters are not of one number type and device.
pub fn sgd_step_all(
    steps: &[(&Tensor, &Tensor, &Tensor)],
    config: &SgdConfig,
    first: bool,
) -> Result<()> {
    step_all(steps, config, None, first)
}

/// [`sgd_step_all`] by a learning rate that lies on the parameters' device and is read when the step is
/// done, in place of [`SgdConfig::lr`]: a captured step ([`crate::Graph`]) then follows it.
///
/// # Shapes
/// `lr` f64, a scalar.
///
/// # Errors
/// As [`sgd_step_all`], and if `lr` is no such scalar.
pub fn sgd_step_at(
    lr: &Tensor,
    steps: &[(&Tensor, &Tensor, &Tensor)],
    config: &SgdConfig,
    first: bool,
) -> Result<()> {
    if lr.elem_count() != 1 {
        return Err(Error::shape(OP, "a learning rate that is a scalar", lr.dims()));
    }
    step_all(steps, config, Some(lr), first)
}

fn step_all(
    steps: &[(&Tensor, &Tensor, &Tensor)],
    config: &SgdConfig,
    lr: Option<&Tensor>,
    first: bool,
) -> Result<()> {
    for (param, velocity, grad) in steps {
        for other in [velocity, grad] {
            if other.dims() != param.dims() {
                return Err(Error::shape(OP, format!("{:?}", param.dims()), other.dims()));
            }
        }
    }
    if config.nesterov && config.momentum <= 0.0 {
        return Err(Error::config(OP, "Nesterov needs a momentum above 0"));
    }
    // Not even the learning rate is read then, which may lie on a GPU.
    if steps.is_empty() {
        return Ok(());
    }
    let contiguous = steps.iter().map(|(_, _, grad)| Ok(grad.contiguous()?));
    let grads = contiguous.collect::<Result<Vec<Tensor>>>()?;
    #[cfg(gpu)]
    if steps.first().is_some_and(|(param, ..)| crate::cuda::takes(param)) {
        let item = |(&(target, velocity, _), source)| {
            let velocity = (config.momentum != 0.0).then_some(velocity);
            cuda::Item { target, velocity, source }
        };
        let items: Vec<_> = steps.iter().zip(&grads).map(item).collect();
        return cuda::sgd(OP, &items, config, lr, first);
    }
    let lr = lr.map_or(Ok(config.lr), |lr| lr.flatten_all()?.get(0)?.to_scalar::<f64>())?;
    let config = &SgdConfig { lr, ..*config };
    for ((param, velocity, _), grad) in steps.iter().zip(&grads) {
        by_dtype!(OP, param, T => step::<T>(param, velocity, grad, config, first))?;
    }
    Ok(())
}

fn step<T: Element>(
    param: &Tensor,
    velocity: &Tensor,
    grad: &Tensor,
    config: &SgdConfig,
    first: bool,
) -> Result<()> {
    let grad = host::<T>(OP, grad)?;
    let [lr, momentum, decay] =
        [config.lr, config.momentum, config.weight_decay].map(<T as Element>::of);
    if config.momentum == 0.0 {
        return update::<T>(OP, param, |param| {
            chunks2(param, &grad, |param, grad| plain(param, grad, lr, decay));
        });
    }
    // The velocity's elements are lent inside the parameter's; an error of the inner call
    // (velocity of another type) comes out through `inner`.
    let mut inner = Ok(());
    update::<T>(OP, param, |param| {
        inner = update::<T>(OP, velocity, |velocity| {
            let run = |param: &mut [T], velocity: &mut [T], grad: &[T]| {
                if first {
                    velocity.fill(T::zero());
                }
                with_momentum(param, velocity, grad, lr, momentum, decay, config.nesterov);
            };
            if grad.len() <= CHUNK {
                return run(param, velocity, &grad);
            }
            (param.par_chunks_mut(CHUNK), velocity.par_chunks_mut(CHUNK), grad.par_chunks(CHUNK))
                .into_par_iter()
                .for_each(|(param, velocity, grad)| run(param, velocity, grad));
        });
    })?;
    inner
}

multiversion! {
    fn plain<T>(param: &mut [T], grad: &[T], lr: T, decay: T) {
        for (p, &g) in param.iter_mut().zip(grad) {
            *p -= lr * (g + decay * *p);
        }
    }
}

multiversion! {
    fn with_momentum<T>(
        param: &mut [T],
        velocity: &mut [T],
        grad: &[T],
        lr: T,
        momentum: T,
        decay: T,
        nesterov: bool,
    ) {
        // The step is `own · g + ahead · v`.
        let (own, ahead) = if nesterov { (T::one(), momentum) } else { (T::zero(), T::one()) };
        for ((p, v), &g) in param.iter_mut().zip(velocity).zip(grad) {
            let g = g + decay * *p;
            *v = momentum * *v + g;
            *p -= lr * (own * g + ahead * *v);
        }
    }
}
