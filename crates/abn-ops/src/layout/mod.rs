//! Other shapes and memory layouts of the same elements.

mod cpu;
#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{DType, Shape, Tensor};

use crate::host::{by_device, host, on_gpu};
use crate::{Error, Result, Tracked, cost};

/// The same elements in another shape. PyTorch: `x.reshape(shape)`.
///
/// # Errors
/// If the number of elements differs.
pub fn reshape(x: &Tracked, shape: impl Into<Shape>) -> Result<Tracked> {
    let shape = shape.into();
    let count = x.value().elem_count();
    if shape.elem_count() != count {
        let expected = format!("a shape of {count} elements for {:?}", x.dims());
        return Err(Error::shape("reshape", expected, shape.dims()));
    }
    if let Some(value) = cost::shape_only(shape.clone(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let before = x.value().shape().clone();
    let y = x.value().reshape(shape)?;
    Ok(Tracked::from_op(y, &[x], move |grad| Ok(vec![Some(grad.reshape(before)?)])))
}

/// The same elements in another number type; the gradient comes back in the first. PyTorch: `x.to(dtype)`.
///
/// # Errors
/// If candle has no such conversion on the device.
pub fn cast(x: &Tracked, dtype: DType) -> Result<Tracked> {
    let before = x.value().dtype();
    if before == dtype {
        return Ok(x.clone());
    }
    if let Some(value) = cost::shape_only(x.dims(), dtype, 0)? {
        return Ok(Tracked::constant(value));
    }
    let y = converted(x.value(), dtype)?;
    Ok(Tracked::from_op(y, &[x], move |grad| Ok(vec![Some(converted(&grad, before)?)])))
}

/// The same numbers in contiguous memory of their own.
pub(crate) fn duplicate(x: &Tensor) -> Result<Tensor> {
    on_gpu!(x => cuda::duplicate(&x.contiguous()?));
    Ok(x.force_contiguous()?)
}

fn converted(x: &Tensor, dtype: DType) -> Result<Tensor> {
    on_gpu!(x => cuda::convert("cast", x, dtype));
    Ok(x.to_dtype(dtype)?)
}

/// Images as data sets give them to feature maps as networks here compute them.
///
/// # Shapes
/// (N, C, H, W) to (N, H, W, C). PyTorch: `x.permute(0, 2, 3, 1).contiguous()`.
///
/// # Errors
/// If `x` is not four-dimensional.
pub fn to_channels_last(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "to_channels_last";
    let &[n, c, h, w] = x.dims() else {
        return Err(Error::shape(OP, "(N, C, H, W)", x.dims()));
    };
    swap(OP, x, [n, c, h * w], [n, h, w, c])
}

/// The reverse of [`to_channels_last`].
///
/// # Shapes
/// (N, H, W, C) to (N, C, H, W). PyTorch: `x.permute(0, 3, 1, 2).contiguous()`.
///
/// # Errors
/// If `x` is not four-dimensional.
pub fn to_channels_first(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "to_channels_first";
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape(OP, "(N, H, W, C)", x.dims()));
    };
    swap(OP, x, [n, h * w, c], [n, c, h, w])
}

/// Swaps the last two of three dimensions; the result is seen as `shape`.
fn swap(
    op: &'static str,
    x: &Tracked,
    [n, rows, columns]: [usize; 3],
    shape: [usize; 4],
) -> Result<Tracked> {
    if let Some(value) = cost::shape_only(&shape[..], x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let before = x.value().shape().clone();
    let y = transpose(op, x.value(), [n, rows, columns], Shape::from(&shape[..]))?;
    Ok(Tracked::from_op(y, &[x], move |grad| {
        Ok(vec![Some(transpose(op, &grad, [n, columns, rows], before)?)])
    }))
}

fn transpose(op: &'static str, x: &Tensor, dims: [usize; 3], shape: Shape) -> Result<Tensor> {
    let x = x.contiguous()?;
    if dims[1] == 1 || dims[2] == 1 {
        return Ok(x.reshape(shape)?);
    }
    by_device!(
        op,
        &x,
        gpu => cuda::transpose(op, &x, dims, shape),
        T => cpu::transpose::<T>(&host(op, &x)?, dims, shape)
    )
}
