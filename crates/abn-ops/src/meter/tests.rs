use candle_core::{DType, Device, Tensor};

use super::*;
use crate::cuda::emulated;
use crate::testing::{flat, random};
use crate::{Tracked, softmax_cross_entropy};

/// Rows whose label does not have the first of the highest scores.
fn wrong(scores: &Tensor, labels: &[u32]) -> u64 {
    let rows = scores.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let highest =
        |row: &[f64]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    rows.iter().zip(labels).filter(|(row, label)| highest(row) != **label as usize).count() as u64
}

#[test]
fn counts_what_the_host_would() {
    emulated(true, || {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let meter = Meter::on(&Device::Cpu).unwrap().expect("the emulation is a GPU");
            let mut expected = Metered::default();
            for (seed, n, k) in [(1, 20, 10), (3, 1, 2), (5, 37, 100)] {
                // Whole numbers, so that some are equal.
                let scores = |seed| {
                    let scores = (random(seed, &[n, k]) * 4.0).unwrap().round().unwrap();
                    scores.to_dtype(dtype).unwrap()
                };
                let labels: Vec<u32> = (0..n).map(|i| (i * 7 % k) as u32).collect();
                let targets = Tensor::from_slice(&labels, n, &Device::Cpu).unwrap();
                let loss = |scores: &Tensor| {
                    let scores = Tracked::constant(scores.clone());
                    softmax_cross_entropy(&scores, &targets).unwrap().into_value()
                };
                let [a, b] = [seed, seed + 1].map(scores);
                let [loss_a, loss_b] = [&a, &b].map(loss);
                let total = (&loss_a + &loss_b).unwrap();
                let attention = (seed != 3).then_some(Branch { scores: &b, loss: &loss_b });
                let perception = Branch { scores: &a, loss: &loss_a };
                meter.add(&total, perception, attention, &targets).unwrap();
                expected.batches += 1;
                expected.total += n as f64 * flat(&total)[0];
                expected.perception += n as f64 * flat(&loss_a)[0];
                expected.wrong += wrong(&a, &labels);
                if attention.is_some() {
                    expected.attention += n as f64 * flat(&loss_b)[0];
                    expected.wrong_attention += wrong(&b, &labels);
                }
            }
            assert!(expected.wrong > 10 && expected.wrong < 57);
            assert_eq!(meter.take().unwrap(), expected, "{dtype:?}");
            assert_eq!(meter.take().unwrap(), Metered::default(), "begins again");
        }
    });
}

#[test]
fn tells_the_first_batch_whose_loss_is_no_number() {
    emulated(true, || {
        let meter = Meter::on(&Device::Cpu).unwrap().unwrap();
        let scores = random(1, &[4, 3]).to_dtype(DType::F32).unwrap();
        let labels = Tensor::zeros(4, DType::U32, &Device::Cpu).unwrap();
        for loss in [1.0f32, 2.0, f32::INFINITY, f32::NAN, 3.0] {
            let loss = Tensor::new(loss, &Device::Cpu).unwrap();
            let branch = Branch { scores: &scores, loss: &loss };
            meter.add(&loss, branch, None, &labels).unwrap();
        }
        let read = meter.take().unwrap();
        assert_eq!((read.batches, read.diverged), (5, Some((3, f64::INFINITY))));
        // Scores that are no numbers are nobody's hit.
        let none = (scores * f64::NAN).unwrap();
        let loss = Tensor::new(1f32, &Device::Cpu).unwrap();
        meter.add(&loss, Branch { scores: &none, loss: &loss }, None, &labels).unwrap();
        assert_eq!(meter.take().unwrap().wrong, 4);
    });
}

#[test]
fn there_is_none_on_the_cpu_and_shapes_must_fit() {
    assert!(emulated(false, || Meter::on(&Device::Cpu)).unwrap().is_none());
    emulated(true, || {
        let meter = Meter::on(&Device::Cpu).unwrap().unwrap();
        let scores = random(1, &[4, 3]).to_dtype(DType::F32).unwrap();
        let loss = Tensor::new(1f32, &Device::Cpu).unwrap();
        let labels = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
        let branch = Branch { scores: &scores, loss: &loss };
        let error = meter.add(&loss, branch, None, &labels).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "meter", .. }), "{error}");
    });
}
