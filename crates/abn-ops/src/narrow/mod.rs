//! A part of a tensor along one dimension.

#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::host::{Element, by_device, host, tensor};
use crate::{Error, Result, Tracked, cost};

/// The part of `x` within `range` of one dimension.
///
/// # Shapes
/// (…, D, …) to (…, range's length, …). PyTorch: `x.narrow(dim, range.start, range.len())`.
///
/// # Errors
/// If there is no such dimension, or the range is empty or ends after it.
pub fn narrow(x: &Tracked, dim: usize, range: Range<usize>) -> Result<Tracked> {
    const OP: &str = "narrow";
    let Some(&size) = x.dims().get(dim) else {
        return Err(Error::shape(OP, format!("more than {dim} dimensions"), x.dims()));
    };
    if range.is_empty() || range.end > size {
        let what = format!("{} to {} is no part of {size}", range.start, range.end);
        return Err(Error::config(OP, what));
    }
    let mut shape = x.dims().to_vec();
    shape[dim] = range.len();
    if let Some(value) = cost::shape_only(shape.as_slice(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let inner: usize = input.dims()[dim + 1..].iter().product();
    let (row, start, len) = (size * inner, range.start * inner, range.len() * inner);
    let y = by_device!(OP, &input, gpu => cuda::part(OP, &input, [row, start, len], shape.into()), T => {
        let x = host::<T>(OP, &input)?;
        let parts = x.chunks_exact(row.max(1)).flat_map(|x| &x[start..start + len]);
        tensor(parts.copied().collect::<Vec<T>>(), shape)
    })?;
    let before = input.shape().clone();
    Ok(Tracked::from_op(y, &[x], move |grad| {
        by_device!(OP, &grad, gpu => Ok(vec![Some(cuda::pad(OP, &grad, [row, start, len], before)?)]), T => {
            let dy = host::<T>(OP, &grad)?;
            let mut dx = vec![<T as Element>::of(0.0); before.elem_count()];
            let rows = dx.chunks_exact_mut(row.max(1)).zip(dy.chunks_exact(len.max(1)));
            for (dx, dy) in rows {
                dx[start..start + len].copy_from_slice(dy);
            }
            Ok(vec![Some(tensor(dx, before)?)])
        })
    }))
}
