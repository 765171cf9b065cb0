//! Maximum pooling. As in PyTorch, the gradient goes to the first maximum of a window, in row-major
//! order, and NaN counts as larger than any number.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use super::Pool2dConfig;
use super::windows::{Axis, count};
use crate::autograd::records;
use crate::host::{Element, by_dtype, host, tensor, unwritten};
use crate::layout::reshape;
use crate::simd::multiversion;
use crate::{Error, Result, Tracked, cost};

/// Maximum over each window.
///
/// # Shapes
/// (N, H, W, C) to (N, H', W', C), H' = ⌊(H + 2·padding − kernel) / stride⌋ + 1.
/// PyTorch: `F.max_pool2d(x, kernel, stride, padding)`.
///
/// # Errors
/// If `x` is not four-dimensional or smaller than a window, or the configuration makes no sense.
pub fn max_pool2d(x: &Tracked, config: &Pool2dConfig) -> Result<Tracked> {
    const OP: &str = "max_pool2d";
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape(OP, "(N, H, W, C)", x.dims()));
    };
    let (oh, ow) = (count(OP, h, config)?, count(OP, w, config)?);
    if let Some(value) = cost::shape_only((n, oh, ow, c), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    pool(OP, x, Axis::sliding(h, config), Axis::sliding(w, config))
}

/// Maximum over all pixels.
///
/// # Shapes
/// (N, H, W, C) to (N, C). PyTorch: `F.adaptive_max_pool2d(x, 1).flatten(1)`.
///
/// # Errors
/// If `x` is not four-dimensional or has no pixels.
pub fn global_max_pool(x: &Tracked) -> Result<Tracked> {
    const OP: &str = "global_max_pool";
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape(OP, "(N, H, W, C)", x.dims()));
    };
    if h == 0 || w == 0 {
        return Err(Error::shape(OP, "a feature map with pixels", x.dims()));
    }
    if let Some(value) = cost::shape_only((n, c), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    reshape(&pool(OP, x, Axis::adaptive(h, 1), Axis::adaptive(w, 1))?, (n, c))
}

fn pool(op: &'static str, x: &Tracked, rows: Axis, columns: Axis) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let (n, h, w, c) = input.dims4()?;
    if u32::try_from(h * w).is_err() {
        return Err(Error::shape(op, "fewer than 2³² pixels", x.dims()));
    }
    let shape = Shape::from((n, rows.inputs.len(), columns.inputs.len(), c));
    let mut winners = vec![0; if records(&[x]) { shape.elem_count() } else { 0 }];
    let y = by_dtype!(op, &input, T => {
        forward::<T>(&host(op, &input)?, &mut winners, &rows, &columns, c, shape)
    })?;
    let before = input.shape().clone();
    Ok(Tracked::from_op(y, &[x], move |grad| {
        let dx = by_dtype!(op, &grad, T => {
            backward::<T>(&host(op, &grad)?, &winners, &rows, &columns, c, before)
        })?;
        Ok(vec![Some(dx)])
    }))
}

/// `winners` gets the pixel of each maximum, unless it is empty.
fn forward<T: Element>(
    x: &[T],
    winners: &mut [u32],
    rows: &Axis,
    columns: &Axis,
    c: usize,
    shape: Shape,
) -> Result<Tensor> {
    // SAFETY: every row is written whole.
    let mut y = unsafe { unwritten::<T>(shape.elem_count()) };
    if !y.is_empty() {
        let (height, sample) = (rows.inputs.len(), rows.windows.len() * columns.windows.len() * c);
        let width = columns.inputs.len() * c;
        let x = |row: usize| &x[row / height * sample..][..sample];
        if winners.is_empty() {
            y.par_chunks_mut(width).enumerate().for_each(|(row, y)| {
                forward_row(y, x(row), rows, columns, row % height, c);
            });
        } else {
            let tasks = y.par_chunks_mut(width).zip(winners.par_chunks_mut(width)).enumerate();
            tasks.for_each(|(row, (y, winners))| {
                forward_row_recorded(y, winners, x(row), rows, columns, row % height, c);
            });
        }
    }
    tensor(y, shape)
}

fn backward<T: Element>(
    dy: &[T],
    winners: &[u32],
    rows: &Axis,
    columns: &Axis,
    c: usize,
    shape: Shape,
) -> Result<Tensor> {
    // SAFETY: every row is written whole.
    let mut dx = unsafe { unwritten::<T>(shape.elem_count()) };
    if !dx.is_empty() {
        let (height, sample) = (rows.windows.len(), rows.inputs.len() * columns.inputs.len() * c);
        dx.par_chunks_mut(columns.windows.len() * c).enumerate().for_each(|(row, dx)| {
            let start = row / height * sample;
            let (dy, winners) = (&dy[start..][..sample], &winners[start..][..sample]);
            backward_row(dx, dy, winners, rows, columns, row % height, c);
        });
    }
    tensor(dx, shape)
}

/// Whether a value replaces the maximum so far.
#[inline(always)]
#[allow(clippy::eq_op)] // x != x: NaN
fn replaces<T: Element>(x: T, max: T) -> bool {
    x > max || x != x
}

multiversion! {
    /// One row of windows of one sample.
    fn forward_row<T>(y: &mut [T], x: &[T], rows: &Axis, columns: &Axis, row: usize, c: usize) {
        let width = columns.windows.len();
        for (column, y) in y.chunks_exact_mut(c).enumerate() {
            let first = rows.inputs[row].start * width + columns.inputs[column].start;
            y.copy_from_slice(&x[first * c..][..c]);
            for i in rows.inputs[row].clone() {
                for j in columns.inputs[column].clone() {
                    for (y, &x) in y.iter_mut().zip(&x[(i * width + j) * c..][..c]) {
                        *y = if replaces(x, *y) { x } else { *y };
                    }
                }
            }
        }
    }
}

multiversion! {
    /// As [`forward_row`], and the pixel of each maximum.
    fn forward_row_recorded<T>(
        y: &mut [T],
        winners: &mut [u32],
        x: &[T],
        rows: &Axis,
        columns: &Axis,
        row: usize,
        c: usize,
    ) {
        let width = columns.windows.len();
        let windows = y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c));
        for (column, (y, winners)) in windows.enumerate() {
            let first = rows.inputs[row].start * width + columns.inputs[column].start;
            y.copy_from_slice(&x[first * c..][..c]);
            winners.fill(first as u32);
            for i in rows.inputs[row].clone() {
                for j in columns.inputs[column].clone() {
                    let pixel = (i * width + j) as u32;
                    let values = &x[(i * width + j) * c..][..c];
                    for ((y, winner), &x) in y.iter_mut().zip(winners.iter_mut()).zip(values) {
                        let replaces = replaces(x, *y);
                        *y = if replaces { x } else { *y };
                        *winner = if replaces { pixel } else { *winner };
                    }
                }
            }
        }
    }
}

multiversion! {
    /// One row of inputs of one sample: each gathers from the windows over it that it won.
    fn backward_row<T>(
        dx: &mut [T],
        dy: &[T],
        winners: &[u32],
        rows: &Axis,
        columns: &Axis,
        row: usize,
        c: usize,
    ) {
        let width = columns.inputs.len();
        for (column, dx) in dx.chunks_exact_mut(c).enumerate() {
            let pixel = (row * columns.windows.len() + column) as u32;
            dx.fill(T::zero());
            for i in rows.windows[row].clone() {
                for j in columns.windows[column].clone() {
                    let window = (i * width + j) * c..(i * width + j + 1) * c;
                    let windows = dy[window.clone()].iter().zip(&winners[window]);
                    for (dx, (&dy, &winner)) in dx.iter_mut().zip(windows) {
                        *dx += if winner == pixel { dy } else { T::zero() };
                    }
                }
            }
        }
    }
}
