//! Exponential moving average of weights.

#[cfg(test)]
mod tests;

use candle_core::Tensor;

use crate::host::{Element, by_dtype, host, update};
use crate::parallel::chunks2;
use crate::simd::multiversion;
use crate::{Error, Result};

const OP: &str = "ema_step";

/// `average += (1 − decay) · (value − average)`, in place and in one pass over memory.
///
/// # Shapes
/// Two contiguous tensors of any one shape, in memory of their own. PyTorch:
/// `torch.optim.swa_utils.get_ema_multi_avg_fn(decay)`, that is
/// `average.lerp_(value, 1 - decay)`.
///
/// # Errors
/// If the shapes or types differ, or `decay` is not in 0 to 1.
pub fn ema_step(average: &Tensor, value: &Tensor, decay: f64) -> Result<()> {
    ema_step_all(&[(average, value)], decay)
}

/// [`ema_step`] for many averages, each with its value. On a GPU it takes one kernel for a hundred
/// of them.
///
/// # Shapes
/// As [`ema_step`], for each.
///
/// # Errors
/// As [`ema_step`]; on a GPU, also if the averages are not of one number type and device.
pub fn ema_step_all(steps: &[(&Tensor, &Tensor)], decay: f64) -> Result<()> {
    for (average, value) in steps {
        if average.dims() != value.dims() {
            return Err(Error::shape(OP, format!("{:?}", average.dims()), value.dims()));
        }
    }
    if !(0.0..=1.0).contains(&decay) {
        return Err(Error::config(OP, format!("a decay of {decay} is not in 0 to 1")));
    }
    #[cfg(gpu)]
    if steps.first().is_some_and(|(average, _)| crate::cuda::takes(average)) {
        let item = |&(target, source)| crate::sgd::cuda::Item { target, velocity: None, source };
        return crate::sgd::cuda::ema(OP, &steps.iter().map(item).collect::<Vec<_>>(), decay);
    }
    steps.iter().try_for_each(
        |(average, value)| by_dtype!(OP, average, T => step::<T>(average, value, decay)),
    )
}

fn step<T: Element>(average: &Tensor, value: &Tensor, decay: f64) -> Result<()> {
    let value = host::<T>(OP, value)?;
    let share = <T as Element>::of(1.0 - decay);
    update::<T>(OP, average, |average| {
        chunks2(average, &value, |average, value| lerp(average, value, share));
    })
}

multiversion! {
    fn lerp<T>(average: &mut [T], value: &[T], share: T) {
        for (average, &value) in average.iter_mut().zip(value) {
            *average += share * (value - *average);
        }
    }
}
