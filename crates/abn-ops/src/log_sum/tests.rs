use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{
    assert_gradients, assert_matches_candle, assert_same_on_any_threads, flat, gradients, random,
};
use crate::{count_multiply_adds, zeros_without_memory};

/// Values in 0 to 2.
fn input(shape: &[usize]) -> Tensor {
    (random(1, shape) + 1.0).unwrap()
}

#[test]
fn matches_candle() {
    for shape in [&[1][..], &[5, 1], &[2, 3, 4, 7], &[3, 16, 16, 100], &[2, 20_000]] {
        let reference = |x: &[Tensor]| (&x[0] + 1.0)?.log()?.sum_keepdim(shape.len() - 1);
        assert_matches_candle(&[input(shape)], 1e-13, |x| log1p_sum(&x[0]), reference);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    assert_gradients(&[input(&[2, 3, 2, 5])], |x| log1p_sum(&x[0]));
}

#[test]
fn small_values_keep_their_digits() {
    let x = Tensor::new(&[[1e-6f32, 0.0], [3e-9, 0.0]], &Device::Cpu).unwrap();
    let y = flat(log1p_sum(&Tracked::constant(x)).unwrap().value());
    for (y, expected) in y.iter().zip([1e-6, 3e-9]) {
        assert!((y / expected - 1.0).abs() < 1e-6, "{y}");
    }
}

#[test]
fn other_shapes_are_errors() {
    let of = |shape: &[usize]| Tracked::constant(random(1, shape));
    for shape in [&[][..], &[3, 0]] {
        let error = log1p_sum(&of(shape)).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "log1p_sum", .. }), "{error}");
    }
}

#[test]
fn shapes_alone_take_no_memory() {
    let shape = (1 << 16, 1 << 10, 1 << 10, 16);
    let huge = Tracked::constant(zeros_without_memory(shape, DType::F32).unwrap());
    let (y, macs) = count_multiply_adds(|| log1p_sum(&huge));
    assert_eq!((y.unwrap().dims(), macs), (&[1 << 16, 1 << 10, 1 << 10, 1][..], 0));
}

#[test]
fn threads_do_not_matter() {
    let x = [input(&[4, 24, 24, 50]).to_dtype(DType::F32).unwrap()];
    assert_same_on_any_threads(|| {
        let (y, mut all) = gradients(&x, |x| log1p_sum(&x[0]));
        all.push(y);
        all
    });
}
