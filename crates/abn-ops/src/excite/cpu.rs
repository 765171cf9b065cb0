//! CPU kernels of the channel weights.

use rayon::prelude::*;

use crate::host::{Element, unwritten};
use crate::parallel::CHUNK;
use crate::simd::multiversion;

multiversion! {
    /// Pixels of one sample.
    fn forward_rows<T>(y: &mut [T], x: &[T], scale: &[T], residual: &[T]) {
        let channels = scale.len();
        let rows = y.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
        for ((y, x), residual) in rows.zip(residual.chunks_exact(channels)) {
            for (((y, &x), &scale), &residual) in y.iter_mut().zip(x).zip(scale).zip(residual) {
                let v = x * scale + residual;
                // Written so that NaN stays NaN.
                *y = if v <= T::zero() { T::zero() } else { v };
            }
        }
    }
}

multiversion! {
    fn scale_rows<T>(dx: &mut [T], grad: &[T], scale: &[T]) {
        let channels = scale.len();
        for (dx, grad) in dx.chunks_exact_mut(channels).zip(grad.chunks_exact(channels)) {
            for ((dx, &grad), &scale) in dx.iter_mut().zip(grad).zip(scale) {
                *dx = grad * scale;
            }
        }
    }
}

multiversion! {
    /// Adds grad · x of each channel to `sums`.
    fn products<T>(sums: &mut [T], grad: &[T], x: &[T]) {
        let channels = sums.len();
        for (grad, x) in grad.chunks_exact(channels).zip(x.chunks_exact(channels)) {
            for ((sum, &grad), &x) in sums.iter_mut().zip(grad).zip(x) {
                *sum += grad * x;
            }
        }
    }
}

/// Elements of a task: whole pixels.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

pub fn forward<T: Element>(x: &[T], scale: &[T], residual: &[T], channels: usize) -> Vec<T> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(x.len()) };
    if !y.is_empty() {
        let sample = x.len() / (scale.len() / channels);
        let samples = y.par_chunks_mut(sample).zip(x.par_chunks(sample));
        samples.zip(residual.par_chunks(sample)).zip(scale.par_chunks(channels)).for_each(
            |(((y, x), residual), scale)| {
                let chunk = chunk(channels);
                let tasks = y.par_chunks_mut(chunk).zip(x.par_chunks(chunk));
                tasks
                    .zip(residual.par_chunks(chunk))
                    .for_each(|((y, x), residual)| forward_rows(y, x, scale, residual));
            },
        );
    }
    y
}

pub fn input_gradient<T: Element>(grad: &[T], scale: &[T], channels: usize) -> Vec<T> {
    // SAFETY: each chunk is written whole.
    let mut dx = unsafe { unwritten::<T>(grad.len()) };
    if !dx.is_empty() {
        let sample = grad.len() / (scale.len() / channels);
        let samples = dx.par_chunks_mut(sample).zip(grad.par_chunks(sample));
        samples.zip(scale.par_chunks(channels)).for_each(|((dx, grad), scale)| {
            let chunk = chunk(channels);
            let tasks = dx.par_chunks_mut(chunk).zip(grad.par_chunks(chunk));
            tasks.for_each(|(dx, grad)| scale_rows(dx, grad, scale));
        });
    }
    dx
}

/// Sums over each sample's pixels: chunk by chunk in the number type, the chunks' in f64.
pub fn scale_gradient<T: Element>(grad: &[T], x: &[T], n: usize, channels: usize) -> Vec<T> {
    let mut d_scale = vec![T::zero(); n * channels];
    if !grad.is_empty() {
        let sample = grad.len() / n;
        let samples = d_scale.par_chunks_mut(channels).zip(grad.par_chunks(sample));
        samples.zip(x.par_chunks(sample)).for_each(|((d_scale, grad), x)| {
            let chunk = chunk(channels);
            let mut total = vec![0.0; channels];
            for (grad, x) in grad.chunks(chunk).zip(x.chunks(chunk)) {
                d_scale.fill(T::zero());
                products(d_scale, grad, x);
                total.iter_mut().zip(&*d_scale).for_each(|(total, sum)| *total += sum.wide());
            }
            d_scale.iter_mut().zip(total).for_each(|(d, total)| *d = T::of(total));
        });
    }
    d_scale
}
