//! Whole networks in bf16 on a GPU's kernels, against f32. The kernels run on the CPU here
//! (`xtask/emulate-gpu.sh`), or on a GPU if there is one.

use std::path::Path;

use abn_backbones::{BuildOptions, Variant};
use abn_core::{Classifier, Mixed, Mode, ParamStore};
use abn_multitask::{Form, MultiTask, Task};
use abn_ops::Tracked;
use abn_train::{Error, Metrics, Precision, Progress, Recipe, Run, TrainOptions, train};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

const TRAIN: Mode = Mode::Train { seed: 1 };

/// Images (N, 3, side, side) that are no noise: a bright disc whose place is the label, of four.
fn images(count: usize, side: usize) -> (Tracked, Tensor) {
    let labels: Vec<u32> = (0..count).map(|i| (i * 7 % 4) as u32).collect();
    let quarter = side as f32 / 4.0;
    let pixel = |n: usize, c: usize, y: usize, x: usize| {
        let label = labels[n] as usize;
        let (cy, cx) =
            (quarter * (1 + 2 * (label / 2)) as f32, quarter * (1 + 2 * (label % 2)) as f32);
        let away = (y as f32 - cy).hypot(x as f32 - cx) / quarter;
        let grain = ((n * 53 + c * 37 + y * 29 + x * 71) % 17) as f32 / 17.0;
        1.5 * (1.0 - away).max(-0.5) + grain - 0.4
    };
    let mut values = Vec::with_capacity(count * 3 * side * side);
    for n in 0..count {
        for (c, y) in (0..3).flat_map(|c| (0..side).map(move |y| (c, y))) {
            values.extend((0..side).map(|x| pixel(n, c, y, x)));
        }
    }
    let images = Tensor::from_vec(values, (count, 3, side, side), &Device::Cpu).unwrap();
    (Tracked::constant(images), Tensor::from_vec(labels, count, &Device::Cpu).unwrap())
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Cosine of the angle between two gradients over all parameters.
fn cosine(params: &ParamStore, a: &GradStore, b: &GradStore) -> f64 {
    let (mut product, mut squares) = (0.0, [0.0; 2]);
    for (name, var) in params.parameters() {
        let (Some(a), Some(b)) = (a.get(&var), b.get(&var)) else {
            assert_eq!(a.get(&var).is_some(), b.get(&var).is_some(), "{name}");
            continue;
        };
        assert_eq!((a.dtype(), b.dtype()), (DType::F32, DType::F32), "the gradient of {name}");
        let [a, b] = [a, b].map(|t| t.to_dtype(DType::F64).unwrap());
        product += number(&(&a * &b).unwrap().sum_all().unwrap());
        squares[0] += number(&a.sqr().unwrap().sum_all().unwrap());
        squares[1] += number(&b.sqr().unwrap().sum_all().unwrap());
    }
    product / (squares[0] * squares[1]).sqrt()
}

/// Images (N, 3, side, side) of noise, mean 0 and variance 1, and labels of four classes.
fn noise(count: usize, side: usize) -> (Tracked, Tensor) {
    let mut state = 1u64;
    let mut uniform = || {
        // The lower bits of Knuth's generator are poor: the upper ones.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut value = || (uniform() - 0.5) * 12f32.sqrt();
    let values: Vec<f32> = (0..count * 3 * side * side).map(|_| value()).collect();
    let images = Tensor::from_vec(values, (count, 3, side, side), &Device::Cpu).unwrap();
    let labels = (0..count).map(|i| (i * 7 % 4) as u32).collect::<Vec<_>>();
    (Tracked::constant(images), Tensor::from_vec(labels, count, &Device::Cpu).unwrap())
}

#[test]
fn a_step_in_bf16_is_one_in_f32_but_for_rounding() {
    // The least cosine of the two gradients. Between PyTorch's autocast and its f32, on such images and from
    // such weights, it was 0.9907 to 0.9918 for ABN ResNet-8 and 0.939 to 0.956 for ResNet-20 (three seeds
    // each; 0.988 of 16 images): each layer's rounding moves some values across the edge of the ReLUs
    // after it. Here it is 0.9898 and 0.9496.
    let networks = [
        ("resnet8", Variant::Abn, 16, 0.985),
        ("resnet20", Variant::Abn, 16, 0.93),
        ("resnet8", Variant::Cam, 16, 0.985),
        ("resnet8", Variant::Control, 16, 0.985),
        ("wrn-10-1", Variant::Abn, 16, 0.985),
        ("resnext11-2x8d-k1", Variant::Abn, 16, 0.97),
        ("cifar-vgg11-bn-w16", Variant::Abn, 32, 0.96),
    ];
    let mut far = Vec::new();
    for (name, variant, side, least) in networks {
        let (image, labels) = noise(if side == 16 { 32 } else { 8 }, side);
        let params = ParamStore::new(3, DType::F32, Device::Cpu);
        let options = BuildOptions { dropout: Some(0.0), ..BuildOptions::new(4) };
        let spec = abn_backbones::find(name).unwrap();
        let build = || spec.build(variant, &options, params.var_builder()).unwrap();
        let step = |model: &dyn Classifier| {
            let output = model.forward(&image, TRAIN).unwrap();
            assert_eq!(output.logits.value().dtype(), DType::F32);
            let loss = abn_core::loss(&output, &labels).unwrap();
            (number(loss.total.value()), loss.total.backward().unwrap())
        };
        let (loss, gradient) = step(&build());
        let mixed = Mixed::bf16(build(), params.device()).unwrap();
        let (loss_bf16, gradient_bf16) = step(&mixed);
        let difference = (loss_bf16 / loss - 1.0).abs();
        let cosine = cosine(&params, &gradient, &gradient_bf16);
        let told = format!(
            "{name} {variant}: loss {loss:.5}, relative difference {difference:.1e}, cosine {cosine:.5}"
        );
        println!("{told}");
        assert!(difference > 0.0, "{name} computes in f32");
        if difference >= 1e-2 || cosine < least {
            far.push(told);
        }
        for (name, tensor) in params.tensors() {
            assert_eq!(tensor.dtype(), DType::F32, "{name}");
        }
        // In evaluation, and in two steps, as explanations take it.
        let features = mixed.features(&image, Mode::Eval).unwrap();
        let scores = mixed.classify(&features.last, Mode::Eval).unwrap();
        let whole = mixed.forward(&image, Mode::Eval).unwrap();
        assert_eq!(features.last.value().dtype(), DType::F32);
        let difference = (scores.value() - whole.logits.value()).unwrap().abs().unwrap();
        assert_eq!(number(&difference.max_all().unwrap()), 0.0, "{name}");
    }
    assert!(far.is_empty(), "{far:#?}");
}

#[test]
fn a_step_of_several_tasks_in_bf16_is_one_in_f32_but_for_rounding() {
    let (image, labels) = noise(32, 16);
    let labels = labels.to_vec1::<u32>().unwrap();
    let labels = labels.iter().flat_map(|&label| [label % 2, label / 2, label]).collect::<Vec<_>>();
    let labels = Tensor::from_vec(labels, (32, 3), &Device::Cpu).unwrap();
    let tasks = [Task::binary("left"), Task::binary("top"), Task::new("place", 4)];
    let spec = abn_backbones::find("resnet8").unwrap();
    for form in [Form::Chainer, Form::V1] {
        let params = ParamStore::new(3, DType::F32, Device::Cpu);
        let options = abn_multitask::BuildOptions::new(abn_multitask::Variant::Abn, form.config());
        let build = || abn_multitask::build(&spec, &tasks, &options, params.var_builder()).unwrap();
        let step = |model: &dyn MultiTask| {
            let mut gradient = GradStore::default();
            let step = model.backward_into(&image, &labels, TRAIN, 1.0, &mut gradient).unwrap();
            (step.total().unwrap(), gradient)
        };
        let (loss, gradient) = step(&build());
        let (loss_bf16, gradient_bf16) = step(&Mixed::bf16(build(), params.device()).unwrap());
        let difference = (loss_bf16 / loss - 1.0).abs();
        let cosine = cosine(&params, &gradient, &gradient_bf16);
        println!(
            "{form}: loss {loss:.5}, relative difference {difference:.1e}, cosine {cosine:.5}"
        );
        assert!(difference > 0.0 && difference < 1e-2, "{difference}");
        // g·M with maps about 0: what M was rounded to counts for more than in g·(1+M).
        assert!(cosine > if form == Form::Chainer { 0.96 } else { 0.99 }, "{cosine}");
    }
}

/// A folder of small pictures of four classes.
fn write_pictures(root: &Path) {
    let (image, labels) = images(40, 16);
    let [values, labels] =
        [image.value().flatten_all().unwrap(), labels.to_dtype(DType::F32).unwrap()]
            .map(|t| t.to_vec1::<f32>().unwrap());
    for (index, (values, label)) in values.chunks(3 * 256).zip(labels).enumerate() {
        let folder = root.join(format!("place{label}"));
        std::fs::create_dir_all(&folder).unwrap();
        let shade = |x: u32, y: u32| (values[(y * 16 + x) as usize] * 80.0 + 90.0) as u8;
        let picture = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([shade(x, y)]));
        picture.save(folder.join(format!("{index:02}.png"))).unwrap();
    }
}

#[test]
fn a_run_in_bf16_learns_and_keeps_f32() {
    let lab = tempfile::tempdir().unwrap();
    write_pictures(&lab.path().join("pictures"));
    let recipe = Recipe {
        model: "resnet8".into(),
        dataset: "folder".into(),
        data_dir: Some(lab.path().join("pictures")),
        image_size: Some(16),
        epochs: 3,
        batch_size: 8,
        lr: 0.05,
        milestones: vec![2],
        augment: false,
        ema_decay: Some(0.5),
        precision: Precision::Bf16,
        ..Recipe::default()
    };
    let options = TrainOptions { progress: Progress::Quiet, ..TrainOptions::default() };
    let folder = lab.path().join("run");
    let summary = train(&recipe, &folder, &options).unwrap();
    let lines = Metrics::read(&folder.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = lines.iter().map(|line| line.train_loss).collect();
    println!("losses {losses:?}, test error {}", summary.test_error);
    assert!(losses[2] < 0.8 * losses[0], "{losses:?}");
    assert!(lines.iter().all(|line| line.train_loss_attention.is_some()));
    let sum = |line: &Metrics| {
        line.train_loss_perception + line.train_loss_attention.unwrap() - line.train_loss
    };
    assert!(lines.iter().all(|line| sum(line).abs() < 1e-3 * line.train_loss));

    // What is kept is f32, and says how it was trained.
    let run = Run::open(&folder).unwrap();
    assert_eq!(run.card.recipe.precision, Precision::Bf16);
    assert!(run.params.tensors().values().all(|tensor| tensor.dtype() == DType::F32));
    for file in ["model", "trained", "optimizer"] {
        let bytes = std::fs::read(folder.join(format!("last/{file}.safetensors"))).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let f32s = tensors.iter().all(|(_, view)| view.dtype() == safetensors::Dtype::F32);
        assert!(f32s && !tensors.is_empty(), "{file}");
    }
    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    assert!(text.contains("precision = \"bf16\""), "{text}");

    // Another precision is another run.
    let other = Recipe { precision: Precision::F32, ..recipe.clone() };
    let error = train(&other, &folder, &options).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }), "{error}");

    // In f32 the losses begin alike.
    let folder = lab.path().join("f32");
    train(&Recipe { epochs: 1, milestones: vec![], ..other }, &folder, &options).unwrap();
    let f32s = Metrics::read(&folder.join("metrics.jsonl")).unwrap();
    let difference = (f32s[0].train_loss / losses[0] - 1.0).abs();
    assert!(difference > 0.0 && difference < 0.1, "{} against {}", f32s[0].train_loss, losses[0]);
}

#[test]
fn a_loss_that_is_no_number_is_found_and_its_step_named() {
    let lab = tempfile::tempdir().unwrap();
    write_pictures(&lab.path().join("pictures"));
    let recipe = Recipe {
        model: "resnet8".into(),
        variant: Variant::Baseline,
        dataset: "folder".into(),
        data_dir: Some(lab.path().join("pictures")),
        image_size: Some(16),
        epochs: 1,
        batch_size: 4,
        lr: 1e30,
        milestones: vec![],
        augment: false,
        ..Recipe::default()
    };
    let options = TrainOptions { progress: Progress::Quiet, ..TrainOptions::default() };
    let error = train(&recipe, &lab.path().join("run"), &options).unwrap_err();
    let Error::Diverged { epoch: 1, step, lr, .. } = error else { panic!("{error}") };
    // The first step's loss is that of the initial weights; the next one's is found later.
    assert!(step >= 2 && lr == 1e30, "step {step}");
    assert!(!lab.path().join("run/last").exists());
}
