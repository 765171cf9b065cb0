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
    if average.dims() != value.dims() {
        return Err(Error::shape(OP, format!("{:?}", average.dims()), value.dims()));
    }
    if !(0.0..=1.0).contains(&decay) {
        return Err(Error::config(OP, format!("a decay of {decay} is not in 0 to 1")));
    }
    by_dtype!(OP, average, T => {
        let value = host::<T>(OP, value)?;
        let share = <T as Element>::of(1.0 - decay);
        update::<T>(OP, average, |average| {
            chunks2(average, &value, |average, value| lerp(average, value, share));
        })
    })
}

multiversion! {
    fn lerp<T>(average: &mut [T], value: &[T], share: T) {
        for (average, &value) in average.iter_mut().zip(value) {
            *average += share * (value - *average);
        }
    }
}
