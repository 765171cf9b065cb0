//! The three matrix products of a fully connected layer: those of a convolution of single pixels.

use super::Sizes;
use crate::conv2d::{Geometry, cpu};
use crate::host::Element;

fn pixels(s: Sizes) -> Geometry {
    Geometry {
        n: s.n,
        h: 1,
        w: 1,
        ci: s.i,
        co: s.o,
        kh: 1,
        kw: 1,
        oh: 1,
        ow: 1,
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    }
}

pub fn forward<T: Element>(s: Sizes, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    cpu::forward(&pixels(s), x, weight, bias)
}

pub fn input_gradient<T: Element>(s: Sizes, weight: &[T], dy: &[T]) -> Vec<T> {
    cpu::input_gradient(&pixels(s), weight, dy)
}

pub fn weight_gradient<T: Element>(s: Sizes, x: &[T], dy: &[T]) -> Vec<T> {
    cpu::weight_gradient(&pixels(s), x, dy)
}

pub fn bias_gradient<T: Element>(s: Sizes, dy: &[T]) -> Vec<T> {
    cpu::bias_gradient(&pixels(s), dy)
}
