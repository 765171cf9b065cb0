use candle_core::{DType, Tensor};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, distinct,
    flat, gradients, random,
};
use crate::{count_multiply_adds, zeros_without_memory};

fn inputs([n, h, w, c]: [usize; 4]) -> [Tensor; 3] {
    [random(1, &[n, h, w, c]), random(2, &[n, c]), random(3, &[n, h, w, c])]
}

#[test]
fn matches_candle() {
    for shape in [[1, 1, 1, 1], [2, 3, 5, 1], [2, 3, 3, 7], [3, 16, 16, 40], [2, 2, 2, 20_000]] {
        let x = inputs(shape);
        let [n, _, _, c] = shape;
        assert_matches_candle(
            &x,
            1e-13,
            |x| excite(&x[0], &x[1], &x[2]),
            |x| (x[0].broadcast_mul(&x[1].reshape((n, 1, 1, c))?)? + &x[2])?.relu(),
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    // The products are smaller than the residual is anywhere, so no kink is near.
    let residual = distinct(3, &[2, 3, 2, 5]);
    let x = (random(1, &[2, 3, 2, 5]) * 1e-2).unwrap();
    assert_gradients(&[x, random(2, &[2, 5]), residual], |x| excite(&x[0], &x[1], &x[2]));
}

#[test]
fn a_constant_input_changes_nothing_for_the_others() {
    let x = inputs([2, 3, 3, 9]);
    let (_, all) = gradients(&x, |x| excite(&x[0], &x[1], &x[2]));
    for which in 0..3 {
        let (_, one) = gradients(&x[which..=which], |leaf| {
            let mut inputs = x.clone().map(Tracked::constant);
            inputs[which] = leaf[0].clone();
            excite(&inputs[0], &inputs[1], &inputs[2])
        });
        assert_close(&one[0], &all[which], 0.0);
    }
}

#[test]
fn guided_is_the_guided_relu_after_it() {
    let [x, scale, residual] = inputs([2, 3, 3, 9]);
    let (_, plain) = gradients(std::slice::from_ref(&residual), |r| excite_with(&x, &scale, &r[0]));
    let (_, guided) = crate::guided(|| {
        gradients(std::slice::from_ref(&residual), |r| excite_with(&x, &scale, &r[0]))
    });
    assert_close(&guided[0], &plain[0].relu().unwrap(), 0.0);
    assert!(flat(&plain[0]).iter().any(|gradient| *gradient < 0.0));
}

fn excite_with(x: &Tensor, scale: &Tensor, residual: &Tracked) -> Result<Tracked> {
    excite(&Tracked::constant(x.clone()), &Tracked::constant(scale.clone()), residual)
}

#[test]
fn other_shapes_are_errors() {
    let of = |shape: &[usize]| Tracked::constant(random(1, shape));
    let x = of(&[2, 3, 4, 5]);
    for (scale, residual) in [
        (&[2, 4][..], &[2, 3, 4, 5][..]),
        (&[1, 5], &[2, 3, 4, 5]),
        (&[2, 1, 1, 5], &[2, 3, 4, 5]),
        (&[2, 5], &[2, 4, 3, 5]),
    ] {
        let error = excite(&x, &of(scale), &of(residual)).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "excite", .. }), "{error}");
    }
    let flat = of(&[2, 5]);
    assert!(matches!(excite(&flat, &flat, &flat), Err(Error::Shape { .. })));
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge =
        |shape: &[usize]| Tracked::constant(zeros_without_memory(shape, DType::F32).unwrap());
    let x = huge(&[1 << 16, 1 << 10, 1 << 10, 16]);
    let (y, macs) = count_multiply_adds(|| excite(&x, &huge(&[1 << 16, 16]), &x));
    assert_eq!((y.unwrap().dims(), macs), (x.dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = inputs([4, 24, 24, 50]).map(|x| x.to_dtype(DType::F32).unwrap());
    assert_same_on_any_threads(|| {
        let (y, mut all) = gradients(&x, |x| excite(&x[0], &x[1], &x[2]));
        all.push(y);
        all
    });
}
