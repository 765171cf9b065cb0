//! CPU kernels of the sum of logarithms.

use rayon::prelude::*;

use crate::host::{Element, unwritten};
use crate::parallel::CHUNK;
use crate::simd::multiversion;

/// Rows of a task.
fn rows(channels: usize) -> usize {
    (CHUNK / channels).max(1)
}

pub fn forward<T: Element>(x: &[T], channels: usize) -> Vec<T> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(x.len() / channels) };
    let rows = rows(channels);
    y.par_chunks_mut(rows).zip(x.par_chunks(rows * channels)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x.chunks_exact(channels)) {
            *y = x.iter().map(|x| x.ln_1p()).sum();
        }
    });
    y
}

pub fn backward<T: Element>(grad: &[T], x: &[T], channels: usize) -> Vec<T> {
    // SAFETY: each chunk is written whole.
    let mut dx = unsafe { unwritten::<T>(x.len()) };
    let rows = rows(channels);
    let tasks = dx.par_chunks_mut(rows * channels).zip(x.par_chunks(rows * channels));
    tasks.zip(grad.par_chunks(rows)).for_each(|((dx, x), grad)| backward_rows(dx, x, grad));
    dx
}

multiversion! {
    fn backward_rows<T>(dx: &mut [T], x: &[T], grad: &[T]) {
        let channels = dx.len() / grad.len();
        let rows = dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
        for ((dx, x), &grad) in rows.zip(grad) {
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = grad / (T::one() + x);
            }
        }
    }
}
