use candle_core::{DType, Device, Tensor, Var};

use super::*;
use crate::testing::{assert_close, assert_same_on_any_threads, flat, random};

fn config(momentum: f64, nesterov: bool) -> SgdConfig {
    SgdConfig { lr: 0.1, momentum, weight_decay: 0.01, nesterov }
}

#[test]
fn three_steps_are_pytorchs() {
    // From torch.optim.SGD(lr=0.1, momentum, weight_decay=0.01, nesterov) in float64.
    let cases = [
        (config(0.0, false), [0.3186214695, -1.1263337287500002, 1.934045988], [0.0; 3]),
        (
            config(0.9, false),
            [0.21207136949999997, -1.05290947875, 1.8937475879999999],
            [1.695091305, -1.1548677125000002, 0.6146441200000001],
        ),
        (
            config(0.9, true),
            [0.0597377848005, -0.9491263492462498, 1.838514913692],
            [1.69405350105, -1.154152767125, 0.6142520332000001],
        ),
    ];
    for (config, expected, expected_velocity) in cases {
        let param = Var::new(&[0.5f64, -1.25, 2.0], &Device::Cpu).unwrap();
        let velocity = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
        for step in 0..3 {
            let grad = [0.3, -0.2, 0.1].map(|g| g * f64::from(step + 1));
            let grad = Tensor::new(&grad, &Device::Cpu).unwrap();
            sgd_step(&param, &velocity, &grad, &config, step == 0).unwrap();
        }
        assert_close(&param, &Tensor::new(&expected, &Device::Cpu).unwrap(), 1e-15);
        let expected_velocity = Tensor::new(&expected_velocity, &Device::Cpu).unwrap();
        assert_close(&velocity, &expected_velocity, 1e-15);
    }
}

#[test]
fn the_first_step_ignores_the_velocity() {
    let run = |stale: f64| {
        let param = random(1, &[10]);
        let velocity = (random(2, &[10]) * stale).unwrap();
        sgd_step(&param, &velocity, &random(3, &[10]), &config(0.9, true), true).unwrap();
        (flat(&param), flat(&velocity))
    };
    assert_eq!(run(0.0), run(f64::NAN));
}

#[test]
fn a_step_of_nothing_reads_nothing() {
    // It has no f64 that could be read.
    let lr = Tensor::new(0.1f32, &Device::Cpu).unwrap();
    sgd_step_at(&lr, &[], &config(0.9, false), false).unwrap();
    let param = Var::new(&[0.5f64], &Device::Cpu).unwrap();
    let zero = Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap();
    let steps = [(param.as_tensor(), &zero, &zero)];
    assert!(sgd_step_at(&lr, &steps, &config(0.9, false), false).is_err());
}

#[test]
fn every_element_of_a_large_parameter_steps() {
    for nesterov in [false, true] {
        let tensors = [1, 2, 3].map(|seed| random(seed, &[3 * CHUNK + 1]));
        let [p, v, g] = &tensors;
        let g_decayed = (g + (p * 0.01).unwrap()).unwrap();
        let v_new = ((v * 0.9).unwrap() + &g_decayed).unwrap();
        let ahead = (&g_decayed + (&v_new * 0.9).unwrap()).unwrap();
        let step = if nesterov { ahead } else { v_new.clone() };
        let p_new = (p - (step * 0.1).unwrap()).unwrap();
        sgd_step(p, v, g, &config(0.9, nesterov), false).unwrap();
        assert_close(p, &p_new, 1e-15);
        assert_close(v, &v_new, 1e-15);
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let (p, v) = (random(1, &[4]), random(2, &[4]));
    let before = (flat(&p), flat(&v));
    let short = random(3, &[3]);
    assert!(matches!(
        sgd_step(&p, &v, &short, &config(0.9, false), false),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        sgd_step(&p, &short, &p, &config(0.9, false), false),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(sgd_step(&p, &v, &v, &config(0.0, true), false), Err(Error::Config { .. })));
    let single = random(3, &[4]).to_dtype(DType::F32).unwrap();
    assert!(sgd_step(&p, &v, &single, &config(0.9, false), false).is_err());
    assert!(sgd_step(&p, &single, &random(3, &[4]), &config(0.9, false), false).is_err());
    assert_eq!((flat(&p), flat(&v)), before);
}

#[test]
fn threads_do_not_matter() {
    assert_same_on_any_threads(|| {
        let [p, v, g] = [1, 2, 3].map(|s| random(s, &[100_001]).to_dtype(DType::F32).unwrap());
        sgd_step(&p, &v, &g, &config(0.9, true), false).unwrap();
        vec![p, v]
    });
}

#[test]
fn a_learning_rate_beside_the_parameters_is_read_at_each_step() {
    let start = random(1, &[5000]);
    let run = |beside: bool| {
        let [param, velocity] =
            [&start, &start.zeros_like().unwrap()].map(|tensor| Var::from_tensor(tensor).unwrap());
        let rate = Var::new(0.0f64, &Device::Cpu).unwrap();
        for (step, lr) in [0.3, 0.3, 0.07].into_iter().enumerate() {
            let config = SgdConfig { lr, ..config(0.9, true) };
            let steps = [(param.as_tensor(), velocity.as_tensor(), &start)];
            if beside {
                rate.set(&Tensor::new(lr, &Device::Cpu).unwrap()).unwrap();
                let config = SgdConfig { lr: f64::NAN, ..config };
                sgd_step_at(&rate, &steps, &config, step == 0).unwrap();
            } else {
                sgd_step_all(&steps, &config, step == 0).unwrap();
            }
        }
        flat(&param)
    };
    let stepped = run(false);
    assert!(stepped.iter().all(|value| value.is_finite()) && stepped != flat(&start));
    assert_eq!(run(true), stepped);
    let two = Tensor::zeros(2, DType::F64, &Device::Cpu).unwrap();
    assert!(sgd_step_at(&two, &[], &config(0.9, true), true).is_err());
}
