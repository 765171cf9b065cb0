//! One map from many: the sum of logarithms over channels.

mod cpu;
#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::Shape;

use crate::host::{by_device, host, tensor};
use crate::{Error, Result, Tracked, cost};

/// `Σ ln(1 + x)` over the channels, of values above −1.
///
/// # Shapes
/// `x` (…, C), to (…, 1). PyTorch, channels first: `torch.log(1 + x).sum(1, keepdim=True)`.
///
/// # Errors
/// If `x` has no dimension or no channels.
pub fn log1p_sum(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "log1p_sum";
    let &[ref rest @ .., channels] = x.dims() else {
        return Err(Error::shape(OP, "(…, C)", x.dims()));
    };
    if channels == 0 {
        return Err(Error::shape(OP, "one channel or more", x.dims()));
    }
    let shape = Shape::from([rest, &[1]].concat());
    if let Some(value) = cost::shape_only(shape.clone(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let y = by_device!(OP, &input, gpu => cuda::forward(OP, &input, channels, shape)?, T => {
        tensor(cpu::forward::<T>(&host(OP, &input)?, channels), shape)?
    });
    Ok(Tracked::from_op(y, &[x], move |grad| {
        let dx = by_device!(OP, &grad, gpu => cuda::backward(OP, &grad, &input, channels)?, T => {
            let dx = cpu::backward::<T>(&host(OP, &grad)?, &host(OP, &input)?, channels);
            tensor(dx, input.shape().clone())?
        });
        Ok(vec![Some(dx)])
    }))
}
