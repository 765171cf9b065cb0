use candle_core::DType;

use super::*;
use crate::testing::{assert_gradients, assert_matches_candle, random};
use crate::{count_multiply_adds, zeros_without_memory};

#[test]
fn matches_candle() {
    let x = [random(1, &[4, 3, 5])];
    for (dim, range) in [(0, 0..4), (0, 1..3), (1, 2..3), (2, 0..2), (2, 3..5)] {
        assert_matches_candle(
            &x,
            0.0,
            |x| narrow(&x[0], dim, range.clone()),
            |x| x[0].narrow(dim, range.start, range.len()),
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    assert_gradients(&[random(1, &[4, 3])], |x| {
        crate::concat(&[&narrow(&x[0], 1, 1..3)?, &narrow(&x[0], 1, 0..2)?])
    });
}

#[test]
fn other_parts_are_errors() {
    let x = Tracked::constant(random(1, &[4, 3]));
    assert!(matches!(narrow(&x, 2, 0..1), Err(Error::Shape { op: "narrow", .. })));
    for range in [0..5, 2..2, 4..5] {
        assert!(matches!(narrow(&x, 0, range), Err(Error::Config { op: "narrow", .. })));
    }
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = Tracked::constant(zeros_without_memory((1 << 20, 1 << 22), DType::F32).unwrap());
    let (y, macs) = count_multiply_adds(|| narrow(&huge, 0, 7..1 << 19));
    assert_eq!((y.unwrap().dims(), macs), (&[(1 << 19) - 7, 1 << 22][..], 0));
}
