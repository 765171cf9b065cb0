use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{assert_gradients, assert_same_on_any_threads, flat, gradients, random};
use crate::{count_multiply_adds, zeros_without_memory};

fn ones(count: usize) -> Tracked {
    Tracked::leaf(Tensor::ones(count, DType::F64, &Device::Cpu).unwrap())
}

fn dropped(count: usize, p: f64, seed: u64) -> Vec<f64> {
    flat(dropout(&ones(count), p, seed).unwrap().value())
}

#[test]
fn the_share_dropped_is_p_and_the_mean_stays() {
    let count = 200_000;
    for p in [0.1, 0.5, 0.9] {
        let y = dropped(count, p, 1);
        let scale = 1.0 / (1.0 - p);
        assert!(y.iter().all(|&v| v == 0.0 || v == scale));
        let share = y.iter().filter(|&&v| v == 0.0).count() as f64 / count as f64;
        // Four standard deviations.
        assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / count as f64).sqrt(), "{share}");
    }
}

#[test]
fn seeds_and_chunks_draw_other_elements() {
    let count = 3 * CHUNK;
    let y = dropped(count, 0.5, 1);
    assert_eq!(y, dropped(count, 0.5, 1));
    let alike = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
    };
    assert!((alike(&y, &dropped(count, 0.5, 2)) - 0.5).abs() < 0.05);
    assert!((alike(&y[..CHUNK], &y[CHUNK..2 * CHUNK]) - 0.5).abs() < 0.05);
}

#[test]
fn the_extremes_keep_all_and_none() {
    let x = random(1, &[100]);
    let keep = dropout(&Tracked::constant(x.clone()), 0.0, 1).unwrap();
    assert_eq!(flat(keep.value()), flat(&x));
    assert_eq!(dropped(100, 1.0, 1), [0.0; 100]);
    let x = ones(100);
    let y = dropout(&x, 1.0, 1).unwrap();
    let store = y.backward_from(y.value().ones_like().unwrap()).unwrap();
    assert_eq!(flat(store.get(x.value()).unwrap()), [0.0; 100]);
}

#[test]
fn the_gradient_passes_where_the_value_did() {
    let x = ones(2 * CHUNK + 5);
    let y = dropout(&x, 0.3, 9).unwrap();
    let store = y.backward_from(y.value().ones_like().unwrap()).unwrap();
    assert_eq!(flat(store.get(x.value()).unwrap()), flat(y.value()));
}

#[test]
fn gradients_agree_with_finite_differences() {
    assert_gradients(&[random(1, &[4, 9])], |x| dropout(&x[0], 0.4, 3));
}

#[test]
fn probabilities_outside_0_to_1_are_an_error() {
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(dropout(&ones(1), p, 1), Err(Error::Config { op: "dropout", .. })));
    }
}

#[test]
fn shapes_alone_take_no_memory() {
    let huge = Tracked::constant(zeros_without_memory((1 << 20, 1 << 22), DType::F32).unwrap());
    let (y, macs) = count_multiply_adds(|| dropout(&huge, 0.5, 1));
    assert_eq!((y.unwrap().dims(), macs), (huge.dims(), 0));
}

#[test]
fn threads_do_not_matter() {
    let x = [random(1, &[10 * CHUNK + 77]).to_dtype(DType::F32).unwrap()];
    assert_same_on_any_threads(|| {
        let (y, dx) = gradients(&x, |x| dropout(&x[0], 0.5, 1));
        vec![y, dx[0].clone()]
    });
}

#[test]
fn parts_are_dropped_as_if_alone() {
    let x = random(1, &[3, CHUNK + 9]);
    let seeds = [7, 8, 9];
    let (y, dx) = gradients(std::slice::from_ref(&x), |x| dropout_parts(&x[0], 0.4, &seeds));
    for (i, &seed) in seeds.iter().enumerate() {
        let alone = Tracked::constant(x.narrow(0, i, 1).unwrap());
        let alone = flat(dropout(&alone, 0.4, seed).unwrap().value());
        assert_eq!(flat(&y.narrow(0, i, 1).unwrap()), alone);
        let passed = flat(&dx[0].narrow(0, i, 1).unwrap());
        assert!(passed.iter().zip(&alone).all(|(d, y)| (*d == 0.0) == (*y == 0.0)));
    }
    let x = Tracked::constant(x);
    for seeds in [&[][..], &[1, 2]] {
        assert!(matches!(dropout_parts(&x, 0.4, seeds), Err(Error::Shape { .. })));
    }
}

/// Parts of a step, two deep, as the host derives their seeds.
fn paths() -> Vec<Vec<u64>> {
    vec![vec![], vec![u64::MAX], vec![7, 1 << 40], vec![1, 2, 3, 4]]
}

#[test]
fn seeds_of_a_step_are_derived_along_their_paths() {
    let x = Tracked::constant(random(1, &[4, 1000]));
    let seeds = [5, derive_seed(5, u64::MAX), derive_seed(derive_seed(5, 7), 1 << 40)];
    let last = [1, 2, 3, 4].into_iter().fold(5, derive_seed);
    let expected = dropout_parts(&x, 0.4, &[&seeds[..], &[last]].concat()).unwrap();
    let found = dropout_of_step(&x, 0.4, 5, &paths()).unwrap();
    assert_eq!(flat(found.value()), flat(expected.value()));
    let first = [derive_seed(5, 1), derive_seed(5, 2), derive_seed(6, 1)];
    assert!(first[0] != first[1] && first[0] != first[2], "{first:?}");
    assert!(dropout_of_step(&x, 0.4, 5, &paths()[..3]).is_err(), "no multiple of 3");
}

/// What is captured once has, at each launch, the masks of the seed that was put there before.
#[cfg(feature = "cuda-emulation")]
#[test]
fn a_captured_pass_has_the_masks_of_its_step() {
    use crate::cuda::emulated;
    use crate::{Graph, SgdConfig, sgd_step_all};
    use candle_core::Var;

    // What is carried to a GPU kernel by kernel cannot be captured: there, on it.
    #[cfg(feature = "cuda")]
    let device = match crate::cuda::is_staged() {
        true => crate::cuda_device(0).unwrap(),
        false => Device::Cpu,
    };
    #[cfg(not(feature = "cuda"))]
    let device = Device::Cpu;
    emulated(true, || {
        let here = random(1, &[4, CHUNK + 3]);
        let x = here.to_device(&device).unwrap();
        let [output, gradient] =
            [0, 1].map(|_| Var::zeros(x.shape(), DType::F64, &device).unwrap());
        let leaf = || Tracked::leaf(x.clone());
        let pass = |x: &Tracked, seed| {
            let y = dropout_of_step(x, 0.4, seed, &paths())?;
            let dx = y.backward_from(y.value().clone())?.remove(x.value()).unwrap();
            Ok::<_, Error>((y.into_value(), dx))
        };
        let seed = StepSeed::on(&device).unwrap().expect("a GPU, or its emulation");
        // Each launch adds its results to what is there.
        let config = SgdConfig { lr: -1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        let graph = Graph::capture(&device, || {
            let leaf = leaf();
            let (y, dx) = seed.within(|| pass(&leaf, 0))?;
            sgd_step_all(&[(&output, &y, &y), (&gradient, &dx, &dx)], &config, true)
        });
        let graph = graph.unwrap();
        for step in [3, u64::MAX - 1, 1 << 63] {
            seed.set(step).unwrap();
            for var in [&output, &gradient] {
                var.set(&var.zeros_like().unwrap()).unwrap();
            }
            graph.launch().unwrap();
            let (y, dx) = pass(&leaf(), step).unwrap();
            assert_eq!(flat(&output), flat(&y), "{step}");
            assert_eq!(flat(&gradient), flat(&dx), "{step}");
            let on_the_host = emulated(false, || pass(&Tracked::leaf(here.clone()), step)).unwrap();
            assert_eq!(flat(&y), flat(&on_the_host.0), "{step}");
        }
        let deep = vec![vec![0; 5]; 4];
        let refused = seed.within(|| dropout_of_step(&leaf(), 0.4, 0, &deep)).unwrap_err();
        assert!(matches!(refused, Error::Config { op: "dropout", .. }), "{refused}");
    });
}
