//! What the operations' own tests, run with `ABN_EMULATE_CUDA=1`, do not see: bf16, and that both ways
//! agree where they should to the bit.

use candle_core::{DType, Device, Tensor, Var};

use super::emulated;
use crate::testing::{assert_close, deviation, distinct, flat, gradients, random, sharing};
use crate::*;

/// The tensors with values that bf16 holds, as feature maps (bf16) and as they are in f32. Parameters
/// (`maps` of them come before) are f32 in both.
fn both(inputs: &[Tensor], maps: &[usize]) -> [Vec<Tensor>; 2] {
    let map = |(i, tensor): (usize, &Tensor), dtype| {
        let rounded = tensor.to_dtype(DType::BF16).unwrap();
        rounded.to_dtype(if maps.contains(&i) { dtype } else { DType::F32 }).unwrap()
    };
    [DType::BF16, DType::F32]
        .map(|dtype| inputs.iter().enumerate().map(|input| map(input, dtype)).collect())
}

/// Output and gradients in bf16 against those in f32: as near as eight bits of mantissa allow, and of
/// the types of what they belong to.
#[track_caller]
fn assert_bf16(
    inputs: &[Tensor],
    maps: &[usize],
    output: DType,
    f: impl Fn(&[Tracked]) -> Result<Tracked>,
) {
    let [low, high] = both(inputs, maps);
    let (y, dx) = emulated(true, || gradients(&low, &f));
    let (expected, expected_dx) = emulated(true, || gradients(&high, &f));
    assert_eq!(y.dtype(), output);
    assert_close(&y, &expected, 0.02);
    for (i, (dx, expected)) in dx.iter().zip(&expected_dx).enumerate() {
        assert_eq!(dx.dtype(), low[i].dtype(), "gradient of input {i}");
        assert_close(dx, expected, 0.03);
    }
}

fn batch_normalised(x: &[Tracked], residual: bool, relu: bool, train: bool) -> Result<Tracked> {
    let channels = x[1].dims()[0];
    let running = [random(5, &[channels]), (random(6, &[channels]) + 1.5)?];
    let running = running.map(|t| t.to_dtype(DType::F32).unwrap());
    let bn = BatchNorm {
        weight: &x[1],
        bias: &x[2],
        running_mean: &running[0],
        running_var: &running[1],
        momentum: 0.1,
        eps: 1e-5,
    };
    batch_norm(&x[0], &bn, residual.then(|| &x[3]), relu, train)
}

#[test]
fn layers_in_bf16() {
    const MAP: DType = DType::BF16;
    let cfg = Conv2dConfig { padding: 1, stride: 2, groups: 2, dilation: 1 };
    let inputs = [random(1, &[2, 9, 9, 16]), random(2, &[24, 8, 3, 3]), random(3, &[24])];
    assert_bf16(&inputs, &[0], MAP, |x| conv2d(&x[0], &x[1], Some(&x[2]), &cfg));
    let inputs = [random(1, &[2, 5, 5, 16]), random(2, &[24, 16, 1, 1])];
    assert_bf16(&inputs, &[0], MAP, |x| conv2d(&x[0], &x[1], None, &Conv2dConfig::default()));
    let inputs = [random(1, &[6, 33]), random(2, &[10, 33]), random(3, &[10])];
    assert_bf16(&inputs, &[0], MAP, |x| linear(&x[0], &x[1], Some(&x[2])));
    for channels in [16, 5, 1] {
        for case in 0..4 {
            let shape = [3, 8, 8, channels];
            let weight = (random(2, &[channels]) + 1.5).unwrap();
            let mut inputs = vec![distinct(1, &shape), weight, random(3, &[channels])];
            let (residual, train) = (case & 1 != 0, case & 2 != 0);
            if residual {
                inputs.push(random(4, &shape));
            }
            // Rounding moves values across the ReLU's edge; that is not what is looked at here.
            assert_bf16(&inputs, &[0, 3], MAP, |x| batch_normalised(x, residual, false, train));
        }
    }
}

#[test]
fn fused_layers_and_parts_in_bf16() {
    const MAP: DType = DType::BF16;
    let statistics = [random(5, &[16]), (random(6, &[16]) + 1.5).unwrap()]
        .map(|t| t.to_dtype(DType::F32).unwrap());
    let norm = |x: &[Tracked], f: &dyn Fn(&BatchNorm) -> Result<Tracked>| {
        let copies = [statistics[0].copy()?, statistics[1].copy()?];
        let [running_mean, running_var] = &copies;
        let (weight, bias) = (&x[1], &x[2]);
        f(&BatchNorm { weight, bias, running_mean, running_var, momentum: 0.1, eps: 1e-5 })
    };
    let weight = (random(2, &[16]) + 1.5).unwrap();
    let x = [distinct(1, &[6, 4, 4, 16]), weight, random(3, &[16])];
    assert_bf16(&x, &[0], MAP, |x| norm(x, &|bn| batch_norm_parts(&x[0], bn, None, false, 3)));
    let mut x = x.to_vec();
    x.push((random(4, &[16, 16, 3, 3]) * 0.2).unwrap());
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    for train in [false, true] {
        assert_bf16(&x, &[0], MAP, |x| {
            let conv = Conv2d { weight: &x[3], bias: None, config: &config };
            norm(x, &|bn| conv2d_batch_norm(&x[0], &conv, bn, None, false, train))
        });
    }
    assert_bf16(&x[..1], &[0], MAP, |x| dropout_parts(&x[0], 0.4, &[3, 4, 5]));
}

#[test]
fn number_types_change_and_gradients_change_back() {
    let x = [random(1, &[3, 7, 5])];
    let to = |dtype| move |x: &[Tracked]| cast(&cast(&x[0], DType::BF16)?, dtype);
    assert_bf16(&x, &[0], DType::BF16, to(DType::BF16));
    assert_bf16(&x, &[0], DType::F32, to(DType::F32));
    // To the bit what candle's conversion on the CPU gives, ties and all.
    let bits: Vec<f32> = (0..1 << 12).map(|i| f32::from_bits(0x3f80_0000 + i * 0x1000)).collect();
    let bits = Tensor::from_vec(bits, 1 << 12, &Device::Cpu).unwrap();
    let there = |on| emulated(on, || cast(&Tracked::constant(bits.clone()), DType::BF16)).unwrap();
    assert_eq!(flat(there(true).value()), flat(there(false).value()));
    assert!(emulated(true, || has_kernels(&Device::Cpu, DType::BF16)));
    assert!(!emulated(false, || has_kernels(&Device::Cpu, DType::BF16)));
}

#[test]
fn passes_in_bf16() {
    const MAP: DType = DType::BF16;
    let x = [distinct(1, &[2, 6, 6, 24])];
    assert_bf16(&x, &[0], MAP, |x| relu(&x[0]));
    assert_bf16(&x, &[0], MAP, |x| sigmoid(&x[0]));
    assert_bf16(&x, &[0], MAP, |x| dropout(&x[0], 0.3, 7));
    assert_bf16(&x, &[0], MAP, |x| to_channels_first(&x[0]));
    assert_bf16(&x, &[0], MAP, |x| to_channels_last(&x[0]));
    assert_bf16(&x, &[0], MAP, |x| reshape(&x[0], (12, 144)));
    assert_bf16(&x, &[0], MAP, |x| adaptive_avg_pool2d(&x[0], [4, 5]));
    assert_bf16(&x, &[0], MAP, |x| narrow(&x[0], 3, 8..19));
    assert_bf16(&x, &[0], MAP, |x| global_avg_pool(&x[0]));
    assert_bf16(&x, &[0], MAP, |x| log1p_sum(&relu(&x[0])?));
    let config = Pool2dConfig { kernel: 3, stride: 2, padding: 1 };
    assert_bf16(&x, &[0], MAP, |x| avg_pool2d(&x[0], &config));
    // Values that bf16 tells apart.
    let steps: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 200) - 100.0).collect();
    let steps = [Tensor::from_vec(steps, (1, 10, 10, 2), &Device::Cpu).unwrap()];
    assert_bf16(&steps, &[0], MAP, |x| max_pool2d(&x[0], &config));
    assert_bf16(&steps, &[0], MAP, |x| global_max_pool(&x[0]));
    let two = [random(1, &[2, 6, 6, 24]), random(2, &[2, 6, 6, 24])];
    assert_bf16(&two, &[0, 1], MAP, |x| add(&x[0], &x[1]));
    assert_bf16(&two, &[0, 1], MAP, |x| concat(&[&x[0], &x[1]]));
    let maps = [random(1, &[2, 6, 6, 24]), random(2, &[2, 6, 6, 3])];
    assert_bf16(&maps, &[0, 1], MAP, |x| attend_each(&x[0], &x[1], 1..3, true));
    let map = [random(1, &[2, 6, 6, 5]), random(2, &[2, 6, 6, 1])];
    assert_bf16(&map, &[0, 1], MAP, |x| attend(&x[0], &x[1], false));
    let mut weighted = two.to_vec();
    weighted.insert(1, random(3, &[2, 24]));
    weighted[2] = (&weighted[2] + 3.0).unwrap();
    assert_bf16(&weighted, &[0, 1, 2], MAP, |x| excite(&x[0], &x[1], &x[2]));
}

#[test]
fn losses_of_bf16_are_f32() {
    let x = [(random(1, &[20, 13]) * 4.0).unwrap()];
    let labels: Vec<u32> = (0..20).map(|i| i * 7 % 13).collect();
    let labels = Tensor::from_vec(labels, 20, &Device::Cpu).unwrap();
    let targets = random(2, &[20, 13]).ge(0.0).unwrap().to_dtype(DType::F32).unwrap();
    assert_bf16(&x, &[0], DType::F32, |x| smoothed_softmax_cross_entropy(&x[0], &labels, 0.1));
    assert_bf16(&x, &[0], DType::F32, |x| bce_with_logits(&x[0], &targets));
    let [low, high] = both(&x, &[0]);
    let [low, high] = [low, high].map(|x| emulated(true, || softmax(&x[0])).unwrap());
    assert_close(&low, &high, 0.01);
}

/// What a part of a shared batch gives: output, running statistics and all gradients.
fn share_of(x: &[Tensor], rows: (usize, usize), on_gpu: bool, dtype: DType) -> Vec<Tensor> {
    let cut = |x: &Tensor| {
        let part = x.narrow(0, rows.0, rows.1).unwrap();
        part.contiguous().unwrap().to_dtype(dtype).unwrap()
    };
    let inputs: Vec<Tensor> =
        (0..4).map(|i| if i % 3 == 0 { cut(&x[i]) } else { x[i].clone() }).collect();
    let running = [x[1].zeros_like().unwrap(), x[1].ones_like().unwrap()];
    let (y, dx) = emulated(on_gpu, || {
        gradients(&inputs, |x| {
            let bn = BatchNorm {
                weight: &x[1],
                bias: &x[2],
                running_mean: &running[0],
                running_var: &running[1],
                momentum: 0.1,
                eps: 1e-5,
            };
            batch_norm_parts(&x[0], &bn, Some(&x[3]), true, rows.1 / 2)
        })
    });
    [y].into_iter().chain(running).chain(dx).collect()
}

#[test]
fn a_shared_batch_is_on_a_gpu_what_it_is_on_the_cpu() {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 0.05)] {
        for channels in [3, 16] {
            let shape = [14, 3, 2, channels];
            let mut inputs = [
                (distinct(1, &shape) + 0.5).unwrap(),
                (random(2, &[channels]) + 1.5).unwrap(),
                random(3, &[channels]),
                random(4, &shape),
            ];
            for input in &mut inputs {
                // Of values that bf16 holds: no ReLU is at its kink for one of the two only.
                *input = input.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
            }
            // The third's values do not count.
            let (counts, rows) = ([true, true, false], [(0, 4), (4, 4), (8, 4)]);
            let run = |on_gpu, dtype| {
                sharing(&counts, |index| share_of(&inputs, rows[index], on_gpu, dtype))
            };
            let (found, expected) = (run(true, dtype), run(false, DType::F32));
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert_close(found, expected, tolerance);
            }
            // Not what each would have alone.
            let alone = share_of(&inputs, rows[0], true, dtype);
            let far = |i: usize| deviation(&found[0][i], &alone[i]) > 0.05;
            assert!(far(0) && far(1) && far(3));
        }
    }
}

#[test]
fn dropout_drops_what_the_cpu_drops() {
    for (count, p) in [(3 * 4096 + 77, 0.3), (5, 0.5), (40_000, 0.9), (100, 1.0)] {
        let x = random(1, &[count]).to_dtype(DType::F32).unwrap();
        let run = |on| {
            emulated(on, || {
                gradients(std::slice::from_ref(&x), |x| dropout(&x[0], p, 0x1234_5678_9abc))
            })
        };
        let ((y, dx), (expected, expected_dx)) = (run(true), run(false));
        assert_eq!(flat(&y), flat(&expected));
        assert_eq!(flat(&dx[0]), flat(&expected_dx[0]));
    }
}

/// More tensors than a table holds, and larger than a block.
fn parameters() -> Vec<[Tensor; 3]> {
    let tensor = |seed: usize, count: usize| {
        let values = random(seed as u64, &[count]).to_dtype(DType::F32).unwrap();
        Var::from_tensor(&values).unwrap().into_inner()
    };
    let sizes = (0..200).map(|i| if i % 50 == 3 { 10_000 + i } else { 1 + i });
    sizes.enumerate().map(|(i, n)| [0, 1, 2].map(|k| tensor(3 * i + k, n))).collect()
}

#[test]
fn one_step_for_all_parameters_is_one_for_each() {
    for (momentum, nesterov, first) in [(0.0, false, true), (0.9, false, true), (0.9, true, false)]
    {
        let config = SgdConfig { lr: 0.1, momentum, weight_decay: 0.01, nesterov };
        let run = |on| {
            let parameters = parameters();
            let steps: Vec<_> = parameters.iter().map(|[p, v, g]| (p, v, g)).collect();
            emulated(on, || sgd_step_all(&steps, &config, first)).unwrap();
            let averages: Vec<_> = parameters.iter().map(|[p, _, g]| (g, p)).collect();
            emulated(on, || ema_step_all(&averages, 0.9)).unwrap();
            parameters
        };
        for (got, expected) in run(true).iter().flatten().zip(run(false).iter().flatten()) {
            assert_close(got, expected, 1e-6);
        }
    }
}

#[test]
fn a_label_on_the_gpu_that_is_none_makes_the_loss_nan() {
    // As if they lay on the GPU: past the look that the host takes.
    let labels = Tensor::new(&[1u32, 5, 2], &Device::Cpu).unwrap();
    let x = Tracked::leaf(random(1, &[3, 5]).to_dtype(DType::F32).unwrap());
    let loss = loss::cuda::cross_entropy("test", &x, x.value().clone(), labels, 0.0).unwrap();
    assert!(flat(loss.value())[0].is_nan());
    let grad = loss.backward().unwrap();
    let grad = flat(grad.get(x.value()).unwrap());
    assert!(grad[..5].iter().all(|v| v.is_finite()) && grad[5..10].iter().all(|v| v.is_nan()));
}

#[test]
fn what_has_no_kernel_is_an_error() {
    let on = |f: &dyn Fn() -> Result<Tracked>| emulated(true, f);
    let half = Tracked::constant(random(1, &[4]).to_dtype(DType::F16).unwrap());
    let error = on(&|| relu(&half)).unwrap_err();
    assert_eq!(error.to_string(), "relu: no kernel for F16 on a GPU");
    let [a, b] = [DType::F32, DType::F64]
        .map(|dtype| Tracked::constant(random(1, &[4]).to_dtype(dtype).unwrap()));
    assert!(matches!(on(&|| add(&a, &b)), Err(Error::Unsupported { op: "add", .. })));
}
