//! Average pooling.

use rayon::prelude::*;

use super::Pool2dConfig;
#[cfg(gpu)]
use super::cuda;
use super::windows::{Axis, Windows};
use crate::host::{Element, by_device, host, tensor, unwritten};
use crate::layout::reshape;
use crate::simd::multiversion;
use crate::{Result, Tracked, cost};

/// Mean over each window; padding counts as zeros.
///
/// # Shapes
/// (N, H, W, C) to (N, H', W', C), H' = ⌊(H + 2·padding − kernel) / stride⌋ + 1.
/// PyTorch: `F.avg_pool2d(x, kernel, stride, padding)` (with its `count_include_pad=True`).
///
/// # Errors
/// If `x` is not four-dimensional or smaller than a window, or the configuration makes no sense.
pub fn avg_pool2d(x: &Tracked, config: &Pool2dConfig) -> Result<Tracked> {
    const OP: &str = "avg_pool2d";
    pool(OP, x, Windows::sliding(OP, x.dims(), config)?)
}

/// Mean over windows that cover the map as evenly as they can: window i of `size` along an axis of
/// length L reaches from ⌊i·L/size⌋ to ⌈(i+1)·L/size⌉.
///
/// # Shapes
/// (N, H, W, C) to (N, size\[0\], size\[1\], C). PyTorch: `F.adaptive_avg_pool2d(x, size)`.
///
/// # Errors
/// If `x` is not four-dimensional or a dimension is 0.
pub fn adaptive_avg_pool2d(x: &Tracked, size: [usize; 2]) -> Result<Tracked> {
    const OP: &str = "adaptive_avg_pool2d";
    pool(OP, x, Windows::adaptive(OP, x.dims(), size)?)
}

/// Mean over all pixels.
///
/// # Shapes
/// (N, H, W, C) to (N, C). PyTorch: `F.adaptive_avg_pool2d(x, 1).flatten(1)`.
///
/// # Errors
/// If `x` is not four-dimensional or has no pixels.
pub fn global_avg_pool(x: &Tracked) -> Result<Tracked> {
    let y = adaptive_avg_pool2d(x, [1, 1])?;
    let shape = (y.dims()[0], y.dims()[3]);
    reshape(&y, shape)
}

fn pool(op: &'static str, x: &Tracked, windows: Windows) -> Result<Tracked> {
    let shape = windows.output_shape();
    if let Some(value) = cost::shape_only(shape.clone(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let y = by_device!(
        op,
        &input,
        gpu => cuda::mean(op, &input, &windows)?,
        T => tensor(forward::<T>(&host(op, &input)?, &windows), shape)?
    );
    Ok(Tracked::from_op(y, &[x], move |grad| {
        let dx = by_device!(op, &grad, gpu => cuda::mean_backward(op, &grad, &windows)?, T => {
            tensor(backward::<T>(&host(op, &grad)?, &windows), windows.input_shape())?
        });
        Ok(vec![Some(dx)])
    }))
}

fn forward<T: Element>(x: &[T], windows: &Windows) -> Vec<T> {
    let Windows { rows, columns, channels, .. } = windows;
    // SAFETY: every row is written whole.
    let mut y = unsafe { unwritten::<T>(windows.output_shape().elem_count()) };
    if !y.is_empty() {
        windows.each_output_row(y.par_chunks_mut(windows.output_width()), |y, sample, row| {
            forward_row(y, &x[sample], rows, columns, row, *channels);
        });
    }
    y
}

fn backward<T: Element>(dy: &[T], windows: &Windows) -> Vec<T> {
    let Windows { rows, columns, channels, .. } = windows;
    // SAFETY: every row is written whole.
    let mut dx = unsafe { unwritten::<T>(windows.input_shape().elem_count()) };
    if !dx.is_empty() {
        windows.each_input_row(dx.par_chunks_mut(windows.input_width()), |dx, sample, row| {
            backward_row(dx, &dy[sample], rows, columns, row, *channels);
        });
    }
    dx
}

multiversion! {
    /// One row of windows of one sample.
    fn forward_row<T>(y: &mut [T], x: &[T], rows: &Axis, columns: &Axis, row: usize, c: usize) {
        let width = columns.windows.len();
        for (column, y) in y.chunks_exact_mut(c).enumerate() {
            y.fill(T::zero());
            for i in rows.inputs[row].clone() {
                for j in columns.inputs[column].clone() {
                    for (y, &x) in y.iter_mut().zip(&x[(i * width + j) * c..][..c]) {
                        *y += x;
                    }
                }
            }
            let divisor = T::of((rows.divisors[row] * columns.divisors[column]) as f64);
            for y in y {
                *y /= divisor;
            }
        }
    }
}

multiversion! {
    /// One row of inputs of one sample.
    fn backward_row<T>(dx: &mut [T], dy: &[T], rows: &Axis, columns: &Axis, row: usize, c: usize) {
        let width = columns.inputs.len();
        for (column, dx) in dx.chunks_exact_mut(c).enumerate() {
            dx.fill(T::zero());
            for i in rows.windows[row].clone() {
                for j in columns.windows[column].clone() {
                    let share = T::of(1.0 / (rows.divisors[i] * columns.divisors[j]) as f64);
                    for (dx, &dy) in dx.iter_mut().zip(&dy[(i * width + j) * c..][..c]) {
                        *dx += dy * share;
                    }
                }
            }
        }
    }
}
