//! Training on a GPU:
//!
//!     cargo test -p abn-train --features cuda --test gpu -- --ignored --test-threads 1
//!
//! Without one, `xtask/emulate-gpu.sh --parity` runs these tests on the emulated kernels, where a captured step is
//! its kernels and nothing else, so that whatever a step does on the host shows as a difference.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use abn_train::{DeviceChoice, Error, Precision, Recipe, TrainOptions, train};
use candle_core::Device;

const TRAIN: usize = 10;
const TEST: usize = 2;
const EPOCHS: usize = 5;

/// A few drawn digits in MNIST's own files: images of one size, in memory.
fn digits(folder: &Path) {
    let write = |name: &str, kind: u32, sizes: &[usize], bytes: Vec<u8>| {
        let mut file = kind.to_be_bytes().to_vec();
        file.extend(sizes.iter().flat_map(|&size| (size as u32).to_be_bytes()));
        file.extend(bytes);
        fs::write(folder.join(name), file).unwrap();
    };
    for (split, count) in [("train", TRAIN), ("t10k", TEST)] {
        let pixel = |i: usize| (i * 7919 % 251 * (1 + i / 784 % 10) / 10) as u8;
        let pixels = (0..count * 784).map(pixel).collect();
        write(&format!("{split}-images-idx3-ubyte"), 0x803, &[count, 28, 28], pixels);
        let labels = (0..count).map(|i| (i % 10) as u8).collect();
        write(&format!("{split}-labels-idx1-ubyte"), 0x801, &[count], labels);
    }
}

/// As many drawn faces with three attributes, as CelebA has them: images that are decoded one by one.
fn faces(folder: &Path) {
    let images = folder.join("img_align_celeba");
    fs::create_dir(&images).unwrap();
    let mut attributes = format!("{}\nBangs Goatee Wearing_Hat\n", TRAIN + TEST);
    let mut partitions = String::new();
    for number in 0..TRAIN + TEST {
        let name = format!("{number:03}.png");
        let pixel = |x: u32, y: u32| image::Luma([((x * 7 + y * 13) * (number as u32 + 3)) as u8]);
        image::GrayImage::from_fn(24, 32, pixel).save(images.join(&name)).unwrap();
        let has = |t: usize| if (number * 5 / 3) >> t & 1 == 1 { "1" } else { "-1" };
        attributes += &format!("{name} {}\n", [0, 1, 2].map(has).join(" "));
        partitions += &format!("{name} {}\n", if number < TRAIN { 0 } else { 2 });
    }
    fs::write(folder.join("list_attr_celeba.txt"), attributes).unwrap();
    fs::write(folder.join("list_eval_partition.txt"), partitions).unwrap();
}

/// Steps of 4, 4 and 2 images, at a learning rate that is another in each.
fn recipe(data: &Path) -> Recipe {
    Recipe {
        model: "resnet8".into(),
        dataset: "mnist".into(),
        data_dir: Some(data.to_owned()),
        epochs: EPOCHS,
        batch_size: 4,
        schedule: "cosine".parse().unwrap(),
        warmup_epochs: 1,
        ema_decay: Some(0.9),
        ..Recipe::default()
    }
}

/// Six steps of one size.
fn short(recipe: Recipe) -> Recipe {
    Recipe { epochs: 3, batch_size: 5, ema_decay: None, ..recipe }
}

/// The first GPU, or the CPU if that stands for it; for one test at a time, since graphs are counted for the
/// whole process.
fn gpu() -> (Device, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
    abn_ops::set_cudnn_measures(false);
    let device = match abn_ops::is_gpu(&Device::Cpu) {
        true => Device::Cpu,
        false => DeviceChoice::Cuda(None).open(0).expect("a GPU, or ABN_EMULATE_CUDA=1"),
    };
    (device, turn)
}

/// What a run leaves, and what it counted.
#[derive(PartialEq)]
struct Left {
    tensors: Vec<Vec<u8>>,
    losses: Vec<Vec<Option<f64>>>,
}

/// Trains; with what it took of graphs.
fn run(recipe: &Recipe, device: &Device, cuda_graph: bool) -> (Left, u64) {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), recipe, device, cuda_graph)
}

/// [`run`] in a folder that may have a run to go on with.
fn run_in(folder: &Path, recipe: &Recipe, device: &Device, cuda_graph: bool) -> (Left, u64) {
    let before = abn_ops::graphs_launched();
    let options =
        TrainOptions { device: Some(device.clone()), cuda_graph, ..TrainOptions::default() };
    train(recipe, folder, &options).unwrap();
    let last = folder.join("last");
    let trained = if recipe.ema_decay.is_some() { "trained" } else { "model" };
    let tensors = [trained, "optimizer"]
        .map(|name| fs::read(last.join(name).with_extension("safetensors")).unwrap());
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let counted = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let keys = ["train_loss", "train_loss_attention", "train_error", "test_loss"];
        keys.map(|key| line[key].as_f64()).to_vec()
    };
    let losses = metrics.lines().map(counted).collect();
    (Left { tensors: tensors.to_vec(), losses }, abn_ops::graphs_launched() - before)
}

/// That a recipe's steps are captured and give what they give without.
#[track_caller]
fn assert_graphs_change_no_bit(recipe: &Recipe, device: &Device) {
    let what = format!("{} {} {}", recipe.variant, recipe.dataset, recipe.form);
    let (expected, none) = run(recipe, device, false);
    assert_eq!(none, 0, "{what}");
    let (captured, launched) = run(recipe, device, true);
    assert_eq!(captured.losses, expected.losses, "{what}");
    let finite = |loss: &f64| loss.is_finite() && *loss > 0.0;
    assert!(captured.losses.iter().all(|of| of[0].as_ref().is_some_and(finite)), "{what}");
    assert!(captured == expected, "{what}: weights or velocities differ");
    // Of each number of images, the first three steps are done one by one; the others are replayed.
    let replayed = |steps: usize| (steps * recipe.epochs).saturating_sub(3);
    let batch = recipe.batch_size;
    let expected = replayed(TRAIN / batch) + replayed(TRAIN.div_ceil(batch) - TRAIN / batch);
    assert_eq!(launched as usize, expected, "{what}");
}

#[test]
#[ignore = "needs a GPU or its emulation"]
fn graphs_change_no_bit() {
    let [of_digits, of_faces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    digits(of_digits.path());
    faces(of_faces.path());
    let (device, _turn) = gpu();
    let recipe = recipe(of_digits.path());
    assert_graphs_change_no_bit(&recipe, &device);
    let short = short(recipe);
    for variant in ["cam", "control"] {
        let variant = variant.parse().unwrap();
        assert_graphs_change_no_bit(&Recipe { variant, ..short.clone() }, &device);
    }
    let several = Recipe {
        dataset: "celeba".into(),
        data_dir: Some(of_faces.path().to_owned()),
        image_size: Some(16),
        ..short
    };
    for (variant, form, tasks_per_pass) in
        [("abn", "chainer", None), ("abn", "v1", NonZeroUsize::new(2)), ("baseline", "v1", None)]
    {
        let (variant, form) = (variant.parse().unwrap(), form.parse().unwrap());
        let recipe = Recipe { variant, form, tasks_per_pass, ..several.clone() };
        assert_graphs_change_no_bit(&recipe, &device);
    }
}

/// Each step has masks of its own, replayed or not.
#[test]
#[ignore = "needs a GPU or its emulation"]
fn dropout_is_replayed_with_the_masks_of_the_step() {
    let [of_digits, of_faces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    digits(of_digits.path());
    faces(of_faces.path());
    let (device, _turn) = gpu();
    let classes = Recipe {
        model: "densenet10-k4".into(),
        dropout: Some(0.2),
        ..short(recipe(of_digits.path()))
    };
    let tasks = Recipe {
        dataset: "celeba".into(),
        data_dir: Some(of_faces.path().to_owned()),
        image_size: Some(16),
        tasks_per_pass: NonZeroUsize::new(2),
        ..classes.clone()
    };
    for recipe in [classes, tasks] {
        assert_graphs_change_no_bit(&recipe, &device);
    }
}

/// A learning rate that is more than f32 holds from the third epoch on: the step after its first has a loss
/// that is no number, and is named though it is found later.
#[test]
#[ignore = "needs a GPU or its emulation"]
fn a_loss_that_is_no_number_is_told_with_its_step() {
    let [of_digits, of_faces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    digits(of_digits.path());
    faces(of_faces.path());
    let (device, _turn) = gpu();
    let classes = Recipe {
        epochs: 3,
        schedule: "multistep".parse().unwrap(),
        warmup_epochs: 0,
        milestones: vec![2],
        gamma: 1e40,
        ema_decay: None,
        ..recipe(of_digits.path())
    };
    let tasks = Recipe {
        dataset: "celeba".into(),
        data_dir: Some(of_faces.path().to_owned()),
        image_size: Some(16),
        ..classes.clone()
    };
    for recipe in [classes, tasks] {
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { device: Some(device.clone()), ..TrainOptions::default() };
        let error = train(&recipe, folder.path(), &options).unwrap_err();
        let Error::Diverged { loss, epoch, step, .. } = error else { panic!("{error}") };
        assert!(!loss.is_finite(), "{loss}");
        assert_eq!((epoch, step), (3, 2), "{}", recipe.dataset);
    }
}

#[test]
#[ignore = "needs a GPU or its emulation"]
fn graphs_change_no_bit_of_bf16() {
    let data = tempfile::tempdir().unwrap();
    digits(data.path());
    let recipe = Recipe { precision: Precision::Bf16, ..short(recipe(data.path())) };
    let (device, _turn) = gpu();
    assert_graphs_change_no_bit(&recipe, &device);
}

/// Images that are decoded for each batch do not lie on the GPU, but are brought there.
#[test]
#[ignore = "needs a GPU or its emulation"]
fn graphs_change_no_bit_of_batches_that_are_brought() {
    let data = tempfile::tempdir().unwrap();
    for (split, count) in [("train", TRAIN), ("test", TEST)] {
        for i in 0..count {
            let folder = data.path().join(split).join(["even", "odd"][i % 2]);
            fs::create_dir_all(&folder).unwrap();
            let pixel = |x, y| image::Rgb([x, y, x * y].map(|v: u32| (v * (i as u32 + 3)) as u8));
            let picture = image::RgbImage::from_fn(30 + i as u32, 40, pixel);
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let recipe = Recipe { dataset: "folder".into(), ..short(recipe(data.path())) };
    let (device, _turn) = gpu();
    assert_graphs_change_no_bit(&recipe, &device);
}

#[test]
#[ignore = "needs a GPU or its emulation"]
fn a_run_goes_on_where_it_was_stopped() {
    let data = tempfile::tempdir().unwrap();
    digits(data.path());
    let recipe = recipe(data.path());
    let (device, _turn) = gpu();
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions {
        device: Some(device.clone()),
        cuda_graph: true,
        // After each step.
        stop: Arc::new(AtomicBool::new(true)),
        ..TrainOptions::default()
    };
    for step in 1..=4 {
        let stopped = train(&recipe, folder.path(), &options).unwrap_err().to_string();
        assert!(stopped.contains("stopped in epoch"), "step {step}: {stopped}");
    }
    let (parts, replayed) = run_in(folder.path(), &recipe, &device, true);
    assert!(replayed > 0);
    assert!(parts == run(&recipe, &device, false).0, "weights differ");
}

/// A step in parts is one graph, of which each part has images and dropout masks of its own: of 3 and 3 images, and
/// of 3 and 1.
#[test]
#[ignore = "needs a GPU or its emulation"]
fn steps_in_parts_are_replayed() {
    let [of_digits, of_faces] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    digits(of_digits.path());
    faces(of_faces.path());
    let (device, _turn) = gpu();
    let classes = Recipe {
        model: "densenet10-k4".into(),
        dropout: Some(0.2),
        accumulate: 2,
        batch_size: 6,
        ..recipe(of_digits.path())
    };
    let tasks = Recipe {
        dataset: "celeba".into(),
        data_dir: Some(of_faces.path().to_owned()),
        image_size: Some(16),
        epochs: 4,
        tasks_per_pass: NonZeroUsize::new(2),
        ..classes.clone()
    };
    for recipe in [classes, tasks] {
        assert_graphs_change_no_bit(&recipe, &device);
    }
}
