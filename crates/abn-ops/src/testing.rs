//! What the operations' tests share: random inputs, finite differences, references, thread counts.
//!
//! Gradients are compared for the scalar `sum(w · f(x))` with fixed random weights `w`, so that a
//! gradient that is right only for a constant incoming one is found out.

use std::sync::{Arc, Barrier, Mutex};

use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Across, Result, Tracked, no_grad, synchronised};

/// Uniform values in -1..1, in f64.
pub fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f64> =
        (0..count).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Values in -1..1 that are at least 2 / (count + 1) apart from each other and 1 / (count + 1)
/// from zero, in random order: no maximum is tied, and no ReLU is at its kink.
pub fn distinct(seed: u64, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let slots = count + count % 2;
    let mut values: Vec<f64> =
        (0..count).map(|i| (2 * i + 1) as f64 / slots as f64 - 1.0).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for i in (1..count).rev() {
        values.swap(i, rng.next_u64() as usize % (i + 1));
    }
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Largest absolute difference, relative to the largest expected magnitude.
pub fn deviation(actual: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(actual.dims(), expected.dims(), "shapes differ");
    let (actual, expected) = (flat(actual), flat(expected));
    let scale = expected.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    let mut worst = 0.0_f64;
    for (a, e) in actual.iter().zip(&expected) {
        assert!(a.is_finite() == e.is_finite(), "{a} against {e}");
        worst = worst.max((a - e).abs() / scale);
    }
    worst
}

/// Fails if [`deviation`] is above the tolerance.
#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f64) {
    let deviation = deviation(actual, expected);
    assert!(
        deviation <= tolerance,
        "deviation {deviation:e} > {tolerance:e}\nactual {actual}\nexpected {expected}"
    );
}

/// The elements as f64.
pub fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `f(inputs)` and the gradient of `sum(w · f(inputs))` with respect to each input.
pub fn gradients(
    inputs: &[Tensor],
    f: impl Fn(&[Tracked]) -> Result<Tracked>,
) -> (Tensor, Vec<Tensor>) {
    let leaves: Vec<Tracked> = inputs.iter().map(|x| Tracked::leaf(x.clone())).collect();
    let y = f(&leaves).unwrap();
    let store = y.backward_from(loss_weights(y.value())).unwrap();
    let gradients = inputs.iter().map(|x| store.get(x).expect("a gradient").clone()).collect();
    (y.into_value(), gradients)
}

/// As [`gradients`], by candle's own operations and backward: the slow reference.
pub fn candle_gradients(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let store = (&y * loss_weights(&y)).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = vars.iter().map(|v| store.get(v).expect("a gradient").clone()).collect();
    (y, gradients)
}

/// Forward and every input's gradient against a reference of candle operations.
#[track_caller]
pub fn assert_matches_candle(
    inputs: &[Tensor],
    tolerance: f64,
    f: impl Fn(&[Tracked]) -> Result<Tracked>,
    reference: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) {
    let (y, dx) = gradients(inputs, f);
    let (expected_y, expected_dx) = candle_gradients(inputs, reference);
    assert_close(&y, &expected_y, tolerance);
    for (dx, expected) in dx.iter().zip(&expected_dx) {
        assert_close(dx, expected, tolerance);
    }
}

/// Every input's gradient against central differences. Inputs are f64 and away from kinks by more
/// than 1e-5.
#[track_caller]
pub fn assert_gradients(inputs: &[Tensor], f: impl Fn(&[Tracked]) -> Result<Tracked>) {
    const STEP: f64 = 1e-5;
    let (y, analytic) = gradients(inputs, &f);
    let weights = flat(&loss_weights(&y));
    let loss = |inputs: &[Tensor]| -> f64 {
        let inputs: Vec<Tracked> = inputs.iter().map(|x| Tracked::constant(x.clone())).collect();
        let y = no_grad(|| f(&inputs)).unwrap().into_value();
        flat(&y).iter().zip(&weights).map(|(y, w)| y * w).sum()
    };
    for (which, gradient) in analytic.iter().enumerate() {
        let original = flat(&inputs[which]);
        let numeric: Vec<f64> = (0..original.len())
            .map(|i| {
                let at = |offset: f64| {
                    let mut moved = original.clone();
                    moved[i] += offset;
                    let mut inputs = inputs.to_vec();
                    inputs[which] =
                        Tensor::from_vec(moved, inputs[which].shape(), &Device::Cpu).unwrap();
                    loss(&inputs)
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        let numeric = Tensor::from_vec(numeric, inputs[which].shape(), &Device::Cpu).unwrap();
        let deviation = deviation(gradient, &numeric);
        assert!(deviation < 1e-7, "gradient of input {which} deviates by {deviation:e}");
    }
}

/// Runs `f` on pools of 1, 2 and 3 threads; fails unless all give the same bytes.
#[track_caller]
pub fn assert_same_on_any_threads(f: impl Fn() -> Vec<Tensor> + Sync) {
    let run = |threads: usize| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let tensors = pool.install(&f);
        tensors.iter().map(|t| flat(t).iter().map(|v| v.to_bits()).collect()).collect()
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads give other bytes than one");
    }
}

/// Fixed random weights of an output's shape and type.
fn loss_weights(y: &Tensor) -> Tensor {
    random(0x5eed, y.dims()).to_dtype(y.dtype()).unwrap()
}

/// Runs `f` on threads that share a batch, one for each of `counts`, which tells whether its part
/// counts; gives what each returned.
pub fn sharing<R: Send>(counts: &[bool], f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let all = Arc::new(Threads {
        values: Mutex::new(vec![None; counts.len()]),
        barrier: Barrier::new(counts.len()),
    });
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..counts.len())
            .map(|index| {
                let thread = Thread { index, counts: counts[index], all: all.clone() };
                let f = &f;
                scope.spawn(move || synchronised(Arc::new(thread), || f(index)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

struct Threads {
    values: Mutex<Vec<Option<Tensor>>>,
    barrier: Barrier,
}

struct Thread {
    index: usize,
    counts: bool,
    all: Arc<Threads>,
}

impl Across for Thread {
    fn sum(&self, values: Tensor) -> candle_core::Result<Tensor> {
        self.all.values.lock().unwrap()[self.index] = Some(values);
        self.all.barrier.wait();
        let all: Vec<Tensor> = self.all.values.lock().unwrap().iter().flatten().cloned().collect();
        self.all.barrier.wait();
        all[1..].iter().try_fold(all[0].clone(), |sum, values| sum + values)
    }

    fn counts(&self) -> bool {
        self.counts
    }
}
