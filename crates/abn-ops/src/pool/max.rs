//! Maximum pooling. As in PyTorch, the gradient goes to the first maximum of a window, in row-major
//! order, and NaN counts as larger than any number.

use rayon::prelude::*;

use super::Pool2dConfig;
#[cfg(gpu)]
use super::cuda;
use super::windows::{Axis, Windows};
use crate::autograd::records;
use crate::host::{Element, by_dtype, host, on_gpu, tensor, unwritten};
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
    pool(OP, x, Windows::sliding(OP, x.dims(), config)?)
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
    let y = pool(OP, x, Windows::adaptive(OP, x.dims(), [1, 1])?)?;
    let shape = (y.dims()[0], y.dims()[3]);
    reshape(&y, shape)
}

fn pool(op: &'static str, x: &Tracked, windows: Windows) -> Result<Tracked> {
    let shape = windows.output_shape();
    if let Some(value) = cost::shape_only(shape.clone(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let pixels = windows.rows.windows.len() * windows.columns.windows.len();
    if u32::try_from(pixels).is_err() {
        return Err(Error::shape(op, "fewer than 2³² pixels", x.dims()));
    }
    let input = x.value().contiguous()?;
    on_gpu!(&input => {
        let (y, winners) = cuda::max(op, &input, &windows, records(&[x]))?;
        Ok(Tracked::from_op(y, &[x], move |grad| {
            let dx = winners.map(|winners| cuda::max_backward(op, &grad, &winners, &windows));
            Ok(vec![dx.transpose()?])
        }))
    });
    let mut winners = vec![0; if records(&[x]) { shape.elem_count() } else { 0 }];
    let y = by_dtype!(op, &input, T => {
        tensor(forward::<T>(&host(op, &input)?, &mut winners, &windows), shape)?
    });
    Ok(Tracked::from_op(y, &[x], move |grad| {
        let dx = by_dtype!(op, &grad, T => {
            tensor(backward::<T>(&host(op, &grad)?, &winners, &windows), windows.input_shape())?
        });
        Ok(vec![Some(dx)])
    }))
}

/// `winners` gets the pixel of each maximum, unless it is empty.
fn forward<T: Element>(x: &[T], winners: &mut [u32], windows: &Windows) -> Vec<T> {
    let Windows { rows, columns, channels, .. } = windows;
    // SAFETY: every row is written whole.
    let mut y = unsafe { unwritten::<T>(windows.output_shape().elem_count()) };
    if !y.is_empty() {
        let width = windows.output_width();
        if winners.is_empty() {
            windows.each_output_row(y.par_chunks_mut(width), |y, sample, row| {
                forward_row(y, &x[sample], rows, columns, row, *channels);
            });
        } else {
            let items = y.par_chunks_mut(width).zip(winners.par_chunks_mut(width));
            windows.each_output_row(items, |(y, winners), sample, row| {
                forward_row_recorded(y, winners, &x[sample], rows, columns, row, *channels);
            });
        }
    }
    y
}

fn backward<T: Element>(dy: &[T], winners: &[u32], windows: &Windows) -> Vec<T> {
    let Windows { rows, columns, channels, .. } = windows;
    // SAFETY: every row is written whole.
    let mut dx = unsafe { unwritten::<T>(windows.input_shape().elem_count()) };
    if !dx.is_empty() {
        let items = dx.par_chunks_mut(windows.input_width());
        windows.each_input_row(items, |dx, sample, row| {
            let (dy, winners) = (&dy[sample.clone()], &winners[sample]);
            backward_row(dx, dy, winners, rows, columns, row, *channels);
        });
    }
    dx
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
