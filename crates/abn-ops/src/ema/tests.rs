use candle_core::{DType, Device, Tensor, Var};

use super::*;
use crate::parallel::CHUNK;
use crate::testing::{assert_close, assert_same_on_any_threads, flat, random};

#[test]
fn three_steps_are_pytorchs() {
    // torch.optim.swa_utils.AveragedModel(BatchNorm1d(2), get_ema_multi_avg_fn(0.9),
    // use_buffers=True) in float64; its first update copies.
    let average = Var::new(&[0.5f64, 0.0], &Device::Cpu).unwrap();
    for (value, expected) in [([1.5, -2.0], [0.6, -0.2]), ([2.5, -4.0], [0.79, -0.58])] {
        ema_step(&average, &Tensor::new(&value, &Device::Cpu).unwrap(), 0.9).unwrap();
        assert_close(&average, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-15);
    }
}

#[test]
fn every_element_of_a_large_parameter_moves() {
    let [average, value] = [1, 2].map(|seed| random(seed, &[2 * CHUNK + 3]));
    let expected = ((&average * 0.75).unwrap() + (&value * 0.25).unwrap()).unwrap();
    ema_step(&average, &value, 0.75).unwrap();
    assert_close(&average, &expected, 1e-15);
}

#[test]
fn the_ends_are_copy_and_standstill() {
    let [average, value] = [1, 2].map(|seed| random(seed, &[5]));
    let before = flat(&average);
    ema_step(&average, &value, 1.0).unwrap();
    assert_eq!(flat(&average), before);
    ema_step(&average, &value, 0.0).unwrap();
    assert_close(&average, &value, 1e-15);
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let average = random(1, &[4]);
    let before = flat(&average);
    assert!(matches!(ema_step(&average, &random(2, &[3]), 0.9), Err(Error::Shape { .. })));
    for decay in [-0.1, 1.5, f64::NAN] {
        let failed = ema_step(&average, &random(2, &[4]), decay);
        assert!(matches!(failed, Err(Error::Config { .. })));
    }
    let single = random(2, &[4]).to_dtype(DType::F32).unwrap();
    assert!(ema_step(&average, &single, 0.9).is_err());
    assert_eq!(flat(&average), before);
}

#[test]
fn threads_do_not_matter() {
    assert_same_on_any_threads(|| {
        let [average, value] = [1, 2].map(|seed| random(seed, &[3 * CHUNK]));
        ema_step(&average, &value, 0.999).unwrap();
        vec![average]
    });
}
