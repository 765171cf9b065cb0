use candle_core::Tensor;

use super::super::tests::noise;
use crate::host::{Element, host, tensor};
use crate::{
    BatchNorm, Conv2d, Conv2dConfig, Tracked, batch_norm, conv2d, conv2d_batch_norm, no_grad,
};

/// All that a convolution with batch norm takes.
struct Case {
    x: Tracked,
    weight: Tracked,
    bias: Tracked,
    residual: Tracked,
    /// Weight, bias, mean and variance.
    norm: [Tracked; 4],
    config: Conv2dConfig,
}

impl Case {
    fn new<T: Element>(x: [usize; 4], weight: [usize; 4], config: Conv2dConfig) -> Self {
        let leaf = |seed, shape: &[usize], offset: f64| {
            let values = noise::<T>(seed, shape.iter().product());
            let values = values.into_iter().map(|v| v + T::of(offset)).collect();
            Tracked::leaf(tensor::<T>(values, shape).unwrap())
        };
        let channels = [weight[0]];
        let (x, weight) = (leaf(1, &x, 0.0), leaf(2, &weight, 0.0));
        let shape = conv2d(&x, &weight, None, &config).unwrap().dims().to_vec();
        let norm = [1.0, 0.0, 30.0, 2.0].map(|offset| leaf(3, &channels, offset));
        Self {
            x,
            weight,
            bias: leaf(4, &channels, 0.0),
            residual: leaf(5, &shape, 0.0),
            norm,
            config,
        }
    }

    fn bn(&self) -> BatchNorm<'_> {
        let [weight, bias, mean, var] = &self.norm;
        let (running_mean, running_var) = (mean.value(), var.value());
        BatchNorm { weight, bias, running_mean, running_var, momentum: 0.1, eps: 1e-5 }
    }

    fn in_one(&self, [bias, residual, relu]: [bool; 3], train: bool) -> Tracked {
        let bias = bias.then_some(&self.bias);
        let conv = Conv2d { weight: &self.weight, bias, config: &self.config };
        let residual = residual.then_some(&self.residual);
        conv2d_batch_norm(&self.x, &conv, &self.bn(), residual, relu, train).unwrap()
    }

    fn in_two(&self, [bias, residual, relu]: [bool; 3]) -> Tensor {
        let bias = bias.then_some(&self.bias);
        let y = conv2d(&self.x, &self.weight, bias, &self.config).unwrap();
        let residual = residual.then_some(&self.residual);
        batch_norm(&y, &self.bn(), residual, relu, false).unwrap().into_value()
    }
}

fn deviation<T: Element>(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (host::<T>("test", a).unwrap(), host::<T>("test", b).unwrap());
    let scale = b.iter().fold(1e-30, |m, b| b.wide().abs().max(m));
    a.iter().zip(b.iter()).fold(0.0, |m: f64, (a, b)| m.max((a.wide() - b.wide()).abs())) / scale
}

#[test]
fn one_pass_gives_what_two_give() {
    let config = |padding, stride, groups| Conv2dConfig { padding, stride, groups, dilation: 1 };
    let cases: [([usize; 4], [usize; 4], Conv2dConfig); 6] = [
        ([2, 5, 6, 3], [20, 3, 3, 3], config(1, 1, 1)),
        ([2, 5, 6, 24], [41, 24, 1, 1], config(0, 1, 1)),
        ([1, 7, 5, 16], [24, 8, 3, 3], config(1, 2, 2)),
        // In chunks of channels, of which only the last finishes.
        ([1, 4, 3, 700], [18, 700, 3, 3], config(1, 1, 1)),
        // Winograd's way.
        ([2, 9, 8, 40], [50, 40, 3, 3], config(1, 1, 1)),
        ([2, 9, 8, 64], [66, 32, 3, 3], config(1, 1, 2)),
    ];
    for (x, weight, config) in cases {
        let (double, single) =
            (Case::new::<f64>(x, weight, config), Case::new::<f32>(x, weight, config));
        for bits in 0..8 {
            let what = [bits & 1 > 0, bits & 2 > 0, bits & 4 > 0];
            let one = no_grad(|| double.in_one(what, false)).into_value();
            let off = deviation::<f64>(&one, &double.in_two(what));
            assert!(off < 1e-13, "{what:?} off by {off:e}: {x:?} {weight:?} {config:?}");
            let one = no_grad(|| single.in_one(what, false)).into_value();
            let off = deviation::<f32>(&one, &single.in_two(what));
            assert!(off < 1e-5, "{what:?} off by {off:e} in f32: {x:?} {weight:?} {config:?}");
        }
    }
}

#[test]
fn what_is_to_be_differentiated_is_recorded() {
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let case = Case::new::<f64>([2, 5, 4, 3], [6, 3, 3, 3], config);
    for train in [false, true] {
        let y = case.in_one([true, true, true], train);
        let gradients = y.backward_from(y.value().ones_like().unwrap()).unwrap();
        for input in [&case.x, &case.weight, &case.bias, &case.residual, &case.norm[0]] {
            assert!(gradients.get(input.value()).is_some());
        }
    }
    assert!(!no_grad(|| case.in_one([true; 3], false)).is_tracked());
}

#[test]
fn what_is_not_a_number_stays_visible() {
    for width in [3, 32] {
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let mut case = Case::new::<f32>([1, 8, 8, width], [width, width, 3, 3], config);
        case.x = Tracked::constant((case.x.value() * f64::NAN).unwrap());
        let y = no_grad(|| case.in_one([false, false, true], false)).into_value();
        assert!(host::<f32>("test", &y).unwrap().iter().all(|y| y.is_nan()));
    }
}

#[test]
fn a_residual_or_statistics_of_another_shape_are_errors() {
    let config = Conv2dConfig::default();
    let case = Case::new::<f32>([1, 4, 4, 3], [6, 3, 3, 3], config);
    let conv = Conv2d { weight: &case.weight, bias: None, config: &config };
    let error = |bn: &BatchNorm, residual: Option<&Tracked>| {
        let run = || conv2d_batch_norm(&case.x, &conv, bn, residual, false, false);
        no_grad(run).unwrap_err().to_string()
    };
    assert!(error(&case.bn(), Some(&case.x)).contains("a residual of [1, 2, 2, 6]"));
    let three = Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let bn = BatchNorm { running_mean: &three, ..case.bn() };
    assert!(error(&bn, None).contains("6 channels"));
}
