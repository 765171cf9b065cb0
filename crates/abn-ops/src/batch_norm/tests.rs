use candle_core::{D, DType, Device, Tensor, Var};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, deviation,
    distinct, flat, gradients, random, sharing,
};
use crate::{count_multiply_adds, relu as relu_op, zeros_without_memory};

const EPS: f64 = 1e-5;

/// Every combination of residual, ReLU and training.
fn variants() -> impl Iterator<Item = (bool, bool, bool)> {
    (0..8).map(|i| (i & 1 != 0, i & 2 != 0, i & 4 != 0))
}

/// x, weight, bias and perhaps a residual.
fn inputs(shape: &[usize], residual: bool, dtype: DType) -> Vec<Tensor> {
    let c = shape[shape.len() - 1];
    let mut inputs = vec![
        ((distinct(1, shape) * 2.0).unwrap() + 0.5).unwrap(),
        (random(2, &[c]) + 1.5).unwrap(),
        random(3, &[c]),
    ];
    if residual {
        inputs.push(random(4, shape));
    }
    inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect()
}

/// Running mean and variance before the operation.
fn running(c: usize, dtype: DType) -> [Tensor; 2] {
    [random(5, &[c]), (random(6, &[c]) + 1.5).unwrap()].map(|t| t.to_dtype(dtype).unwrap())
}

fn apply(x: &[Tracked], running: &[Tensor; 2], relu: bool, train: bool) -> Result<Tracked> {
    let [running_mean, running_var] = running;
    let (weight, bias) = (&x[1], &x[2]);
    let bn = BatchNorm { weight, bias, running_mean, running_var, momentum: 0.1, eps: EPS };
    batch_norm(&x[0], &bn, x.get(3), relu, train)
}

/// The definition, in candle's operations.
fn reference(
    x: &[Tensor],
    running: &[Tensor; 2],
    relu: bool,
    train: bool,
) -> candle_core::Result<Tensor> {
    let c = x[1].dims()[0];
    let rows = x[0].reshape(((), c))?;
    let (mean, var) = if train {
        let mean = rows.mean_keepdim(0)?;
        let var = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        (mean, var)
    } else {
        (running[0].reshape((1, c))?, running[1].reshape((1, c))?)
    };
    let y = rows.broadcast_sub(&mean)?.broadcast_div(&(var + EPS)?.sqrt()?)?;
    let mut y = y.broadcast_mul(&x[1])?.broadcast_add(&x[2])?.reshape(x[0].shape())?;
    if let Some(residual) = x.get(3) {
        y = (y + residual)?;
    }
    if relu { y.relu() } else { Ok(y) }
}

#[test]
fn matches_the_definition() {
    // One channel, channels that fill no vector, many; one chunk and several.
    let shapes: [&[usize]; 7] = [
        &[2, 1],
        &[7, 3],
        &[2, 5, 3, 10],
        &[3, 20, 20, 16],
        &[2, 200, 100, 1],
        &[40, 6, 5, 33],
        &[1, 8, 8, 1100],
    ];
    for shape in shapes {
        for (residual, relu, train) in variants() {
            let inputs = inputs(shape, residual, DType::F64);
            let running = running(shape[shape.len() - 1], DType::F64);
            assert_matches_candle(
                &inputs,
                1e-9,
                |x| {
                    let running = [running[0].copy()?, running[1].copy()?];
                    apply(x, &running, relu, train)
                },
                |x| reference(x, &running, relu, train),
            );
        }
    }
}

#[test]
fn single_precision_is_as_good_as_it_can_be() {
    let shape = &[8, 16, 16, 20];
    for (residual, relu, train) in variants() {
        let run = |dtype| {
            let inputs = inputs(shape, residual, dtype);
            // Without the ReLU where its mask depends on the rounding.
            gradients(&inputs, |x| {
                let y = apply(x, &running(20, dtype), false, train)?;
                if relu { relu_op(&y) } else { Ok(y) }
            })
        };
        let ((y, dx), (expected, expected_dx)) = (run(DType::F32), run(DType::F64));
        assert_close(&y, &expected, 1e-6);
        for (dx, expected) in dx.iter().zip(&expected_dx) {
            assert_close(dx, expected, 2e-5);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (residual, relu, train) in variants() {
        let inputs = inputs(&[3, 2, 2, 3], residual, DType::F64);
        let running = running(3, DType::F64);
        assert_gradients(&inputs, |x| {
            let running = [running[0].copy()?, running[1].copy()?];
            apply(x, &running, relu, train)
        });
    }
}

#[test]
fn fusing_changes_nothing() {
    let inputs = inputs(&[4, 9, 9, 12], true, DType::F32);
    for train in [false, true] {
        let fused = gradients(&inputs, |x| apply(x, &running(12, DType::F32), true, train));
        let apart = gradients(&inputs, |x| {
            let y = apply(&x[..3], &running(12, DType::F32), false, train)?;
            relu_op(&crate::add(&y, &x[3])?)
        });
        assert_close(&fused.0, &apart.0, 0.0);
        for (fused, apart) in fused.1.iter().zip(&apart.1) {
            assert_close(fused, apart, 0.0);
        }
    }
}

#[test]
fn running_statistics_follow_pytorch() {
    // Channel 0: 1, 2, 3, 6; mean 3, biased variance 3.5, unbiased 14/3. Channel 1: constant.
    let x = Tensor::new(&[[1f32, 5.], [2., 5.], [3., 5.], [6., 5.]], &Device::Cpu).unwrap();
    let ones = Tracked::constant(Tensor::ones(2, DType::F32, &Device::Cpu).unwrap());
    let running_mean = Var::new(&[1f32, 1.], &Device::Cpu).unwrap();
    let running_var = Var::new(&[2f32, 2.], &Device::Cpu).unwrap();
    let bn = BatchNorm {
        weight: &ones,
        bias: &ones,
        running_mean: &running_mean,
        running_var: &running_var,
        momentum: 0.25,
        eps: EPS,
    };
    batch_norm(&Tracked::constant(x.clone()), &bn, None, false, false).unwrap();
    assert_eq!(flat(&running_mean), [1.0, 1.0], "evaluation changes nothing");
    let y = batch_norm(&Tracked::constant(x), &bn, None, false, true).unwrap();
    assert_eq!(flat(&running_mean), [1.5, 2.0]);
    assert_eq!(flat(&running_var), [f64::from((1.5 + 0.25 * 14.0 / 3.0) as f32), 1.5]);
    assert_eq!(flat(y.value())[1], 1.0, "a constant channel is the bias");
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    let offset = 4096.0;
    let base = random(1, &[64, 12, 12, 16]);
    let x = (&base + offset).unwrap().to_dtype(DType::F32).unwrap();
    // What f32 holds of x, in f64.
    let exact = x.to_dtype(DType::F64).unwrap();
    let parameters = |dtype| {
        [
            Tensor::ones(16, dtype, &Device::Cpu).unwrap(),
            Tensor::zeros(16, dtype, &Device::Cpu).unwrap(),
        ]
        .map(Tracked::constant)
    };
    let run = |x: &Tensor| {
        let [weight, bias] = parameters(x.dtype());
        let inputs = [Tracked::constant(x.clone()), weight, bias];
        let running = running(16, x.dtype());
        let y = apply(&inputs, &running, false, true).unwrap().into_value();
        (y, running)
    };
    let ((y, stats), (expected, expected_stats)) = (run(&x), run(&exact));
    // Half a unit in the last place of 4096 is 2.4e-4, of a value of standard deviation 0.58.
    assert!(deviation(&y, &expected) < 3e-4);
    for (stat, expected) in stats.iter().zip(&expected_stats) {
        assert_close(stat, expected, 1e-7);
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_the_input_the_same() {
    let inputs = inputs(&[3, 4, 4, 5], true, DType::F64);
    for train in [false, true] {
        let (_, all) = gradients(&inputs, |x| apply(x, &running(5, DType::F64), true, train));
        let (_, only_x) = gradients(&inputs[..1], |x| {
            let frozen = |i: usize| Tracked::constant(inputs[i].clone());
            let x = [x[0].clone(), frozen(1), frozen(2), frozen(3)];
            apply(&x, &running(5, DType::F64), true, train)
        });
        assert_close(&only_x[0], &all[0], 0.0);
        let (_, only_rest) = gradients(&inputs[3..], |x| {
            let frozen = |i: usize| Tracked::constant(inputs[i].clone());
            let x = [frozen(0), frozen(1), frozen(2), x[0].clone()];
            apply(&x, &running(5, DType::F64), true, train)
        });
        assert_close(&only_rest[0], &all[3], 0.0);
    }
}

#[test]
fn threads_do_not_matter() {
    let inputs = inputs(&[16, 32, 32, 17], true, DType::F32);
    assert_same_on_any_threads(|| {
        let running = running(17, DType::F32);
        let (y, mut all) = gradients(&inputs, |x| apply(x, &running, true, true));
        all.push(y);
        all.extend(running);
        all
    });
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let good = inputs(&[4, 3], true, DType::F32);
    let other = inputs(&[4, 2], true, DType::F32);
    for wrong in 1..4 {
        let mut x = good.clone();
        x[wrong] = other[wrong].clone();
        let x: Vec<_> = x.into_iter().map(Tracked::constant).collect();
        let error = apply(&x, &running(3, DType::F32), true, true).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "batch_norm", .. }), "{error}");
    }
    let x: Vec<_> = good.into_iter().map(Tracked::constant).collect();
    assert!(matches!(apply(&x, &running(2, DType::F32), true, true), Err(Error::Shape { .. })));
    let scalar = [vec![Tracked::constant(x[1].value().clone())], x[1..3].to_vec()].concat();
    assert!(matches!(
        apply(&scalar, &running(3, DType::F32), true, true),
        Err(Error::Shape { .. })
    ));
}

#[test]
fn one_value_per_channel_cannot_be_trained_on() {
    let x: Vec<_> =
        inputs(&[1, 1, 1, 6], false, DType::F32).into_iter().map(Tracked::constant).collect();
    let error = apply(&x, &running(6, DType::F32), false, true).unwrap_err().to_string();
    assert!(error.contains("more than one value per channel"), "{error}");
    assert!(apply(&x, &running(6, DType::F32), false, false).is_ok());
}

#[test]
fn shapes_alone_take_no_memory_and_leave_the_statistics() {
    let huge =
        Tracked::constant(zeros_without_memory((1 << 20, 1024, 1024, 4), DType::F32).unwrap());
    let running = running(4, DType::F32);
    let before = running[0].mean(D::Minus1).unwrap();
    let [weight, bias] =
        [2, 3].map(|seed| Tracked::constant(random(seed, &[4]).to_dtype(DType::F32).unwrap()));
    let x = [huge.clone(), weight, bias, huge.clone()];
    let (y, macs) = count_multiply_adds(|| apply(&x, &running, true, true));
    assert_eq!((y.unwrap().dims(), macs), (huge.dims(), 0));
    assert_close(&running[0].mean(D::Minus1).unwrap(), &before, 0.0);
}

/// The fused ReLU against a batch norm followed by the ReLU on its own, both guided.
#[test]
fn guided_is_the_guided_relu_after_it() {
    let shape = [2, 5, 3, 10];
    for (residual, train) in [(false, false), (true, false), (false, true), (true, true)] {
        let x = inputs(&shape, residual, DType::F64);
        let fused = |x: &[Tracked]| apply(x, &running(10, DType::F64), true, train);
        let apart =
            |x: &[Tracked]| relu_op(&apply(x, &running(10, DType::F64), false, train).unwrap());
        let (_, plain) = gradients(&x, fused);
        let (y, found) = crate::guided(|| gradients(&x, fused));
        let (expected_y, expected) = crate::guided(|| gradients(&x, apart));
        assert_close(&y, &expected_y, 0.0);
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 1e-12);
        }
        assert!(deviation(&found[0], &plain[0]) > 1e-3, "guiding changes the gradient");
    }
}

/// x, weight, bias and perhaps a residual, of `parts` batches one after the other.
fn apply_parts(x: &[Tracked], running: &[Tensor; 2], relu: bool, parts: usize) -> Result<Tracked> {
    let [running_mean, running_var] = running;
    let (weight, bias) = (&x[1], &x[2]);
    let bn = BatchNorm { weight, bias, running_mean, running_var, momentum: 0.1, eps: EPS };
    batch_norm_parts(&x[0], &bn, x.get(3), relu, parts)
}

/// The part `i` of `count` of what has the batch, and the parameters as they are.
fn part(inputs: &[Tensor], i: usize, count: usize) -> Vec<Tensor> {
    let narrow = |x: &Tensor| {
        let n = x.dims()[0] / count;
        x.narrow(0, i * n, n).unwrap().contiguous().unwrap()
    };
    let cut = |(which, x): (usize, &Tensor)| if which % 3 == 0 { narrow(x) } else { x.clone() };
    inputs.iter().enumerate().map(cut).collect()
}

/// Values, running statistics and gradients against one part after the other: to the bit where
/// nothing is summed over the parts.
#[test]
fn parts_are_batches_of_their_own() {
    const PARTS: usize = 3;
    for dtype in [DType::F32, DType::F64] {
        // One chunk and several in a part.
        for shape in [[6, 2, 2, 5], [6, 40, 40, 33]] {
            for (residual, relu, _) in variants().filter(|v| v.2) {
                let inputs = inputs(&shape, residual, dtype);
                let together = running(shape[3], dtype);
                let apart = running(shape[3], dtype);
                let before = running(shape[3], dtype);
                let (y, found) = gradients(&inputs, |x| apply_parts(x, &together, relu, PARTS));
                let weights = random(0x5eed, y.dims()).to_dtype(dtype).unwrap();
                let mut sums = [1, 2].map(|i: usize| inputs[i].zeros_like().unwrap());
                for i in 0..PARTS {
                    let inputs = part(&inputs, i, PARTS);
                    let leaves: Vec<_> = inputs.iter().map(|x| Tracked::leaf(x.clone())).collect();
                    let expected = apply(&leaves, &apart, relu, true).unwrap();
                    let cut = |x: &Tensor| part(std::slice::from_ref(x), i, PARTS).remove(0);
                    assert_close(&cut(&y), expected.value(), 0.0);
                    let store = expected.backward_from(cut(&weights)).unwrap();
                    for which in (0..inputs.len()).step_by(3) {
                        assert_close(&cut(&found[which]), store.get(&inputs[which]).unwrap(), 0.0);
                    }
                    for (sum, which) in sums.iter_mut().zip([1, 2]) {
                        *sum = (&*sum + store.get(&inputs[which]).unwrap()).unwrap();
                    }
                }
                let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-14 };
                assert_close(&found[1], &sums[0], tolerance);
                assert_close(&found[2], &sums[1], tolerance);
                for i in 0..2 {
                    assert_close(&together[i], &apart[i], 0.0);
                    assert!(deviation(&together[i], &before[i]) > 1e-3, "statistics move");
                }
            }
        }
    }
}

#[test]
fn gradients_of_parts_agree_with_finite_differences() {
    for (residual, relu, _) in variants().filter(|v| v.2) {
        let inputs = inputs(&[6, 2, 1, 3], residual, DType::F64);
        assert_gradients(&inputs, |x| apply_parts(x, &running(3, DType::F64), relu, 3));
    }
}

#[test]
fn threads_do_not_matter_to_parts() {
    let inputs = inputs(&[10, 16, 32, 17], true, DType::F32);
    assert_same_on_any_threads(|| {
        let running = running(17, DType::F32);
        let (y, mut all) = gradients(&inputs, |x| apply_parts(x, &running, true, 5));
        all.push(y);
        all.extend(running);
        all
    });
}

#[test]
fn parts_that_do_not_divide_the_batch_are_errors() {
    let of = |shape: &[usize]| -> Vec<_> {
        inputs(shape, false, DType::F32).into_iter().map(Tracked::constant).collect()
    };
    for parts in [0, 3] {
        let error = apply_parts(&of(&[4, 5]), &running(5, DType::F32), true, parts).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "batch_norm", .. }), "{error}");
    }
    let error = apply_parts(&of(&[4, 5]), &running(5, DType::F32), true, 4).unwrap_err();
    assert!(error.to_string().contains("more than one value per channel"), "{error}");
}

/// Output, running statistics and gradients of x, weight, bias and residual of a part of a batch.
fn rows_of(inputs: &[Tensor], rows: (usize, usize), relu: bool, share: f64) -> Vec<Tensor> {
    let cut = |tensor: &Tensor| tensor.narrow(0, rows.0, rows.1).unwrap().contiguous().unwrap();
    let mut x: Vec<Tracked> = inputs.iter().map(|x| Tracked::leaf(x.clone())).collect();
    x[0] = Tracked::leaf(cut(&inputs[0]));
    x[3] = Tracked::leaf(cut(&inputs[3]));
    let statistics = running(inputs[1].dims()[0], inputs[0].dtype());
    let y = apply(&x, &statistics, relu, true).unwrap();
    let weights = cut(&random(9, inputs[0].dims()).to_dtype(y.value().dtype()).unwrap());
    let store = y.backward_from((weights * share).unwrap()).unwrap();
    let gradients = x.iter().map(|x| store.get(x.value()).unwrap().clone());
    let [mean, var] = statistics;
    [y.value().clone(), mean, var].into_iter().chain(gradients).collect()
}

#[test]
fn parts_of_a_shared_batch_are_the_whole() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        for relu in [false, true] {
            let mut inputs = inputs(&[7, 3, 2, 5], true, dtype);
            // Far from zero, where sums of squares lose digits.
            inputs[0] = (&inputs[0] + 30.0).unwrap();
            let whole = rows_of(&inputs, (0, 7), relu, 1.0);
            // The third has one row, and the fourth only keeps step: its rows and the gradients
            // of parts that do not count are nobody's.
            let rows = [(0, 4), (4, 2), (6, 1), (2, 2)];
            let parts = sharing(&[true, true, true, false], |index| {
                rows_of(&inputs, rows[index], relu, if index < 3 { 1.0 } else { 0.0 })
            });
            for (index, (start, count)) in rows[..3].iter().copied().enumerate() {
                // Output, x's gradient, the residual's.
                for which in [0, 3, 6] {
                    let expected = whole[which].narrow(0, start, count).unwrap();
                    assert_close(&parts[index][which], &expected, tolerance);
                }
            }
            for which in [3, 6] {
                let none = flat(&parts[3][which]);
                assert!(none.iter().all(|&gradient| gradient == 0.0), "{none:?}");
            }
            for part in &parts {
                for which in [1, 2] {
                    assert_close(&part[which], &whole[which], tolerance);
                    assert_eq!(
                        flat(&part[which]),
                        flat(&parts[0][which]),
                        "statistics drift apart"
                    );
                }
            }
            for which in [4, 5] {
                let sum = parts
                    .iter()
                    .skip(1)
                    .fold(parts[0][which].clone(), |sum, part| (sum + &part[which]).unwrap());
                assert_close(&sum, &whole[which], tolerance);
            }
        }
    }
}

#[test]
fn a_shared_batch_of_one_value_is_refused() {
    let inputs = inputs(&[1, 3], false, DType::F32);
    let said = sharing(&[true, false], |_| {
        let x: Vec<Tracked> = inputs.iter().map(|x| Tracked::constant(x.clone())).collect();
        apply(&x, &running(3, DType::F32), false, true).unwrap_err().to_string()
    });
    assert!(said.iter().all(|said| said.contains("over all processes")), "{said:?}");
}
