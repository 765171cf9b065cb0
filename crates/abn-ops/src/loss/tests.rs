use candle_core::{D, DType, Device, Tensor};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_matches_candle, assert_same_on_any_threads, flat,
    gradients, random,
};
use crate::{count_multiply_adds, zeros_without_memory};

fn labels(n: usize, k: usize) -> Tensor {
    let labels: Vec<u32> = (0..n).map(|i| (i * 7 % k) as u32).collect();
    Tensor::from_vec(labels, n, &Device::Cpu).unwrap()
}

/// The definition: log-softmax, then the mean over the labels' entries.
fn cross_entropy_reference(logits: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
    let exp = logits.exp()?;
    let probabilities = exp.broadcast_div(&exp.sum_keepdim(1)?)?;
    probabilities.log()?.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

/// The definition: cross-entropy against the smoothed one-hot targets.
fn smoothed_reference(
    logits: &Tensor,
    labels: &Tensor,
    smoothing: f64,
) -> candle_core::Result<Tensor> {
    let (n, k) = logits.dims2()?;
    let exp = logits.exp()?;
    let log = exp.broadcast_div(&exp.sum_keepdim(1)?)?.log()?;
    let one_hot = Tensor::eye(k, DType::F64, &Device::Cpu)?.index_select(labels, 0)?;
    let targets = ((one_hot * (1.0 - smoothing))? + smoothing / k as f64)?;
    (targets * log)?.sum_all()?.neg()? / n as f64
}

fn bce_reference(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let p = (logits.neg()?.exp()? + 1.0)?.recip()?;
    let positive = (targets * p.log()?)?;
    let negative = ((1.0 - targets)? * (1.0 - &p)?.log()?)?;
    (positive + negative)?.mean_all()?.neg()
}

#[test]
fn cross_entropy_matches_candle() {
    for (n, k) in [(1, 2), (5, 3), (64, 100), (200, 10)] {
        let (x, labels) = ([(random(1, &[n, k]) * 5.0).unwrap()], labels(n, k));
        assert_matches_candle(
            &x,
            1e-12,
            |x| softmax_cross_entropy(&x[0], &labels),
            |x| cross_entropy_reference(&x[0], &labels),
        );
    }
}

#[test]
fn smoothed_cross_entropy_matches_candle() {
    for (n, k) in [(1, 2), (5, 3), (64, 100)] {
        for smoothing in [0.0, 0.1, 0.5, 1.0] {
            let (x, labels) = ([(random(1, &[n, k]) * 5.0).unwrap()], labels(n, k));
            assert_matches_candle(
                &x,
                1e-12,
                |x| smoothed_softmax_cross_entropy(&x[0], &labels, smoothing),
                |x| smoothed_reference(&x[0], &labels, smoothing),
            );
        }
    }
}

#[test]
fn smoothed_cross_entropy_is_pytorchs() {
    // F.cross_entropy(x, [2, 1], label_smoothing) and its gradient, in float64.
    let x = [Tensor::new(&[[0.5f64, -1.25, 2.0], [3.0, 0.25, -0.75]], &Device::Cpu).unwrap()];
    let labels = Tensor::new(&[2u32, 1], &Device::Cpu).unwrap();
    for (smoothing, loss, gradient) in [
        (
            0.1,
            1.5832267246689071,
            [
                [0.07174342438705548, -0.0013032965034484503, -0.07044012788360704],
                [0.4431264455153234, -0.4372730764072963, -0.005853369108027138],
            ],
        ),
        (
            1.0,
            2.033226724668907,
            [
                [-0.07825657561294451, -0.15130329650344845, 0.22955987211639298],
                [0.2931264455153234, -0.13727307640729627, -0.15585336910802713],
            ],
        ),
    ] {
        let leaf = Tracked::leaf(x[0].clone());
        let y = smoothed_softmax_cross_entropy(&leaf, &labels, smoothing).unwrap();
        assert_close(y.value(), &Tensor::new(loss, &Device::Cpu).unwrap(), 1e-14);
        let store = y.backward().unwrap();
        let expected = Tensor::new(&gradient, &Device::Cpu).unwrap();
        assert_close(store.get(&x[0]).unwrap(), &expected, 1e-14);
    }
}

#[test]
fn no_smoothing_changes_no_bit() {
    let x = [(random(1, &[70, 10]) * 9.0).unwrap().to_dtype(DType::F32).unwrap()];
    let plain = gradients(&x, |x| softmax_cross_entropy(&x[0], &labels(70, 10)));
    let smooth = gradients(&x, |x| smoothed_softmax_cross_entropy(&x[0], &labels(70, 10), 0.0));
    assert_eq!(flat(&plain.0), flat(&smooth.0));
    assert_eq!(flat(&plain.1[0]), flat(&smooth.1[0]));
    // Certain answers have no finite loss in all other classes; at 0 that must not matter.
    let certain = Tensor::new(&[[0f32, f32::NEG_INFINITY]], &Device::Cpu).unwrap();
    let loss = softmax_cross_entropy(&Tracked::constant(certain), &labels(1, 2)).unwrap();
    assert_eq!(flat(loss.value()), [0.0]);
}

#[test]
fn bce_matches_candle() {
    for shape in [&[1][..], &[5, 3], &[64, 40], &[2, 3, 4]] {
        let x = [(random(1, shape) * 5.0).unwrap()];
        let hard = random(2, shape).ge(0.0).unwrap().to_dtype(DType::F64).unwrap();
        let soft = ((random(3, shape) + 1.0).unwrap() / 2.0).unwrap();
        for targets in [hard, soft] {
            assert_matches_candle(
                &x,
                1e-12,
                |x| bce_with_logits(&x[0], &targets),
                |x| bce_reference(&x[0], &targets),
            );
        }
    }
}

#[test]
fn softmax_matches_candle() {
    for shape in [&[4][..], &[5, 1], &[3, 10], &[2, 3, 7]] {
        let x = (random(1, shape) * 5.0).unwrap();
        let exp = x.exp().unwrap();
        let expected = exp.broadcast_div(&exp.sum_keepdim(D::Minus1).unwrap()).unwrap();
        assert_close(&softmax(&x).unwrap(), &expected, 1e-14);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let x = [random(1, &[6, 4])];
    let targets = ((random(2, &[6, 4]) + 1.0).unwrap() / 2.0).unwrap();
    assert_gradients(&x, |x| softmax_cross_entropy(&x[0], &labels(6, 4)));
    for smoothing in [0.1, 1.0] {
        assert_gradients(&x, |x| smoothed_softmax_cross_entropy(&x[0], &labels(6, 4), smoothing));
    }
    assert_gradients(&x, |x| bce_with_logits(&x[0], &targets));
}

#[test]
fn huge_logits_do_not_overflow() {
    let x = [Tensor::new(&[[1e30f32, 0.0, -1e30], [-200.0, -1e4, 200.0]], &Device::Cpu).unwrap()];
    let labels = Tensor::new(&[0u32, 0], &Device::Cpu).unwrap();
    let leaf = Tracked::leaf(x[0].clone());
    let loss = softmax_cross_entropy(&leaf, &labels).unwrap();
    assert_eq!(flat(loss.value()), [200.0]);
    let store = loss.backward().unwrap();
    assert_eq!(flat(store.get(&x[0]).unwrap()), [0.0, 0.0, 0.0, -0.5, 0.0, 0.5]);
    assert_eq!(flat(&softmax(&x[0]).unwrap())[..3], [1.0, 0.0, 0.0]);

    let x = Tensor::new(&[1e4f32, -1e4, 1e4, -1e4], &Device::Cpu).unwrap();
    let targets = Tensor::new(&[1f32, 0., 0., 1.], &Device::Cpu).unwrap();
    let leaf = Tracked::leaf(x.clone());
    let loss = bce_with_logits(&leaf, &targets).unwrap();
    assert_eq!(flat(loss.value()), [5000.0]);
    assert_eq!(flat(loss.backward().unwrap().get(&x).unwrap()), [0.0, 0.0, 0.25, -0.25]);
}

#[test]
fn nearly_certain_answers_keep_their_small_loss() {
    // -log(σ(40)) = e^-40 to first order, which `1 + e^-40` in f64 would lose.
    let x = Tracked::constant(Tensor::new(&[40f64], &Device::Cpu).unwrap());
    let loss = bce_with_logits(&x, &Tensor::new(&[1f64], &Device::Cpu).unwrap()).unwrap();
    assert_close(loss.value(), &Tensor::new((-40f64).exp(), &Device::Cpu).unwrap(), 1e-12);
}

#[test]
fn a_label_out_of_range_names_its_sample() {
    let x = Tracked::constant(random(1, &[3, 10]));
    let labels = Tensor::new(&[1u32, 9, 10], &Device::Cpu).unwrap();
    let error = softmax_cross_entropy(&x, &labels).unwrap_err();
    assert!(matches!(error, Error::Label { sample: 2, label: 10, classes: 10, .. }), "{error}");
    let message =
        "softmax_cross_entropy: label 10 of sample 2 is not below the number of classes, 10";
    assert_eq!(error.to_string(), message);
}

#[test]
fn other_shapes_and_types_are_errors() {
    let x = Tracked::constant(random(1, &[3, 10]));
    for wrong in [labels(2, 10), labels(3, 10).reshape((3, 1)).unwrap()] {
        assert!(matches!(softmax_cross_entropy(&x, &wrong), Err(Error::Shape { .. })));
    }
    let signed = labels(3, 10).to_dtype(DType::I64).unwrap();
    assert!(matches!(softmax_cross_entropy(&x, &signed), Err(Error::Unsupported { .. })));
    for smoothing in [-0.1, 1.1, f64::NAN] {
        let failed = smoothed_softmax_cross_entropy(&x, &labels(3, 10), smoothing);
        assert!(matches!(failed, Err(Error::Config { .. })));
    }
    let flat = Tracked::constant(random(1, &[30]));
    assert!(matches!(softmax_cross_entropy(&flat, &labels(30, 10)), Err(Error::Shape { .. })));
    let empty = Tracked::constant(Tensor::zeros((0, 10), DType::F32, &Device::Cpu).unwrap());
    assert!(matches!(softmax_cross_entropy(&empty, &labels(0, 1)), Err(Error::Shape { .. })));
    assert!(matches!(bce_with_logits(&x, &random(1, &[3, 9])), Err(Error::Shape { .. })));
    assert!(matches!(bce_with_logits(&empty, empty.value()), Err(Error::Shape { .. })));
    let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
    assert!(matches!(softmax(&scalar), Err(Error::Shape { .. })));
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = Tracked::constant(zeros_without_memory((1 << 20, 1 << 22), DType::F32).unwrap());
    let labels = zeros_without_memory(1 << 20, DType::U32).unwrap();
    let (results, macs) = count_multiply_adds(|| {
        let losses = [softmax_cross_entropy(&huge, &labels), bce_with_logits(&huge, huge.value())];
        (losses.map(|loss| loss.unwrap()), softmax(huge.value()).unwrap())
    });
    let (losses, probabilities) = results;
    assert!(losses.iter().all(|loss| loss.dims().is_empty()));
    assert_eq!((probabilities.dims(), macs), (huge.dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = [random(1, &[300, 50]).to_dtype(DType::F32).unwrap()];
    let targets = random(2, &[300, 50]).ge(0.0).unwrap().to_dtype(DType::F32).unwrap();
    assert_same_on_any_threads(|| {
        let (a, da) = gradients(&x, |x| softmax_cross_entropy(&x[0], &labels(300, 50)));
        let (b, db) = gradients(&x, |x| bce_with_logits(&x[0], &targets));
        [vec![a, b, softmax(&x[0]).unwrap()], da, db].concat()
    });
}

/// Labels (N, T) of tasks with so many logits.
fn task_labels(n: usize, widths: &[usize]) -> Tensor {
    let row = |i: usize| widths.iter().map(move |k| ((i * 7 / 3 + k) % k.max(&2)) as u32);
    let labels: Vec<u32> = (0..n).flat_map(row).collect();
    Tensor::from_vec(labels, (n, widths.len()), &Device::Cpu).unwrap()
}

#[test]
fn the_loss_of_tasks_is_the_sum_of_each_ones() {
    const WIDTHS: [usize; 4] = [1, 5, 2, 1];
    for (n, tasks) in [(1, 0..4), (37, 0..4), (300, 1..3), (12, 3..4)] {
        let own = &WIDTHS[tasks.clone()];
        let x: Vec<_> =
            own.iter().zip(1..).map(|(&k, seed)| (random(seed, &[n, k]) * 5.0).unwrap()).collect();
        let labels = task_labels(n, &WIDTHS);
        assert_matches_candle(
            &x,
            1e-12,
            |x| task_loss(x, &labels, tasks.clone(), 0.3),
            |x| {
                let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu)?;
                for (x, t) in x.iter().zip(tasks.clone()) {
                    let labels = labels.narrow(1, t, 1)?;
                    sum = (sum
                        + match WIDTHS[t] {
                            1 => bce_reference(x, &labels.to_dtype(DType::F64)?),
                            _ => cross_entropy_reference(x, &labels.squeeze(1)?.contiguous()?),
                        }?)?;
                }
                sum * 0.3
            },
        );
    }
}

/// More than a GPU's kernel takes at once.
#[test]
fn the_loss_of_very_many_tasks_is_the_sum_too() {
    let widths: Vec<usize> = (0..200).map(|t| 1 + t % 3).collect();
    let labels = task_labels(3, &widths);
    let x: Vec<_> = widths.iter().zip(1..).map(|(&k, seed)| random(seed, &[3, k])).collect();
    let of = |tasks: std::ops::Range<usize>| {
        gradients(&x[tasks.clone()], |x| task_loss(x, &labels, tasks.clone(), 0.5))
    };
    let (whole, slopes) = of(1..200);
    let mut sum = 0.0;
    for t in 1..200 {
        let (one, own) = of(t..t + 1);
        sum += flat(&one)[0];
        assert_close(&slopes[t - 1], &own[0], 1e-12);
    }
    assert_close(&whole, &Tensor::new(sum, &Device::Cpu).unwrap(), 1e-12);
}

#[test]
fn labels_of_tasks_are_their_answers_in_their_columns() {
    let x = [1, 3].map(|k| Tracked::constant(random(1, &[2, k])));
    let labels = |rows: &[[u32; 2]]| {
        Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu).unwrap()
    };
    assert!(task_loss(&x, &labels(&[[1, 2], [0, 0]]), 0..2, 1.0).is_ok());
    for (rows, label, classes) in [([[1, 0], [2, 0]], 2, 2), ([[1, 0], [0, 3]], 3, 3)] {
        let error = task_loss(&x, &labels(&rows), 0..2, 1.0).unwrap_err();
        let Error::Label { sample: 1, label: found, classes: of, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((found, of), (label, classes));
    }
    let good = labels(&[[1, 2], [0, 0]]);
    for tasks in [0..1, 1..3] {
        assert!(matches!(task_loss(&x, &good, tasks, 1.0), Err(Error::Config { .. })));
    }
    let three = labels(&[[0, 0]; 3]);
    assert!(matches!(task_loss(&x, &three, 0..2, 1.0), Err(Error::Shape { .. })));
    assert!(matches!(task_loss(&[], &good, 0..0, 1.0), Err(Error::Shape { .. })));
    let signed = good.to_dtype(DType::I64).unwrap();
    assert!(matches!(task_loss(&x, &signed, 0..2, 1.0), Err(Error::Unsupported { .. })));
}

/// Labels on a GPU are not looked at: that it is wrong shows in the loss.
#[cfg(feature = "cuda-emulation")]
#[test]
fn a_label_that_is_none_is_no_number_on_a_gpu() {
    use super::cuda::task_table;
    use crate::cuda::{Arg, Grid, Of, emulated, launch, unwritten};

    emulated(true, || {
        let x = random(1, &[2, 1]);
        let labels = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
        let losses = unwritten(&x, DType::F64, 2).unwrap();
        let tensors = [Arg::In(Of::Index, &labels), Arg::Out(Of::Double, &losses)];
        let args = [&task_table(&[&x], None, 0)[..], &tensors, &[2, 1].map(Arg::Size)].concat();
        let grid = Grid { blocks: [1, 1, 1], threads: [32, 8] };
        launch("test", "task_losses", &x, grid, &args).unwrap();
        let losses = flat(&losses);
        assert!(losses[0].is_finite() && losses[1].is_nan(), "{losses:?}");
    });
}
