//! CPU kernels of the elementwise passes.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::host::{Element, tensor, unwritten};
use crate::parallel::{CHUNK, chunks2, chunks3};
use crate::simd::multiversion;

multiversion! {
    fn add_chunk<T>(y: &mut [T], a: &[T], b: &[T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

multiversion! {
    fn add_assign_chunk<T>(sum: &mut [T], term: &[T]) {
        for (s, &t) in sum.iter_mut().zip(term) {
            *s += t;
        }
    }
}

multiversion! {
    fn relu_chunk<T>(y: &mut [T], x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            // Written so that NaN stays NaN, as in PyTorch.
            *y = if x <= T::zero() { T::zero() } else { x };
        }
    }
}

multiversion! {
    fn relu_backward_chunk<T>(grad: &mut [T], y: &[T]) {
        for (g, &y) in grad.iter_mut().zip(y) {
            *g = if y <= T::zero() { T::zero() } else { *g };
        }
    }
}

multiversion! {
    fn positive_chunk<T>(x: &mut [T]) {
        for x in x.iter_mut() {
            *x = if *x <= T::zero() { T::zero() } else { *x };
        }
    }
}

multiversion! {
    fn sigmoid_backward_chunk<T>(grad: &mut [T], y: &[T]) {
        for (g, &y) in grad.iter_mut().zip(y) {
            *g *= y * (T::one() - y);
        }
    }
}

pub fn add<T: Element>(a: &[T], b: &[T], shape: &Shape) -> Result<Tensor> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(a.len()) };
    chunks3(&mut y, a, b, add_chunk::<T>);
    tensor(y, shape.clone())
}

pub fn add_assign<T: Element>(sum: &mut [T], term: &[T]) {
    chunks2(sum, term, add_assign_chunk::<T>);
}

pub fn relu<T: Element>(x: &[T], shape: &Shape) -> Result<Tensor> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(x.len()) };
    chunks2(&mut y, x, relu_chunk::<T>);
    tensor(y, shape.clone())
}

pub fn relu_backward<T: Element>(grad: &mut [T], y: &[T]) {
    chunks2(grad, y, relu_backward_chunk::<T>);
}

/// `max(x, 0)` in place.
pub fn positive<T: Element>(x: &mut [T]) {
    x.par_chunks_mut(CHUNK).for_each(positive_chunk::<T>);
}

pub fn sigmoid<T: Element>(x: &[T], shape: &Shape) -> Result<Tensor> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(x.len()) };
    chunks2(&mut y, x, |y: &mut [T], x: &[T]| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = logistic(x);
        }
    });
    tensor(y, shape.clone())
}

pub fn sigmoid_backward<T: Element>(grad: &mut [T], y: &[T]) {
    chunks2(grad, y, sigmoid_backward_chunk::<T>);
}

/// The logistic function, from exp of a number that is not positive; without a branch on the
/// sign, which no processor could predict.
pub fn logistic<T: Element>(x: T) -> T {
    let positive = x >= T::zero();
    let e = (if positive { -x } else { x }).exp();
    (if positive { T::one() } else { e }) / (T::one() + e)
}
