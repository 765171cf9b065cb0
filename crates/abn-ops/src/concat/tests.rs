use candle_core::DType;

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, gradients,
    random,
};
use crate::{count_multiply_adds, elementwise, zeros_without_memory};

fn inputs(rest: &[usize], widths: &[usize]) -> Vec<Tensor> {
    let shapes = widths.iter().map(|&width| [rest, &[width]].concat());
    shapes.enumerate().map(|(i, shape)| random(i as u64, &shape)).collect()
}

fn all(parts: &[Tracked]) -> Result<Tracked> {
    concat(&parts.iter().collect::<Vec<_>>())
}

#[test]
fn matches_candle() {
    for (rest, widths) in [
        (&[][..], &[3][..]),
        (&[5], &[1, 2]),
        (&[2, 3, 4], &[24, 12]),
        (&[3, 32, 32], &[17, 1, 40, 5]),
        (&[2], &[20_000, 9]),
    ] {
        let x = inputs(rest, widths);
        assert_matches_candle(&x, 0.0, all, |x| Tensor::cat(x, rest.len()));
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    assert_gradients(&inputs(&[2, 3, 2], &[3, 1, 4]), all);
}

#[test]
fn a_part_that_comes_twice_gets_both_gradients() {
    let x = inputs(&[4], &[3]);
    let (_, twice) = gradients(&x, |x| concat(&[&x[0], &x[0]]));
    let (_, apart) = gradients(&[x[0].clone(), x[0].copy().unwrap()], all);
    assert_close(&twice[0], &(&apart[0] + &apart[1]).unwrap(), 1e-15);
}

#[test]
fn constants_get_no_gradient_and_change_nothing_for_the_rest() {
    let x = inputs(&[4, 2], &[3, 5]);
    let (_, both) = gradients(&x, all);
    let constant = Tracked::constant(x[0].clone());
    let (_, second) = gradients(&x[1..], |x| concat(&[&constant, &x[0]]));
    assert_close(&second[0], &both[1], 0.0);
    let y = concat(&[&constant, &constant]).unwrap();
    assert!(!y.is_tracked());
}

#[test]
fn the_gradient_passed_on_is_memory_of_its_own() {
    // Both paths to x write into their gradients.
    let x = inputs(&[4, 2], &[3]);
    let (_, dx) = gradients(&x, |x| {
        let y = elementwise::sigmoid(&x[0])?;
        concat(&[&elementwise::relu(&y)?, &elementwise::relu(&y)?])
    });
    let (_, expected) = crate::testing::candle_gradients(&x, |x| {
        let y = (x[0].neg()?.exp()? + 1.0)?.recip()?;
        Tensor::cat(&[&y, &y], 2)
    });
    assert_close(&dx[0], &expected[0], 1e-13);
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let of = |shape: &[usize]| Tracked::constant(random(1, shape));
    assert!(matches!(concat(&[]), Err(Error::Config { op: "concat", .. })));
    for (a, b) in [(&[2, 3, 4][..], &[3, 2, 4][..]), (&[2, 3, 4], &[2, 4]), (&[], &[1])] {
        let error = concat(&[&of(a), &of(b)]).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "concat", .. }), "{error}");
    }
    let other = Tracked::constant(random(1, &[2, 3]).to_dtype(DType::F32).unwrap());
    assert!(concat(&[&of(&[2, 3]), &other]).is_err());
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = |channels| {
        let shape = (1 << 16, 1 << 10, 1 << 10, channels);
        Tracked::constant(zeros_without_memory(shape, DType::F32).unwrap())
    };
    let (y, macs) = count_multiply_adds(|| concat(&[&huge(16), &huge(3)]));
    assert_eq!((y.unwrap().dims(), macs), (huge(19).dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = inputs(&[4, 24, 24], &[50, 12]);
    assert_same_on_any_threads(|| {
        let (y, mut dx) = gradients(&x, all);
        dx.push(y);
        dx
    });
}
