use super::linear;
use crate::conv2d::tests::noise;
use crate::host::{Element, host, tensor};
use crate::{Conv2dConfig, Tracked, conv2d};

fn read<T: Element>(tensor: &candle_core::Tensor) -> Vec<f64> {
    host::<T>("test", tensor).unwrap().iter().map(|v| v.wide()).collect()
}

/// Output and the gradients of all inputs, of `linear` or of the convolution that is the same.
fn run<T: Element>([n, i, o]: [usize; 3], convolve: bool) -> [Vec<f64>; 4] {
    let leaf = |seed, shape: &[usize]| {
        Tracked::leaf(tensor::<T>(noise(seed, shape.iter().product()), shape).unwrap())
    };
    let (x, w, y);
    let b = leaf(3, &[o]);
    if convolve {
        (x, w) = (leaf(1, &[n, 1, 1, i]), leaf(2, &[o, i, 1, 1]));
        y = conv2d(&x, &w, Some(&b), &Conv2dConfig::default()).unwrap();
    } else {
        (x, w) = (leaf(1, &[n, i]), leaf(2, &[o, i]));
        y = linear(&x, &w, Some(&b)).unwrap();
        assert_eq!(y.dims(), [n, o]);
    }
    let grads = y.backward_from(tensor::<T>(noise(4, n * o), y.dims()).unwrap()).unwrap();
    let grad = |of: &Tracked| read::<T>(grads.get(of.value()).unwrap());
    [read::<T>(y.value()), grad(&x), grad(&w), grad(&b)]
}

#[test]
fn agrees_with_a_convolution_of_single_pixels() {
    for n in [1, 2, 3, 5, 8, 13, 64] {
        for i in [1, 7, 16, 50, 600] {
            for o in [1, 2, 9, 10, 100, 200] {
                for (a, b) in run::<f64>([n, i, o], false).iter().zip(&run::<f64>([n, i, o], true))
                {
                    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-11), "{n} {i} {o}");
                }
                for (a, b) in run::<f32>([n, i, o], false).iter().zip(&run::<f64>([n, i, o], true))
                {
                    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3), "{n} {i} {o}");
                }
            }
        }
    }
}

#[test]
fn one_sample_by_hand() {
    let leaf = |data: Vec<f32>, shape: &[usize]| Tracked::leaf(tensor(data, shape).unwrap());
    let x = leaf(vec![1., 2., 3.], &[1, 3]);
    let w = leaf(vec![1., 0., -1., 2., 2., 2.], &[2, 3]);
    let b = leaf(vec![10., 20.], &[2]);
    let y = linear(&x, &w, Some(&b)).unwrap();
    assert_eq!(read::<f32>(y.value()), [8., 32.]);
    let grads = y.backward_from(tensor(vec![1f32, 10.], (1, 2)).unwrap()).unwrap();
    assert_eq!(read::<f32>(grads.get(x.value()).unwrap()), [21., 20., 19.]);
    assert_eq!(read::<f32>(grads.get(w.value()).unwrap()), [1., 2., 3., 10., 20., 30.]);
    assert_eq!(read::<f32>(grads.get(b.value()).unwrap()), [1., 10.]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for sizes in [[3, 700, 50], [64, 64, 10], [1, 5000, 33]] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run::<f32>(sizes, false))
        };
        let one = with(1);
        assert!(one == with(2) && one == with(3), "{sizes:?}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let zeros = |shape: &[usize]| {
        Tracked::constant(tensor(vec![0f32; shape.iter().product()], shape).unwrap())
    };
    let error = |x: &[usize], w: &[usize], b: &[usize]| {
        linear(&zeros(x), &zeros(w), Some(&zeros(b))).unwrap_err().to_string()
    };
    assert!(error(&[2, 3], &[4, 5], &[4]).contains("(O, 3)"));
    assert!(error(&[2, 3], &[4, 3], &[3]).contains("bias of 4"));
    assert!(error(&[2, 3, 1], &[4, 3], &[4]).contains("(N, I)"));
    assert!(error(&[2, 3], &[12], &[4]).contains("(O, 3)"));
}
