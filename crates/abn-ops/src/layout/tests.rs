use candle_core::DType;

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, random,
};
use crate::{count_multiply_adds, zeros_without_memory};

#[test]
fn layouts_match_candle() {
    for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [2, 1, 7, 3], [3, 70, 9, 8], [1, 33, 1, 1]] {
        let x = [random(1, &shape)];
        let permute = |x: &[Tensor]| x[0].permute((0, 2, 3, 1))?.contiguous();
        assert_matches_candle(&x, 0.0, |x| to_channels_last(&x[0]), permute);
        let permute = |x: &[Tensor]| x[0].permute((0, 3, 1, 2))?.contiguous();
        assert_matches_candle(&x, 0.0, |x| to_channels_first(&x[0]), permute);
    }
}

#[test]
fn there_and_back_is_the_same() {
    let x = Tracked::constant(random(1, &[3, 5, 40, 33]).to_dtype(DType::F32).unwrap());
    let y = to_channels_first(&to_channels_last(&x).unwrap()).unwrap();
    assert_close(y.value(), x.value(), 0.0);
}

#[test]
fn reshape_matches_candle() {
    let x = [random(1, &[4, 6])];
    assert_matches_candle(&x, 0.0, |x| reshape(&x[0], (2, 3, 4)), |x| x[0].reshape((2, 3, 4)));
}

#[test]
fn cast_gives_the_gradient_back_in_the_first_type() {
    let x = Tracked::leaf(random(1, &[4, 6]));
    let y = cast(&x, DType::F32).unwrap();
    assert_close(y.value(), &x.value().to_dtype(DType::F32).unwrap(), 0.0);
    let store = y.backward_from(y.value().clone()).unwrap();
    let grad = store.get(x.value()).unwrap();
    assert_eq!(grad.dtype(), DType::F64);
    assert_close(grad, y.value(), 0.0);
    assert!(cast(&y, DType::F32).unwrap().is_tracked(), "the same type is the same value");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let x = [random(1, &[2, 3, 4, 2])];
    assert_gradients(&x, |x| reshape(&to_channels_last(&x[0])?, (6, 8)));
    assert_gradients(&x, |x| to_channels_first(&x[0]));
}

#[test]
fn other_shapes_are_errors() {
    let x = Tracked::constant(random(1, &[4, 6]));
    for result in [to_channels_last(&x), to_channels_first(&x), reshape(&x, (5, 5))] {
        assert!(matches!(result, Err(Error::Shape { .. })), "{result:?}");
    }
}

#[test]
fn shapes_alone_take_no_memory() {
    let x = Tracked::constant(zeros_without_memory((1 << 20, 3, 1024, 2048), DType::F32).unwrap());
    let (y, macs) = count_multiply_adds(|| {
        let y = to_channels_last(&x)?;
        assert_eq!(y.dims(), [1 << 20, 1024, 2048, 3]);
        let y = to_channels_first(&y)?;
        assert_eq!(y.dims(), x.dims());
        reshape(&y, (3 << 20, 1 << 21))
    });
    assert_eq!((y.unwrap().dims(), macs), (&[3 << 20, 1 << 21][..], 0));
}

#[test]
fn threads_do_not_matter() {
    let x = random(1, &[5, 31, 20, 20]);
    assert_same_on_any_threads(|| {
        vec![to_channels_last(&Tracked::constant(x.clone())).unwrap().into_value()]
    });
}
