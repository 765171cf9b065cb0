use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{
    assert_close, assert_gradients, assert_same_on_any_threads, distinct, flat, gradients, random,
};
use crate::{Error, Result, Tracked, count_multiply_adds, no_grad, zeros_without_memory};

const fn config(kernel: usize, stride: usize, padding: usize) -> Pool2dConfig {
    Pool2dConfig { kernel, stride, padding }
}

/// Plain, overlapping, padded, with gaps, with inputs left over, and all of the map.
const CONFIGS: [Pool2dConfig; 8] = [
    config(2, 2, 0),
    config(3, 2, 1),
    config(3, 1, 1),
    config(2, 1, 0),
    config(2, 3, 1),
    config(1, 2, 0),
    config(5, 4, 2),
    config(5, 1, 0),
];
const SHAPES: [[usize; 4]; 4] = [[2, 5, 7, 1], [1, 6, 5, 3], [2, 9, 8, 16], [1, 7, 7, 37]];

type Op = fn(&Tracked, &Pool2dConfig) -> Result<Tracked>;

/// What a window takes from its inputs' values (with their weights in the gradient), padding left
/// out.
type Reduce = fn(&[f64], area: usize) -> (f64, Vec<f64>);

/// The first maximum.
fn maximum(values: &[f64], _: usize) -> (f64, Vec<f64>) {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let first = values.iter().position(|&v| v == max);
    (max, (0..values.len()).map(|i| f64::from(Some(i) == first)).collect())
}

/// The mean with padding counted.
fn mean(values: &[f64], area: usize) -> (f64, Vec<f64>) {
    (values.iter().sum::<f64>() / area as f64, vec![1.0 / area as f64; values.len()])
}

/// The definition, element by element: output, and gradient of the input for the same loss as
/// [`gradients`] takes.
fn reference(x: &Tensor, config: &Pool2dConfig, reduce: Reduce) -> (Tensor, Tensor) {
    let &Pool2dConfig { kernel, stride, padding } = config;
    let (n, h, w, c) = x.dims4().unwrap();
    let (oh, ow) =
        ((h + 2 * padding - kernel) / stride + 1, (w + 2 * padding - kernel) / stride + 1);
    let data = flat(x);
    let weights = flat(&random(0x5eed, &[n, oh, ow, c]));
    let (mut y, mut dx) = (Vec::new(), vec![0.0; data.len()]);
    for ((b, i), (j, k)) in (0..n * oh)
        .map(|r| (r / oh, r % oh))
        .flat_map(|r| (0..ow * c).map(move |s| (r, (s / c, s % c))))
    {
        let inside = |o: usize, d: usize, len: usize| {
            (o * stride + d).checked_sub(padding).filter(|&at| at < len)
        };
        let places: Vec<usize> = (0..kernel * kernel)
            .filter_map(|d| {
                let (r, s) = (inside(i, d / kernel, h)?, inside(j, d % kernel, w)?);
                Some(((b * h + r) * w + s) * c + k)
            })
            .collect();
        let values: Vec<f64> = places.iter().map(|&p| data[p]).collect();
        let (value, shares) = reduce(&values, kernel * kernel);
        for (place, share) in places.iter().zip(shares) {
            dx[*place] += share * weights[y.len()];
        }
        y.push(value);
    }
    let y = Tensor::from_vec(y, (n, oh, ow, c), &Device::Cpu).unwrap();
    (y, Tensor::from_vec(dx, x.shape(), &Device::Cpu).unwrap())
}

#[test]
fn windows_match_the_definition() {
    let ops: [(Op, Reduce); 2] = [(max_pool2d, maximum), (avg_pool2d, mean)];
    for (op, reduce) in ops {
        for (shape, config) in SHAPES.iter().flat_map(|s| CONFIGS.map(|c| (s, c))) {
            // Few distinct values, so that maxima are often tied.
            for x in [distinct(1, shape), (random(2, shape) * 2.0).unwrap().round().unwrap()] {
                let (y, dx) = gradients(std::slice::from_ref(&x), |x| op(&x[0], &config));
                let (expected_y, expected_dx) = reference(&x, &config, reduce);
                assert_close(&y, &expected_y, 1e-14);
                assert_close(&dx[0], &expected_dx, 1e-14);
                let unrecorded = no_grad(|| op(&Tracked::leaf(x), &config)).unwrap();
                assert_close(unrecorded.value(), &y, 0.0);
            }
        }
    }
}

#[test]
fn tied_maxima_are_pytorchs() {
    let x: [f64; 16] = [1., 1., 0., 2., 1., 3., 3., 2., 0., 3., 3., 0., 5., 5., 5., 5.];
    let x = Tensor::from_slice(&x, (1, 4, 4, 1), &Device::Cpu).unwrap();
    // From torch.nn.functional.max_pool2d with the gradient 1, 2, 3, ….
    let cases: [(Pool2dConfig, [f64; 16]); 3] = [
        (config(3, 2, 1), [0., 0., 0., 0., 0., 3., 0., 0., 0., 0., 0., 0., 3., 4., 0., 0.]),
        (config(2, 1, 0), [0., 0., 0., 0., 0., 12., 9., 0., 0., 0., 0., 0., 7., 8., 9., 0.]),
        (config(3, 1, 1), [0., 0., 0., 0., 0., 24., 12., 0., 0., 0., 0., 0., 46., 26., 28., 0.]),
    ];
    for (config, expected) in cases {
        let leaf = Tracked::leaf(x.clone());
        let y = max_pool2d(&leaf, &config).unwrap();
        let count = y.value().elem_count();
        let grad: Vec<f64> = (1..=count).map(|i| i as f64).collect();
        let grad = Tensor::from_vec(grad, y.value().shape(), &Device::Cpu).unwrap();
        let store = y.backward_from(grad).unwrap();
        assert_eq!(flat(store.get(&x).unwrap()), expected);
    }
}

#[test]
fn nan_and_infinity_are_pytorchs() {
    let (nan, inf) = (f32::NAN, f32::NEG_INFINITY);
    let x = Tensor::new(&[nan, 1., 2., nan, inf, inf, inf, inf, inf, inf, 3., 4.], &Device::Cpu);
    let x = Tracked::leaf(x.unwrap().reshape((1, 2, 6, 1)).unwrap());
    let y = max_pool2d(&x, &config(2, 2, 0)).unwrap();
    let store = y.backward_from(y.value().ones_like().unwrap()).unwrap();
    let value = flat(y.value());
    assert!(value[0].is_nan() && value[1].is_nan() && value[2] == 4.0);
    let dx = flat(store.get(x.value()).unwrap());
    assert_eq!(dx, [1., 0., 0., 1., 0., 0., 0., 0., 0., 0., 0., 1.]);
}

#[test]
fn adaptive_windows_are_pytorchs() {
    // Squares of 1..=35 as 5×7, to 2×3; from torch.nn.functional.adaptive_avg_pool2d.
    let x: Vec<f64> = (1..36).map(|i| f64::from(i * i)).collect();
    let x = Tensor::from_vec(x, (1, 5, 7, 1), &Device::Cpu).unwrap();
    let y = adaptive_avg_pool2d(&Tracked::constant(x), [2, 3]).unwrap();
    let expected = [343., 463., 607., 1687., 1975., 2287.].map(|sum| sum / 3.0);
    let expected = Tensor::from_slice(&expected, (1, 2, 3, 1), &Device::Cpu).unwrap();
    assert_close(y.value(), &expected, 1e-15);
}

#[test]
fn adaptive_pooling_can_repeat_and_keep() {
    let x = random(1, &[2, 3, 4, 5]);
    let same = adaptive_avg_pool2d(&Tracked::constant(x.clone()), [3, 4]).unwrap();
    assert_close(same.value(), &x, 0.0);
    let more = adaptive_avg_pool2d(&Tracked::constant(x.clone()), [6, 8]).unwrap();
    let nearest = x.permute((0, 3, 1, 2)).unwrap().upsample_nearest2d(6, 8).unwrap();
    assert_close(more.value(), &nearest.permute((0, 2, 3, 1)).unwrap(), 0.0);
}

#[test]
fn global_pooling_matches_candle() {
    for shape in SHAPES {
        let x = [distinct(1, &shape)];
        let avg = |x: &[Tensor]| x[0].mean((1, 2));
        crate::testing::assert_matches_candle(&x, 1e-14, |x| global_avg_pool(&x[0]), avg);
        let max = |x: &[Tensor]| x[0].flatten(1, 2)?.max(1);
        crate::testing::assert_matches_candle(&x, 0.0, |x| global_max_pool(&x[0]), max);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let x = [distinct(1, &[2, 5, 6, 3])];
    for config in CONFIGS {
        assert_gradients(&x, |x| max_pool2d(&x[0], &config));
        assert_gradients(&x, |x| avg_pool2d(&x[0], &config));
    }
    for size in [[1, 1], [2, 3], [3, 4], [5, 6], [7, 11]] {
        assert_gradients(&x, |x| adaptive_avg_pool2d(&x[0], size));
    }
    assert_gradients(&x, |x| global_avg_pool(&x[0]));
    assert_gradients(&x, |x| global_max_pool(&x[0]));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let x = Tracked::constant(random(1, &[1, 4, 4, 2]));
    for wrong in [config(0, 1, 0), config(2, 0, 0), config(2, 1, 2), config(5, 1, 0)] {
        for result in [max_pool2d(&x, &wrong), avg_pool2d(&x, &wrong)] {
            assert!(matches!(result, Err(Error::Config { .. })), "{wrong:?}: {result:?}");
        }
    }
    assert!(matches!(adaptive_avg_pool2d(&x, [0, 1]), Err(Error::Config { .. })));
    let flat = Tracked::constant(random(1, &[4, 4]));
    let empty = Tracked::constant(random(1, &[1, 0, 4, 2]));
    let plain = config(1, 1, 0);
    for result in [
        max_pool2d(&flat, &plain),
        avg_pool2d(&flat, &plain),
        adaptive_avg_pool2d(&flat, [1, 1]),
        global_avg_pool(&flat),
        global_max_pool(&flat),
        global_avg_pool(&empty),
        global_max_pool(&empty),
    ] {
        assert!(matches!(result, Err(Error::Shape { .. })), "{result:?}");
    }
}

#[test]
fn shapes_alone_take_no_memory() {
    let x = Tracked::constant(zeros_without_memory((1 << 20, 1024, 512, 8), DType::F32).unwrap());
    let (shapes, macs) = count_multiply_adds(|| {
        let pooled = [
            max_pool2d(&x, &config(3, 2, 1)),
            avg_pool2d(&x, &config(2, 2, 0)),
            adaptive_avg_pool2d(&x, [7, 5]),
            global_avg_pool(&x),
            global_max_pool(&x),
        ];
        pooled.map(|y| y.unwrap().dims().to_vec())
    });
    let n = 1 << 20;
    assert_eq!(shapes[..3], [[n, 512, 256, 8], [n, 512, 256, 8], [n, 7, 5, 8]]);
    assert_eq!((&shapes[3..], macs), (&[vec![n, 8], vec![n, 8]][..], 0));
}

#[test]
fn threads_do_not_matter() {
    let x = [random(1, &[4, 20, 20, 24]).to_dtype(DType::F32).unwrap()];
    assert_same_on_any_threads(|| {
        let mut all = gradients(&x, |x| max_pool2d(&x[0], &config(3, 2, 1))).1;
        all.extend(gradients(&x, |x| avg_pool2d(&x[0], &config(3, 2, 1))).1);
        let (y, dx) = gradients(&x, |x| global_avg_pool(&x[0]));
        all.extend(dx);
        all.push(y);
        all
    });
}
