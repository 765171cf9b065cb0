use candle_core::{DType, Tensor};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, gradients,
    random,
};
use crate::{count_multiply_adds, zeros_without_memory};

fn inputs([n, h, w, c]: [usize; 4], dtype: DType) -> [Tensor; 2] {
    [random(1, &[n, h, w, c]), random(2, &[n, h, w, 1])].map(|t| t.to_dtype(dtype).unwrap())
}

#[test]
fn matches_candle() {
    for shape in [[1, 1, 1, 1], [2, 3, 5, 1], [2, 3, 3, 7], [3, 16, 16, 40], [1, 2, 2, 20_000]] {
        let x = inputs(shape, DType::F64);
        let equation_1 = |x: &[Tensor]| x[0].broadcast_mul(&x[1]);
        assert_matches_candle(&x, 1e-13, |x| attend(&x[0], &x[1], false), equation_1);
        let equation_2 = |x: &[Tensor]| x[0].broadcast_mul(&(&x[1] + 1.0)?);
        assert_matches_candle(&x, 1e-13, |x| attend(&x[0], &x[1], true), equation_2);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for residual in [false, true] {
        let x = inputs([2, 3, 2, 5], DType::F64);
        assert_gradients(&x, |x| attend(&x[0], &x[1], residual));
    }
}

#[test]
fn a_constant_map_or_feature_changes_nothing_for_the_other() {
    let x = inputs([2, 3, 3, 9], DType::F64);
    let (_, both) = gradients(&x, |x| attend(&x[0], &x[1], true));
    let (_, feature) =
        gradients(&x[..1], |f| attend(&f[0], &Tracked::constant(x[1].clone()), true));
    let (_, map) = gradients(&x[1..], |m| attend(&Tracked::constant(x[0].clone()), &m[0], true));
    assert_close(&feature[0], &both[0], 0.0);
    assert_close(&map[0], &both[1], 0.0);
}

#[test]
fn other_shapes_are_errors() {
    let of = |shape: &[usize]| Tracked::constant(random(1, shape));
    let feature = of(&[2, 3, 4, 5]);
    for map in [&[2, 3, 4, 5][..], &[2, 4, 3, 1], &[1, 3, 4, 1], &[2, 3, 4]] {
        let error = attend(&feature, &of(map), false).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "attend", .. }), "{error}");
    }
    assert!(matches!(attend(&of(&[3, 5]), &of(&[3, 1]), true), Err(Error::Shape { .. })));
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = |c| {
        let shape = (1 << 16, 1 << 10, 1 << 10, c);
        Tracked::constant(zeros_without_memory(shape, DType::F32).unwrap())
    };
    let (y, macs) = count_multiply_adds(|| attend(&huge(16), &huge(1), true));
    assert_eq!((y.unwrap().dims(), macs), (huge(16).dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = inputs([8, 16, 16, 50], DType::F32);
    assert_same_on_any_threads(|| gradients(&x, |x| attend(&x[0], &x[1], true)).1);
}
