use candle_core::{DType, Device, Tensor};

use super::*;
use crate::cuda::emulated;
use crate::testing::{flat, random};
use crate::{Tracked, softmax_cross_entropy, task_loss};

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

#[test]
fn counts_several_tasks_as_the_host_would() {
    const WIDTHS: [usize; 4] = [1, 4, 2, 1];
    /// Answers that are not the labels: of one score, 1 above 0.
    fn wrong_of(scores: &[Tensor], labels: &[Vec<u32>]) -> u64 {
        let of = |(scores, labels): (&Tensor, &Vec<u32>)| match scores.dims()[1] {
            1 => {
                let answers = flat(scores).into_iter().map(|score| u32::from(score > 0.0));
                answers.zip(labels).filter(|(answer, label)| answer != *label).count() as u64
            }
            _ => wrong(scores, labels),
        };
        scores.iter().zip(labels).map(of).sum()
    }
    emulated(true, || {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let meter = Meter::on(&Device::Cpu).unwrap().unwrap();
            let (mut expected, mut none) = (Metered::default(), 0);
            for (seed, n) in [(1, 20), (100, 1), (200, 37)] {
                // Whole numbers, so that some are equal, and some single ones 0.
                let scores = |seed| -> Vec<Tensor> {
                    let scores = |(i, &k): (usize, &usize)| {
                        let scores = (random(seed + i as u64, &[n, k]) * 4.0).unwrap();
                        scores.round().unwrap().to_dtype(dtype).unwrap()
                    };
                    WIDTHS.iter().enumerate().map(scores).collect()
                };
                let labels: Vec<Vec<u32>> = WIDTHS
                    .iter()
                    .map(|&k| (0..n).map(|i| (i * 7 / 3 % k.max(2)) as u32).collect())
                    .collect();
                let rows = (0..n).flat_map(|i| labels.iter().map(move |of| of[i]));
                let rows = Tensor::from_iter(rows, &Device::Cpu).unwrap();
                let rows = rows.reshape((n, WIDTHS.len())).unwrap();
                let loss = |scores: &[Tensor], tasks: std::ops::Range<usize>| {
                    let scores: Vec<_> = scores.iter().cloned().map(Tracked::constant).collect();
                    task_loss(&scores[tasks.clone()], &rows, tasks, 0.25).unwrap().into_value()
                };
                let [a, b] = [seed, seed + 10].map(scores);
                let (first, second) = (loss(&a, 0..3), loss(&a, 3..4));
                let perception =
                    TaskBranch { scores: a.iter().collect(), losses: vec![&first, &second] };
                let whole = loss(&b, 0..4);
                let attention = TaskBranch { scores: b.iter().collect(), losses: vec![&whole] };
                let attention = (seed != 100).then_some(&attention);
                meter.add_tasks(&perception, attention, &rows).unwrap();

                let images = n as f64;
                let of_answers = flat(&first)[0] + flat(&second)[0];
                let of_scores = attention.map_or(0.0, |_| flat(&whole)[0]);
                expected.batches += 1;
                expected.total += images * (of_scores + of_answers);
                expected.perception += images * of_answers;
                expected.attention += images * of_scores;
                expected.wrong += wrong_of(&a, &labels);
                expected.wrong_attention += attention.map_or(0, |_| wrong_of(&b, &labels));
                none += n as u64 * WIDTHS.len() as u64;
            }
            assert!(expected.wrong > none / 4 && expected.wrong < none * 3 / 4, "{expected:?}");
            assert_eq!(meter.take().unwrap(), expected, "{dtype:?}");
            assert_eq!(meter.take().unwrap(), Metered::default(), "begins again");
        }
    });
}

#[test]
fn tells_the_first_batch_of_several_tasks_whose_loss_is_no_number() {
    emulated(true, || {
        let meter = Meter::on(&Device::Cpu).unwrap().unwrap();
        let scores = random(1, &[4, 3]).to_dtype(DType::F32).unwrap();
        let labels = Tensor::zeros((4, 1), DType::U32, &Device::Cpu).unwrap();
        let number = |x: f32| Tensor::new(x, &Device::Cpu).unwrap();
        fn branch<'a>(scores: &'a Tensor, loss: &'a Tensor) -> TaskBranch<'a> {
            TaskBranch { scores: vec![scores], losses: vec![loss] }
        }
        for (perception, attention) in [(1.0, 2.0), (1.0, f32::NEG_INFINITY), (f32::NAN, 1.0)] {
            let (perception, attention) = (number(perception), number(attention));
            let [a, b] = [&perception, &attention].map(|loss| branch(&scores, loss));
            meter.add_tasks(&a, Some(&b), &labels).unwrap();
        }
        let read = meter.take().unwrap();
        assert_eq!((read.batches, read.diverged), (3, Some((2, f64::NEG_INFINITY))));
        // One bad batch leaves nothing behind, and a score that is no number is nobody's hit.
        let none = Tensor::full(f32::NAN, (4, 1), &Device::Cpu).unwrap();
        let one = number(1.0);
        meter.add_tasks(&branch(&none, &one), None, &labels).unwrap();
        let read = meter.take().unwrap();
        assert_eq!((read.total, read.wrong, read.diverged), (4.0, 4, None));
        let two = TaskBranch { scores: vec![&none, &none], losses: vec![&one] };
        let error = meter.add_tasks(&two, None, &labels).unwrap_err();
        assert!(matches!(error, Error::Config { op: "meter", .. }), "{error}");
    });
}

/// More than a kernel takes at once, of tasks and of losses.
#[test]
fn counts_very_many_tasks() {
    emulated(true, || {
        const TASKS: usize = 200;
        let meter = Meter::on(&Device::Cpu).unwrap().unwrap();
        let rows = random(1, &[5, TASKS]).to_dtype(DType::F32).unwrap();
        let scores: Vec<_> = (0..TASKS).map(|t| rows.narrow(1, t, 1).unwrap()).collect();
        let labels: Vec<u32> = (0..5 * TASKS as u32).map(|i| i / 3 % 2).collect();
        let values = flat(&rows);
        let answers = values.iter().map(|score| u32::from(*score > 0.0));
        let wrong = answers.zip(&labels).filter(|(answer, label)| answer != *label).count() as u64;
        assert!(wrong > 100);
        let labels = Tensor::from_vec(labels, (5, TASKS), &Device::Cpu).unwrap();
        let losses = (1..=TASKS).map(|t| Tensor::new(t as f32, &Device::Cpu).unwrap());
        let losses: Vec<_> = losses.collect();
        let branch = |losses| TaskBranch { scores: scores.iter().collect(), losses };
        let perception = branch(losses.iter().collect());
        let attention = branch(vec![&losses[6]]);
        meter.add_tasks(&perception, Some(&attention), &labels).unwrap();
        let read = meter.take().unwrap();
        let sum = (TASKS * (TASKS + 1) / 2) as f64;
        assert_eq!((read.batches, read.perception, read.attention), (1, 5.0 * sum, 35.0));
        assert_eq!((read.total, read.wrong), (5.0 * (sum + 7.0), wrong));
        assert_eq!(read.wrong_attention, wrong);
    });
}
