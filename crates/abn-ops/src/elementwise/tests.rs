use candle_core::{DType, Tensor};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, distinct,
    flat, gradients, random,
};
use crate::{count_multiply_adds, zeros_without_memory};

/// Small, not a multiple of a vector, and several chunks.
const SHAPES: [&[usize]; 3] = [&[], &[3, 5, 7], &[3, 37, 41, 8]];

#[test]
fn add_matches_candle() {
    for shape in SHAPES {
        let inputs = [random(1, shape), random(2, shape)];
        assert_matches_candle(&inputs, 0.0, |x| add(&x[0], &x[1]), |x| &x[0] + &x[1]);
    }
}

#[test]
fn add_of_one_value_twice_doubles_its_gradient() {
    let x = random(1, &[5]);
    let (y, dx) = gradients(std::slice::from_ref(&x), |x| add(&x[0], &x[0]));
    let (_, single) = gradients(&[x.clone(), random(2, &[5])], |x| add(&x[0], &x[1]));
    assert_close(&y, &(&x + &x).unwrap(), 0.0);
    assert_close(&dx[0], &(&single[0] * 2.0).unwrap(), 1e-15);
}

#[test]
fn add_with_a_constant_gives_the_other_its_gradient() {
    let (x, y) = (Tracked::leaf(random(1, &[4])), Tracked::constant(random(2, &[4])));
    for sum in [add(&x, &y).unwrap(), add(&y, &x).unwrap()] {
        let store = sum.backward_from(random(3, &[4])).unwrap();
        assert_close(store.get(x.value()).unwrap(), &random(3, &[4]), 0.0);
        assert!(store.get(y.value()).is_none());
    }
}

#[test]
fn relu_matches_candle() {
    for dtype in [DType::F32, DType::F64] {
        for shape in SHAPES {
            let x = [distinct(1, shape).to_dtype(dtype).unwrap()];
            assert_matches_candle(&x, 0.0, |x| relu(&x[0]), |x| x[0].relu());
        }
    }
}

#[test]
fn relu_passes_nan_and_has_no_gradient_at_zero() {
    let x = Tensor::new(&[f32::NAN, 0.0, -0.0, 1e-40], &candle_core::Device::Cpu).unwrap();
    let x = Tracked::leaf(x);
    let y = relu(&x).unwrap();
    assert!(flat(y.value())[0].is_nan());
    let store = y.backward_from(y.value().ones_like().unwrap()).unwrap();
    assert_eq!(flat(store.get(x.value()).unwrap())[1..], [0.0, 0.0, 1.0]);
}

#[test]
fn sigmoid_matches_its_formula() {
    for shape in SHAPES {
        let x = [(random(1, shape) * 6.0).unwrap()];
        assert_matches_candle(
            &x,
            1e-14,
            |x| sigmoid(&x[0]),
            |x| (x[0].neg()?.exp()? + 1.0)?.recip(),
        );
    }
}

#[test]
fn sigmoid_does_not_overflow() {
    let x = Tensor::new(&[-1e4f32, -100.0, 0.0, 100.0, 1e4], &candle_core::Device::Cpu).unwrap();
    let y = flat(sigmoid(&Tracked::constant(x)).unwrap().value());
    assert_eq!((y[0], y[2], y[4]), (0.0, 0.5, 1.0));
    assert!(y[1] > 0.0 && y[1] < 1e-43);
}

#[test]
fn gradients_agree_with_finite_differences() {
    let x = [distinct(1, &[2, 3, 5]), distinct(2, &[2, 3, 5])];
    assert_gradients(&x, |x| add(&relu(&x[0])?, &sigmoid(&x[1])?));
}

#[test]
fn views_are_taken_as_they_look() {
    let x = random(1, &[6, 5]).t().unwrap();
    let copy = x.force_contiguous().unwrap();
    for op in [relu, sigmoid, |x: &Tracked| add(x, x)] {
        let [a, b] = [&x, &copy].map(|x| op(&Tracked::constant(x.clone())).unwrap());
        assert_close(a.value(), b.value(), 0.0);
    }
}

#[test]
fn add_rejects_other_shapes() {
    let (a, b) = (Tracked::constant(random(1, &[2, 3])), Tracked::constant(random(1, &[3, 2])));
    let error = add(&a, &b).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "add", .. }), "{error}");
}

#[test]
fn number_types_without_a_kernel_are_an_error() {
    let x = Tracked::constant(random(1, &[2]).to_dtype(DType::U32).unwrap());
    assert!(matches!(relu(&x), Err(Error::Unsupported { op: "relu", .. })));
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = Tracked::constant(zeros_without_memory((1 << 20, 1 << 21), DType::F32).unwrap());
    let (result, macs) = count_multiply_adds(|| sigmoid(&relu(&add(&huge, &huge)?)?));
    assert_eq!((result.unwrap().dims(), macs), (huge.dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = random(1, &[100_000]).to_dtype(DType::F32).unwrap();
    assert_same_on_any_threads(|| {
        let (y, mut dx) = gradients(std::slice::from_ref(&x), |x| sigmoid(&relu(&x[0])?));
        dx.push(y);
        dx
    });
}

#[test]
fn guided_relu_lets_positive_gradients_of_positive_values_through() {
    let x =
        Tracked::leaf(Tensor::new(&[1.0f32, 1.0, -1.0, -1.0], &candle_core::Device::Cpu).unwrap());
    let grad = Tensor::new(&[2.0f32, -2.0, 2.0, -2.0], &candle_core::Device::Cpu).unwrap();
    let plain = relu(&x).unwrap().backward_from(grad.clone()).unwrap();
    assert_eq!(flat(plain.get(x.value()).unwrap()), [2.0, -2.0, 0.0, 0.0]);
    let y = crate::guided(|| relu(&x).unwrap());
    assert_eq!(flat(y.value()), [1.0, 1.0, 0.0, 0.0]);
    let guided = y.backward_from(grad).unwrap();
    assert_eq!(flat(guided.get(x.value()).unwrap()), [2.0, 0.0, 0.0, 0.0]);
}
