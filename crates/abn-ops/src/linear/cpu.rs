//! The three matrix products of a fully connected layer.

use rayon::prelude::*;

use super::Sizes;
use crate::host::Element;
use crate::simd::multiversion;

multiversion! {
    fn axpy<T>(y: &mut [T], a: T, x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

pub fn forward<T: Element>(s: Sizes, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let mut y = vec![T::zero(); s.n * s.o];
    y.par_chunks_mut(s.o).zip(x.par_chunks(s.i)).for_each(|(y, x)| {
        for (o, (y, weight)) in y.iter_mut().zip(weight.chunks(s.i)).enumerate() {
            let start = bias.map_or(T::zero(), |bias| bias[o]);
            *y = start + x.iter().zip(weight).map(|(&x, &w)| x * w).sum::<T>();
        }
    });
    y
}

pub fn input_gradient<T: Element>(s: Sizes, weight: &[T], dy: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); s.n * s.i];
    dx.par_chunks_mut(s.i).zip(dy.par_chunks(s.o)).for_each(|(dx, dy)| {
        for (&dy, weight) in dy.iter().zip(weight.chunks(s.i)) {
            axpy(dx, dy, weight);
        }
    });
    dx
}

pub fn weight_gradient<T: Element>(s: Sizes, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dw = vec![T::zero(); s.o * s.i];
    dw.par_chunks_mut(s.i).enumerate().for_each(|(o, dw)| {
        for (x, dy) in x.chunks(s.i).zip(dy.chunks(s.o)) {
            axpy(dw, dy[o], x);
        }
    });
    dw
}

pub fn bias_gradient<T: Element>(s: Sizes, dy: &[T]) -> Vec<T> {
    let mut sum = vec![T::zero(); s.o];
    for dy in dy.chunks(s.o) {
        sum.iter_mut().zip(dy).for_each(|(s, &d)| *s += d);
    }
    sum
}
