//! Passes over single elements: sum, ReLU, sigmoid.

mod cpu;
#[cfg(gpu)]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

pub(crate) use cpu::{logistic, positive, relu_backward};

use crate::host::{by_device, host, update};
use crate::{Error, Result, Tracked, autograd, cost, layout};

/// `a + b`, elementwise.
///
/// # Shapes
/// Two of any one shape, to the same shape. PyTorch: `a + b` without broadcasting.
///
/// # Errors
/// If the shapes or number types differ.
pub fn add(a: &Tracked, b: &Tracked) -> Result<Tracked> {
    const OP: &str = "add";
    if a.dims() != b.dims() {
        return Err(Error::shape(OP, format!("a second term of {:?}", a.dims()), b.dims()));
    }
    if let Some(value) = cost::shape_only(a.dims(), a.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let (x, y) = (a.value().contiguous()?, b.value().contiguous()?);
    let sum = by_device!(
        OP,
        &x,
        gpu => cuda::add(OP, &x, &y),
        T => cpu::add::<T>(&host(OP, &x)?, &host(OP, &y)?, x.shape())
    )?;
    let tracked = (a.is_tracked(), b.is_tracked());
    Ok(Tracked::from_op(sum, &[a, b], move |grad| {
        Ok(match tracked {
            // Gradients may not share memory.
            (true, true) => vec![Some(layout::duplicate(&grad)?), Some(grad)],
            (true, false) => vec![Some(grad), None],
            _ => vec![None, Some(grad)],
        })
    }))
}

/// `max(x, 0)`, elementwise. The gradient at 0 is 0; inside [`guided`](crate::guided), negative
/// gradients become 0 too.
///
/// # Shapes
/// Any, to the same. PyTorch: `F.relu(x)`.
///
/// # Errors
/// If there is no kernel for the device or number type.
pub fn relu(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "relu";
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let y = by_device!(
        OP,
        &input,
        gpu => cuda::relu(OP, &input),
        T => cpu::relu::<T>(&host(OP, &input)?, input.shape())
    )?;
    let (saved, guided) = (y.clone(), autograd::is_guided());
    Ok(Tracked::from_op(y, &[x], move |grad| {
        by_device!(OP, &saved, gpu => cuda::relu_backward(OP, &grad, &saved, guided), T => {
            let y = host::<T>(OP, &saved)?;
            update::<T>(OP, &grad, |grad| {
                relu_backward(grad, &y);
                if guided {
                    positive(grad);
                }
            })
        })?;
        Ok(vec![Some(grad)])
    }))
}

/// `1 / (1 + exp(-x))`, elementwise; without overflow for any x.
///
/// # Shapes
/// Any, to the same. PyTorch: `torch.sigmoid(x)`.
///
/// # Errors
/// If there is no kernel for the device or number type.
pub fn sigmoid(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "sigmoid";
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let y = by_device!(
        OP,
        &input,
        gpu => cuda::sigmoid(OP, &input),
        T => cpu::sigmoid::<T>(&host(OP, &input)?, input.shape())
    )?;
    let saved = y.clone();
    Ok(Tracked::from_op(y, &[x], move |grad| {
        by_device!(OP, &saved, gpu => cuda::sigmoid_backward(OP, &grad, &saved), T => {
            let y = host::<T>(OP, &saved)?;
            update::<T>(OP, &grad, |grad| cpu::sigmoid_backward(grad, &y))
        })?;
        Ok(vec![Some(grad)])
    }))
}

/// `sum += term`, in `sum`'s memory where it can be.
pub(crate) fn add_in_place(sum: Tensor, term: &Tensor) -> Result<Tensor> {
    const OP: &str = "add_in_place";
    let (sum, term) = (sum.contiguous()?, term.contiguous()?);
    by_device!(OP, &sum, gpu => cuda::add_assign(OP, &sum, &term), T => {
        let term = host::<T>(OP, &term)?;
        update::<T>(OP, &sum, |sum| cpu::add_assign(sum, &term))
    })?;
    Ok(sum)
}
