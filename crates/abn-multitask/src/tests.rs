use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use abn_backbones::{BackboneOptions, Top, find};
use abn_core::layers::{BatchNormConfig, Linear, LinearInit};
use abn_core::{Backbone, Mechanism, Mode, ParamStore};
use abn_ops::{Conv2dConfig, Tracked, no_grad};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

use super::*;

const TRAIN: Mode = Mode::Train { seed: 3 };
const MOMENTUM: f64 = 0.3;

/// Two answers, two, four, two.
fn tasks() -> Vec<Task> {
    let mut tasks: Vec<Task> = ["hat", "smile", "hair", "beard"].map(Task::binary).into();
    tasks[2].categories = 4;
    tasks
}

fn images(count: usize, dtype: DType) -> Tracked {
    let values: Vec<f64> =
        (0..count * 3 * 32 * 32).map(|i| (i as f64 * 0.7123).sin() * 1.5).collect();
    let images = Tensor::from_vec(values, (count, 3, 32, 32), &Device::Cpu).unwrap();
    Tracked::constant(images.to_dtype(dtype).unwrap())
}

fn labels(count: usize, tasks: &[Task]) -> Tensor {
    let label = |i: usize| (i * 7 / 3 % tasks[i % tasks.len()].categories) as u32;
    let labels: Vec<u32> = (0..count * tasks.len()).map(label).collect();
    Tensor::from_vec(labels, (count, tasks.len()), &Device::Cpu).unwrap()
}

fn options(form: Form, variant: Variant) -> BuildOptions {
    let options = BuildOptions::new(variant, form.config());
    BuildOptions { bn_momentum: MOMENTUM, dropout: Some(0.4), ..options }
}

fn model(
    name: &str,
    tasks: &[Task],
    options: &BuildOptions,
    store: &ParamStore,
) -> Box<dyn MultiTask> {
    build(&find(name).unwrap(), tasks, options, store.var_builder()).unwrap()
}

fn store(dtype: DType) -> ParamStore {
    ParamStore::new(11, dtype, Device::Cpu)
}

fn norm(tensor: &Tensor) -> f64 {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// What a training pass leaves: the losses, each parameter's gradient, the running statistics.
struct Left {
    losses: [f64; 2],
    tensors: BTreeMap<String, Tensor>,
}

impl Left {
    fn new(attention: f64, perception: f64, gradients: &GradStore, store: &ParamStore) -> Self {
        let gradient = |(name, var): (String, candle_core::Var)| {
            (format!("gradient of {name}"), gradients.get(var.as_tensor()).unwrap().clone())
        };
        let mut tensors: BTreeMap<_, _> = store.parameters().into_iter().map(gradient).collect();
        let copy = |(name, var): (String, candle_core::Var)| (name, var.copy().unwrap());
        tensors.extend(store.buffers().into_iter().map(copy));
        Self { losses: [attention, perception], tensors }
    }

    /// In passes of so many tasks.
    fn of(
        name: &str,
        tasks: &[Task],
        options: &BuildOptions,
        per_pass: Option<usize>,
        dtype: DType,
    ) -> Self {
        let mut options = *options;
        options.config.tasks_per_pass = per_pass.and_then(NonZeroUsize::new);
        let (store, mut gradients) = (store(dtype), GradStore::default());
        let model = model(name, tasks, &options, &store);
        let (images, labels) = (images(4, dtype), labels(4, tasks));
        let step = model.backward_into(&images, &labels, TRAIN, 1.0, &mut gradients).unwrap();
        let (attention, perception) =
            (step.attention().unwrap().unwrap(), step.perception().unwrap());
        assert_eq!(step.total().unwrap(), attention + perception);
        Self::new(attention, perception, &gradients, &store)
    }

    /// Against another: the largest difference of a loss, or of a tensor in relation to its layer.
    #[track_caller]
    fn assert_close(&self, other: &Self, tolerance: f64) {
        for (ours, theirs) in self.losses.iter().zip(other.losses) {
            let difference = ((ours - theirs) / theirs).abs();
            assert!(difference <= tolerance, "loss {ours} against {theirs}");
        }
        assert!(self.tensors.keys().eq(other.tensors.keys()));
        let layer = |name: &str| name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned();
        let mut squares = BTreeMap::<String, f64>::new();
        for (name, tensor) in &other.tensors {
            *squares.entry(layer(name)).or_default() += norm(tensor).powi(2);
        }
        for (name, tensor) in &self.tensors {
            let difference = norm(&(tensor - &other.tensors[name]).unwrap());
            let difference = difference / squares[&layer(name)].sqrt();
            assert!(difference <= tolerance, "{name} differs by {difference:e}");
        }
    }
}

/// The reference: equations (4) and (5) for one task after the other, as the authors' code does
/// it, from the single task's operations.
fn loop_over_tasks(name: &str, tasks: &[Task], options: &BuildOptions, dtype: DType) -> Left {
    let (store, config) = (store(dtype), options.config);
    let vb = store.var_builder();
    let norm = BatchNormConfig { momentum: MOMENTUM, ..Default::default() };
    let backbone = BackboneOptions {
        classes: 0,
        attention: true,
        top: Top::Hidden,
        norm,
        dropout: options.dropout.unwrap(),
    };
    // The store names the trunk as `build` does, so that its parameters start from the same values.
    let renamed = vb.clone().rename_f(|name: &str| name.replace("att_layer3.", "layer3_att."));
    let backbone = find(name).unwrap().backbone(&backbone, renamed).unwrap();
    let channels = backbone.trunk_channels().unwrap();
    let branch = MapBranch::new(channels, tasks, config.pooling, norm, vb.clone()).unwrap();
    let (images, labels) = (images(4, dtype), labels(4, tasks));

    let feature = backbone.extract(&images, TRAIN).unwrap();
    let trunk = backbone.attention_trunk(&feature, TRAIN).unwrap();
    let (scores, maps) = branch.forward(&trunk, TRAIN).unwrap();
    let mut answers = Vec::new();
    for (t, task) in tasks.iter().enumerate() {
        let one = |i| if i == t { 1.0f32 } else { 0.0 };
        let chosen = Tensor::from_iter((0..tasks.len()).map(one), &Device::Cpu).unwrap();
        let chosen = chosen.reshape((1, tasks.len(), 1, 1)).unwrap().to_dtype(dtype).unwrap();
        let chosen = Tracked::constant(chosen);
        let map = abn_ops::conv2d(&maps, &chosen, None, &Conv2dConfig::default()).unwrap();
        let attended = config.mechanism.apply(&feature, &map).unwrap();
        let mode = TRAIN.part(t);
        let last = backbone.deepen(&attended, mode).unwrap();
        let embedded = backbone.embed(&last, mode).unwrap();
        let vb = vb.pp("output_per").pp(t);
        let head = Linear::new(backbone.embedded(), config.outputs(task), LinearInit::Uniform, vb);
        answers.push(head.unwrap().forward(&embedded).unwrap());
    }
    let mean = |logits: &[Tracked]| {
        let losses = logits.iter().enumerate().map(|(t, logits)| {
            let labels = labels.narrow(1, t, 1).unwrap().contiguous().unwrap();
            match logits.dims()[1] {
                1 => abn_ops::bce_with_logits(logits, &labels.to_dtype(dtype).unwrap()),
                _ => abn_ops::softmax_cross_entropy(logits, &labels.squeeze(1).unwrap()),
            }
        });
        // The mean of one pixel each.
        let losses: Vec<_> = losses.map(|l| abn_ops::reshape(&l.unwrap(), (1, 1, 1, 1))).collect();
        let losses: Vec<_> = losses.into_iter().map(|l| l.unwrap()).collect();
        let all = abn_ops::concat(&losses.iter().collect::<Vec<_>>()).unwrap();
        let all = abn_ops::reshape(&all, (1, tasks.len(), 1, 1)).unwrap();
        abn_ops::reshape(&abn_ops::global_avg_pool(&all).unwrap(), ()).unwrap()
    };
    let (attention, perception) = (mean(&scores), mean(&answers));
    let gradients = abn_ops::add(&attention, &perception).unwrap().backward().unwrap();
    let number = |x: &Tracked| x.value().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
    Left::new(number(&attention), number(&perception), &gradients, &store)
}

const PASSES: [Option<usize>; 5] = [None, Some(1), Some(2), Some(3), Some(9)];

/// Both forms and mechanisms, batch norm before and after the convolution, dropout in the hidden
/// layers (VGG), concatenations (DenseNet): one pass, several and the loop leave the same.
#[test]
fn one_pass_is_the_loop_over_tasks() {
    let tasks = tasks();
    for (name, form, mechanism) in [
        ("resnet8", Form::V1, Mechanism::Multiply),
        ("wrn-10-1", Form::Chainer, Mechanism::Residual),
        ("cifar-vgg11-bn-w4", Form::Chainer, Mechanism::Multiply),
        ("densenet10-k4", Form::V1, Mechanism::Residual),
    ] {
        let mut options = options(form, Variant::Abn);
        options.config.mechanism = mechanism;
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
            let expected = loop_over_tasks(name, &tasks, &options, dtype);
            for per_pass in PASSES {
                println!("{name} {dtype:?} {per_pass:?}");
                let found = Left::of(name, &tasks, &options, per_pass, dtype);
                found.assert_close(&expected, tolerance);
            }
        }
    }
}

/// `backward_into` is `forward`, `loss` and `backward`, with the gradients scaled and added.
#[test]
fn a_step_is_forward_loss_and_backward() {
    let tasks = tasks();
    for variant in [Variant::Baseline, Variant::Abn] {
        let options = options(Form::Chainer, variant);
        let (images, labels) = (images(4, DType::F64), labels(4, &tasks));
        let whole = store(DType::F64);
        let output = model("resnet8", &tasks, &options, &whole).forward(&images, TRAIN).unwrap();
        let loss = loss(&tasks, &output, &labels).unwrap();
        let expected = loss.total.backward().unwrap();

        let parts = store(DType::F64);
        let model = model("resnet8", &tasks, &options, &parts);
        let mut found = GradStore::default();
        for scale in [0.5, -2.0] {
            let step = model.backward_into(&images, &labels, TRAIN, scale, &mut found).unwrap();
            let total = loss.total.value().to_scalar::<f64>().unwrap();
            assert!((step.total().unwrap() / total - 1.0).abs() < 1e-12);
            assert_eq!(step.attention.is_some(), variant == Variant::Abn);
            let answers = step.output.predictions().unwrap().to_vec2::<u32>().unwrap();
            assert_eq!(answers, output.predictions().unwrap().to_vec2::<u32>().unwrap());
        }
        for ((name, ours), (_, theirs)) in parts.parameters().iter().zip(whole.parameters()) {
            let expected = (expected.get(theirs.as_tensor()).unwrap() * -1.5).unwrap();
            let difference = norm(&(found.get(ours.as_tensor()).unwrap() - &expected).unwrap());
            assert!(difference <= 1e-10 * norm(&expected) + 1e-13, "{name}: {difference:e}");
        }
    }
}

/// In evaluation a task's answer does not depend on which others run with it, nor on the batch.
#[test]
fn evaluation_is_the_same_in_any_passes() {
    let tasks = tasks();
    let evaluate = |per_pass: Option<usize>, count| {
        let mut options = options(Form::V1, Variant::Abn);
        options.config.tasks_per_pass = per_pass.and_then(NonZeroUsize::new);
        let model = model("resnet8", &tasks, &options, &store(DType::F64));
        let output = no_grad(|| model.forward(&images(count, DType::F64), Mode::Eval)).unwrap();
        let maps = output.attention.unwrap().maps;
        assert_eq!(maps.dims(), [count, 4, 16, 16]);
        let shapes: Vec<_> = output.logits.iter().map(|l| l.dims().to_vec()).collect();
        assert_eq!(shapes, [[count, 1], [count, 1], [count, 4], [count, 1]]);
        output.logits.into_iter().map(Tracked::into_value).collect::<Vec<_>>()
    };
    let expected = evaluate(None, 4);
    for (per_pass, count) in [(Some(1), 4), (Some(3), 4), (None, 2)] {
        for (found, expected) in evaluate(per_pass, count).iter().zip(&expected) {
            let expected = expected.narrow(0, 0, count).unwrap();
            assert!(norm(&(found - &expected).unwrap()) < 1e-12 * norm(&expected));
        }
    }
}

/// The forms' pooling and outputs, from the maps that the model itself gives.
#[test]
fn attention_scores_are_the_pooled_maps() {
    let tasks: Vec<Task> = ["a", "b", "c"].map(Task::binary).into();
    for (form, outputs) in [(Form::V1, 1), (Form::Chainer, 2)] {
        let model = model("resnet8", &tasks, &options(form, Variant::Abn), &store(DType::F64));
        let output = model.forward(&images(2, DType::F64), Mode::Eval).unwrap();
        let attention = output.attention.unwrap();
        let maps = attention.maps.value().flatten_from(2).unwrap();
        let pooled = match form {
            Form::V1 => maps.mean(2),
            Form::Chainer => maps.max(2),
        };
        let scores: Vec<_> = attention.logits.iter().map(Tracked::value).collect();
        let scores = Tensor::cat(&scores, 1).unwrap();
        assert!(norm(&(scores - pooled.unwrap()).unwrap()) < 1e-12);
        assert!(output.logits.iter().all(|logits| logits.dims() == [2, outputs]));
    }
}

/// The mean over the tasks, of binary and of softmax cross-entropy, by the definitions.
#[test]
fn the_loss_is_the_mean_over_the_tasks() {
    let tasks = vec![Task::binary("a"), Task::new("b", 3)];
    let of = |rows: &[&[f64]]| {
        let columns = rows[0].len();
        Tracked::constant(Tensor::from_vec(rows.concat(), (2, columns), &Device::Cpu).unwrap())
    };
    let logits = vec![of(&[&[0.5], &[-1.0]]), of(&[&[1.0, 0.0, 2.0], &[0.0, 0.5, -0.5]])];
    let labels = Tensor::new(&[[1u32, 2], [1, 0]], &Device::Cpu).unwrap();
    let binary = ((1.0 + (-0.5f64).exp()).ln() + (1.0 + 1f64.exp()).ln()) / 2.0;
    let softmax =
        |row: [f64; 3], label: usize| row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[label];
    let softmax = (softmax([1.0, 0.0, 2.0], 2) + softmax([0.0, 0.5, -0.5], 0)) / 2.0;
    let output = Output { logits, attention: None };
    let found = loss(&tasks, &output, &labels).unwrap();
    let total = found.total.value().to_scalar::<f64>().unwrap();
    assert!((total - (binary + softmax) / 2.0).abs() < 1e-12);
    assert!(found.attention.is_none());
    let answers = output.predictions().unwrap().to_vec2::<u32>().unwrap();
    assert_eq!(answers, [[1, 2], [0, 1]]);
}

/// Of each family: it trains, every parameter has a gradient, and the cost counts them.
#[test]
fn every_family_can_do_several_tasks() {
    let tasks = tasks();
    for name in [
        "resnet8",
        "wrn-10-1",
        "resnext11-2x8d-k1",
        "densenet10-k4",
        "cifar-vgg11-w4",
        "cifar-se-resnet8",
    ] {
        for (variant, hidden) in [(Variant::Baseline, 0), (Variant::Abn, 1)] {
            let options = options(Form::Chainer, variant);
            let (store, mut gradients) = (store(DType::F32), GradStore::default());
            let model = model(name, &tasks, &options, &store);
            assert_eq!(model.tasks(), tasks);
            let (images, labels) = (images(2, DType::F32), labels(2, &tasks));
            model.backward_into(&images, &labels, TRAIN, 1.0, &mut gradients).unwrap();
            for (parameter, var) in store.parameters() {
                // The released ResNeXt and others have no unused parameters in this model.
                assert!(gradients.get(var.as_tensor()).is_some(), "{name} {variant}: {parameter}");
            }
            let cost = cost(&find(name).unwrap(), &tasks, &options).unwrap();
            assert_eq!(cost.parameters, store.parameter_count() as u64, "{name}");
            let names: Vec<String> = store.tensors().into_keys().collect();
            let count = |part: &str| names.iter().filter(|n| n.contains(part)).count();
            assert_eq!((count("output_per."), count("conv_att.")), (8, hidden), "{name}");
            assert_eq!((count("conv_map.2."), count("bn_map.2.")), (hidden, 4 * hidden), "{name}");
            assert_eq!(count("att_layer3"), 0, "{name}: the authors call it layer3_att");
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let tasks = tasks();
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = options(Form::V1, Variant::Abn);
        let left = pool.install(|| Left::of("resnet8", &tasks, &options, Some(3), DType::F32));
        let bits = |t: &Tensor| -> Vec<u32> {
            let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        let tensors: Vec<_> = left.tensors.values().map(bits).collect();
        (left.losses.map(f64::to_bits), tensors)
    };
    let one = bytes(1);
    assert!(one == bytes(2) && one == bytes(3));
}

#[test]
fn what_cannot_be_is_an_error() {
    let spec = find("resnet8").unwrap();
    let message = |tasks: &[Task], options: &BuildOptions| {
        let built = build(&spec, tasks, options, store(DType::F32).var_builder());
        built.err().expect("an error").to_string()
    };
    let options = options(Form::V1, Variant::Abn);
    assert!(message(&[], &options).contains("no task"));
    assert!(message(&[Task::new("hat", 1)], &options).contains("`hat` has 1 answers"));
    assert!(message(&[Task::binary("a"), Task::binary("a")], &options).contains("called `a`"));
    let momentum = BuildOptions { bn_momentum: 0.0, ..options };
    assert!(message(&tasks(), &momentum).contains("momentum 0"));

    let (tasks, store) = (tasks(), store(DType::F32));
    let model = model("resnet8", &tasks, &options, &store);
    let step = |labels: &Tensor, mode| {
        let images = images(2, DType::F32);
        model.backward_into(&images, labels, mode, 1.0, &mut GradStore::default()).err().unwrap()
    };
    let good = labels(2, &tasks);
    assert!(matches!(step(&good, Mode::Eval), Error::NotTraining));
    let bad = Tensor::new(&[[0u32, 1, 3, 0], [0, 2, 3, 0]], &Device::Cpu).unwrap();
    let error = step(&bad, TRAIN).to_string();
    assert_eq!(error, "sample 1, task `smile`: label 2 is not below 2");
    let narrow = good.narrow(1, 0, 3).unwrap();
    assert!(step(&narrow, TRAIN).to_string().contains("labels (N, 4)"));
    assert!(matches!(TRAIN.parts(0, 2).unwrap().parts(0, 2), Err(abn_core::Error::NestedParts)));

    for form in [Form::V1, Form::Chainer] {
        assert_eq!(form.to_string().parse::<Form>().unwrap(), form);
    }
    assert!("v2".parse::<Form>().unwrap_err().to_string().contains("`chainer`"));
    for variant in [Variant::Baseline, Variant::Abn] {
        assert_eq!(variant.to_string().parse::<Variant>().unwrap(), variant);
    }
}
