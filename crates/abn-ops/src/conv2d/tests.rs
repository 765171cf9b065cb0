use candle_core::{DType, Device, Tensor};

use super::{Conv2dConfig, Geometry, conv2d, reference, winograd};
use crate::host::{Element, host, tensor};
use crate::{Tracked, count_multiply_adds};

/// Numbers in -1..1 that look random and depend on `seed` alone.
pub(crate) fn noise<T: Element>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::of((state >> 40) as f64 / (1 << 23) as f64 - 1.0)
    };
    (0..len).map(|_| next()).collect()
}

fn config(stride: usize, padding: usize, dilation: usize, groups: usize) -> Conv2dConfig {
    Conv2dConfig { stride, padding, dilation, groups }
}

/// Largest difference relative to the largest element.
fn deviation<T: Element>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-30, |m, b| b.wide().abs().max(m));
    let worst = a.iter().zip(b).map(|(a, b)| (a.wide() - b.wide()).abs());
    // A NaN must not compare as small.
    worst.fold(0.0, |m, d| if d <= m { m } else { d }) / scale
}

/// Output and gradients of input, weight and bias, `dy` being the output's gradient.
fn run<T: Element>(
    x: &[usize; 4],
    weight: &[usize; 4],
    cfg: &Conv2dConfig,
) -> (Geometry, [Vec<T>; 4], [Vec<T>; 4]) {
    let geo = Geometry::new("test", x, weight, None, cfg).unwrap();
    let xs = noise::<T>(1, x.iter().product());
    let ws = noise::<T>(2, weight.iter().product());
    let bs = noise::<T>(3, geo.co);
    let dys = noise::<T>(4, geo.output_shape().iter().product());
    let expected = [
        reference::forward(&geo, &xs, &ws, Some(&bs)),
        reference::input_gradient(&geo, &ws, &dys),
        reference::weight_gradient(&geo, &xs, &dys),
        reference::bias_gradient(&geo, &dys),
    ];
    let leaf = |data, shape: &[usize]| Tracked::leaf(tensor::<T>(data, shape).unwrap());
    let (x, w, b) = (leaf(xs, x), leaf(ws, weight), leaf(bs, &[geo.co]));
    let y = conv2d(&x, &w, Some(&b), cfg).unwrap();
    assert_eq!(y.dims(), geo.output_shape());
    let grads = y.backward_from(tensor(dys, &geo.output_shape()).unwrap()).unwrap();
    let read = |t: &Tensor| host::<T>("test", t).unwrap().to_vec();
    let got = [
        read(y.value()),
        read(grads.get(x.value()).unwrap()),
        read(grads.get(w.value()).unwrap()),
        read(grads.get(b.value()).unwrap()),
    ];
    (geo, got, expected)
}

fn agrees(x: [usize; 4], weight: [usize; 4], cfg: Conv2dConfig) {
    let (geo, got, expected) = run::<f64>(&x, &weight, &cfg);
    for (what, (got, expected)) in ["y", "dx", "dw", "db"].iter().zip(got.iter().zip(&expected)) {
        let off = deviation(got, expected);
        assert!(off < 1e-13, "{what} off by {off:e}: {geo:?}");
    }
    let (_, got, _) = run::<f32>(&x, &weight, &cfg);
    for (what, (got, expected)) in ["y", "dx", "dw", "db"].iter().zip(got.iter().zip(&expected)) {
        let got = got.iter().map(|&v| v as f64).collect::<Vec<_>>();
        let off = deviation(&got, expected);
        assert!(off < 1e-5, "{what} off by {off:e} in f32: {geo:?}");
    }
}

#[test]
fn agrees_with_the_reference_on_a_grid_of_settings() {
    for kernel in [1, 2, 3, 5, 7] {
        for stride in [1, 2, 3] {
            for padding in [0, 1, 3] {
                for dilation in [1, 2] {
                    for groups in [1, 2] {
                        let size = 13.max(dilation * (kernel - 1) + 1);
                        let cfg = config(stride, padding, dilation, groups);
                        agrees([2, size, size + 1, 6], [4, 6 / groups, kernel, kernel], cfg);
                    }
                }
            }
        }
    }
}

#[test]
fn agrees_with_the_reference_whatever_is_left_over_after_blocking() {
    for ci in [1, 2, 3, 4, 5, 7, 13, 16, 17, 24, 33] {
        for co in [1, 3, 8, 10, 16, 20, 33] {
            agrees([1, 5, 7, ci], [co, ci, 3, 3], config(1, 1, 1, 1));
            agrees([3, 3, 5, ci], [co, ci, 1, 1], config(1, 0, 1, 1));
        }
    }
    for width in 1..15 {
        agrees([2, 3, width, 9], [17, 9, 3, 3], config(1, 1, 1, 1));
        agrees([width, 1, 2, 9], [17, 9, 1, 1], config(1, 0, 1, 1));
    }
}

#[test]
fn agrees_with_the_reference_on_shapes_of_networks() {
    agrees([2, 16, 16, 3], [16, 3, 3, 3], config(1, 1, 1, 1));
    agrees([1, 30, 30, 3], [24, 3, 7, 7], config(2, 3, 1, 1));
    agrees([2, 8, 8, 64], [64, 64, 3, 3], config(1, 1, 1, 1));
    agrees([2, 16, 16, 16], [32, 16, 1, 1], config(2, 0, 1, 1));
    agrees([2, 8, 8, 64], [64, 8, 3, 3], config(2, 1, 1, 8));
    agrees([2, 8, 8, 12], [12, 1, 3, 3], config(1, 1, 1, 12));
    agrees([2, 8, 8, 100], [1, 100, 3, 3], config(1, 1, 1, 1));
    agrees([1, 2, 2, 300], [70, 300, 3, 3], config(1, 1, 1, 1));
    // Pixels so wide that groups or chunks of channels are copied together first.
    agrees([2, 5, 6, 512], [16, 64, 3, 3], config(1, 1, 1, 8));
    agrees([2, 5, 6, 512], [16, 64, 3, 3], config(2, 1, 1, 8));
    agrees([1, 40, 9, 260], [20, 130, 3, 3], config(2, 2, 2, 2));
    agrees([2, 5, 6, 600], [18, 600, 1, 1], config(1, 0, 1, 1));
    agrees([2, 5, 6, 600], [18, 600, 1, 1], config(2, 1, 1, 1));
}

#[test]
fn winograd_agrees_with_the_reference_whatever_the_borders_and_the_channels() {
    for (h, w) in [(8, 8), (9, 10), (7, 13), (3, 40), (40, 3), (4, 4)] {
        for padding in [0, 1, 2] {
            let cfg = config(1, padding, 1, 1);
            let shapes = ([17, h, w, 33], [35, 33, 3, 3]);
            let geo = Geometry::new("test", &shapes.0, &shapes.1, None, &cfg).unwrap();
            assert!(winograd::fits(&geo), "{geo:?}");
            agrees(shapes.0, shapes.1, cfg);
        }
    }
    for (ci, co) in [(16, 16), (24, 17), (19, 32), (32, 32), (40, 96), (97, 41), (64, 130)] {
        agrees([3, 8, 6, 2 * ci], [2 * co, ci, 3, 3], config(1, 1, 1, 2));
        agrees([1, 9, 9, ci], [co, ci, 3, 3], config(1, 1, 1, 1));
    }
    let fits = |x: [usize; 4], weight: [usize; 4], cfg| {
        winograd::fits(&Geometry::new("test", &x, &weight, None, &cfg).unwrap())
    };
    // As many channels as a tile has columns, and not one fewer on either side.
    let full = winograd::channels();
    assert!(fits([4, 8, 8, full], [full, full, 3, 3], config(1, 1, 1, 1)));
    assert!(!fits([4, 8, 8, full - 1], [full, full - 1, 3, 3], config(1, 1, 1, 1)));
    assert!(!fits([4, 8, 8, full], [full - 1, full, 3, 3], config(1, 1, 1, 1)));
    let direct = |x, weight, cfg| assert!(!fits(x, weight, cfg), "{x:?} {weight:?} {cfg:?}");
    direct([4, 8, 8, 64], [64, 64, 3, 3], config(2, 1, 1, 1));
    direct([4, 8, 8, 64], [64, 64, 3, 3], config(1, 2, 2, 1));
    direct([4, 8, 8, 64], [64, 64, 3, 3], config(1, 3, 1, 1));
    direct([4, 8, 8, 64], [64, 64, 1, 3], config(1, 1, 1, 1));
    direct([4, 8, 8, 64], [64, 8, 3, 3], config(1, 1, 1, 8));
    direct([1, 4, 4, 64], [64, 64, 3, 3], config(1, 1, 1, 1));
}

#[test]
fn gradients_agree_with_finite_differences() {
    let small = |cfg: Conv2dConfig| (vec![2, 5, 6, 4], vec![6, 4 / cfg.groups, 3, 3], 7, cfg);
    let cases = [
        small(config(1, 1, 1, 1)),
        small(config(2, 1, 1, 1)),
        small(config(1, 2, 2, 2)),
        small(config(3, 0, 1, 2)),
        // Wide enough for Winograd's way.
        (vec![2, 5, 6, 32], vec![33, 32, 3, 3], 511, config(1, 1, 1, 1)),
    ];
    for (input, weight, step, cfg) in cases {
        let bias = vec![weight[0]];
        let shapes: [Vec<usize>; 3] = [input, weight, bias];
        let values: Vec<Vec<f64>> =
            shapes.iter().zip(1..).map(|(s, seed)| noise(seed, s.iter().product())).collect();
        let leaves = |values: &[Vec<f64>]| -> Vec<Tracked> {
            let pairs = values.iter().zip(&shapes);
            pairs.map(|(v, s)| Tracked::leaf(tensor(v.clone(), s.as_slice()).unwrap())).collect()
        };
        let leaf = leaves(&values);
        let y = conv2d(&leaf[0], &leaf[1], Some(&leaf[2]), &cfg).unwrap();
        let weights = noise::<f64>(9, y.value().elem_count());
        let grads = y.backward_from(tensor(weights.clone(), y.dims()).unwrap()).unwrap();
        let loss = |values: &[Vec<f64>]| -> f64 {
            let leaf = leaves(values);
            let y = conv2d(&leaf[0], &leaf[1], Some(&leaf[2]), &cfg).unwrap();
            let y = host::<f64>("test", y.value()).unwrap();
            y.iter().zip(&weights).map(|(y, w)| y * w).sum()
        };
        for (input, values_of) in values.iter().enumerate() {
            let grad = grads.get(leaf[input].value()).unwrap();
            let grad = host::<f64>("test", grad).unwrap();
            for at in (0..values_of.len()).step_by(step) {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[input][at] += by;
                    loss(&values)
                };
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                let off = (difference - grad[at]).abs();
                assert!(off < 1e-7, "input {input}, element {at} off by {off:e}: {cfg:?}");
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let cases = [
        ([5, 9, 9, 12], [16, 12, 3, 3], config(1, 1, 1, 1)),
        ([5, 9, 9, 16], [16, 16, 3, 3], config(1, 1, 1, 1)),
        ([1, 20, 20, 3], [16, 3, 3, 3], config(1, 1, 1, 1)),
        ([3, 8, 8, 64], [32, 8, 3, 3], config(2, 1, 1, 8)),
        ([7, 6, 6, 40], [24, 40, 1, 1], config(1, 0, 1, 1)),
        ([1, 4, 4, 100], [1, 100, 3, 3], config(1, 1, 1, 1)),
        ([5, 9, 9, 40], [72, 40, 3, 3], config(1, 1, 1, 1)),
        ([2, 16, 16, 64], [64, 32, 3, 3], config(1, 1, 1, 2)),
    ];
    for (x, weight, cfg) in cases {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let results = pool.install(|| run::<f32>(&x, &weight, &cfg).1);
            results.map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        let one = with(1);
        assert!(one == with(2) && one == with(3), "{x:?} {weight:?} {cfg:?}");
    }
}

#[test]
fn shapes_and_settings_that_do_not_fit_are_errors() {
    let zeros = |shape: &[usize]| {
        Tracked::constant(Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())
    };
    let x = zeros(&[1, 4, 4, 6]);
    let error = |weight: &[usize], bias: Option<&[usize]>, cfg| {
        let bias = bias.map(zeros);
        conv2d(&x, &zeros(weight), bias.as_ref(), &cfg).unwrap_err().to_string()
    };
    let cases = [
        (error(&[4, 6, 3, 3], None, config(0, 1, 1, 1)), "at least 1"),
        (error(&[4, 6, 3, 3], None, config(1, 1, 0, 1)), "at least 1"),
        (error(&[4, 6, 3, 3], None, config(1, 1, 1, 0)), "at least 1"),
        (error(&[4, 2, 3, 3], None, config(1, 1, 1, 4)), "4 groups"),
        (error(&[5, 3, 3, 3], None, config(1, 1, 1, 2)), "2 groups"),
        (error(&[4, 5, 3, 3], None, config(1, 1, 1, 1)), "(C_out, 6, KH, KW)"),
        (error(&[4, 6, 3], None, config(1, 1, 1, 1)), "(C_out, C_in / groups, KH, KW)"),
        (error(&[4, 6, 0, 3], None, config(1, 1, 1, 1)), "no size 0"),
        (error(&[4, 6, 7, 7], None, config(1, 1, 1, 1)), "at least 7x7"),
        (error(&[4, 6, 3, 3], None, config(1, 0, 2, 1)), "at least 5x5"),
        (error(&[4, 6, 3, 3], Some(&[5]), config(1, 1, 1, 1)), "bias of 4"),
    ];
    for (message, part) in cases {
        assert!(message.starts_with("conv2d: ") && message.contains(part), "{part}: {message}");
    }
    let flat = conv2d(&zeros(&[4, 6]), &zeros(&[4, 6, 3, 3]), None, &config(1, 1, 1, 1));
    assert!(flat.unwrap_err().to_string().contains("(N, H, W, C)"));
    let double = Tracked::constant(Tensor::zeros((4, 6, 3, 3), DType::F64, &Device::Cpu).unwrap());
    assert!(conv2d(&x, &double, None, &config(1, 1, 1, 1)).is_err());
}

#[test]
fn counting_costs_no_memory_and_knows_every_multiply_add() {
    let zeros = |shape: [usize; 4]| {
        Tracked::constant(crate::zeros_without_memory(&shape, DType::F32).unwrap())
    };
    let (y, macs) = count_multiply_adds(|| {
        conv2d(&zeros([64, 224, 224, 64]), &zeros([128, 32, 3, 3]), None, &config(2, 1, 1, 2))
    });
    assert_eq!(y.unwrap().dims(), [64, 112, 112, 128]);
    assert_eq!(macs, 64 * 112 * 112 * 128 * 32 * 9);
}
