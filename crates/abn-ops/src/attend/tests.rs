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

fn several([n, h, w, c]: [usize; 4], maps: usize, dtype: DType) -> [Tensor; 2] {
    [random(1, &[n, h, w, c]), random(2, &[n, h, w, maps])].map(|t| t.to_dtype(dtype).unwrap())
}

#[test]
fn each_matches_candle() {
    for shape in [[1, 1, 1, 1], [2, 3, 3, 7], [3, 5, 4, 40], [2, 8, 8, 513]] {
        for (chosen, residual) in [(0..3, false), (0..3, true), (1..3, true), (2..3, false)] {
            let x = several(shape, 3, DType::F64);
            let reference = |x: &[Tensor]| {
                let offset = if residual { 1.0 } else { 0.0 };
                let weighted = |t| x[0].broadcast_mul(&(x[1].narrow(3, t, 1)? + offset)?);
                let weighted =
                    chosen.clone().map(weighted).collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&weighted, 0)
            };
            assert_matches_candle(
                &x,
                1e-13,
                |x| attend_each(&x[0], &x[1], chosen.clone(), residual),
                reference,
            );
        }
    }
}

#[test]
fn each_gradients_agree_with_finite_differences() {
    for residual in [false, true] {
        let x = several([2, 3, 2, 5], 4, DType::F64);
        assert_gradients(&x, |x| attend_each(&x[0], &x[1], 1..4, residual));
    }
}

/// One map chosen of one is `attend`, to the bit.
#[test]
fn each_of_one_is_attend() {
    let x = inputs([2, 9, 9, 33], DType::F32);
    for residual in [false, true] {
        let (one, d_one) = gradients(&x, |x| attend(&x[0], &x[1], residual));
        let (each, d_each) = gradients(&x, |x| attend_each(&x[0], &x[1], 0..1, residual));
        assert_close(&each, &one, 0.0);
        for (each, one) in d_each.iter().zip(&d_one) {
            assert_close(each, one, 0.0);
        }
    }
}

#[test]
fn each_of_other_shapes_or_maps_is_an_error() {
    let [feature, maps] = several([2, 3, 4, 5], 3, DType::F32).map(Tracked::constant);
    for chosen in [0..4, 2..2, 3..4] {
        let error = attend_each(&feature, &maps, chosen, false).unwrap_err();
        assert!(matches!(error, Error::Config { op: "attend_each", .. }), "{error}");
    }
    let other = Tracked::constant(random(1, &[2, 4, 3, 3]));
    assert!(matches!(attend_each(&feature, &other, 0..1, false), Err(Error::Shape { .. })));
}

#[test]
fn each_needs_no_memory_for_shapes_alone() {
    let huge = |c| {
        let shape = (1 << 16, 1 << 10, 1 << 10, c);
        Tracked::constant(zeros_without_memory(shape, DType::F32).unwrap())
    };
    let (y, macs) = count_multiply_adds(|| attend_each(&huge(16), &huge(40), 0..4, true));
    assert_eq!((y.unwrap().dims(), macs), (&[1 << 18, 1 << 10, 1 << 10, 16][..], 0));
}

#[test]
fn threads_do_not_matter_to_each() {
    let x = several([8, 16, 16, 50], 5, DType::F32);
    assert_same_on_any_threads(|| {
        let (y, mut all) = gradients(&x, |x| attend_each(&x[0], &x[1], 0..5, true));
        all.push(y);
        all
    });
}
