//! Training on a GPU:
//!
//!     cargo test -p abn-train --features cuda --test gpu -- --ignored --test-threads 1
//!
//! Without one, `xtask/emulate-gpu.sh --parity` runs these tests on the emulated kernels, where a captured step is
//! its kernels and nothing else, so that whatever a step does on the host shows as a difference.

use std::fs;
use std::path::Path;

use abn_train::{DeviceChoice, Recipe, TrainOptions, train};
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

/// The first GPU, or the CPU if that stands for it.
fn gpu() -> Device {
    abn_ops::set_cudnn_measures(false);
    match abn_ops::Meter::on(&Device::Cpu).unwrap() {
        Some(_) => Device::Cpu,
        None => DeviceChoice::Cuda(None).open(0).expect("a GPU, or ABN_EMULATE_CUDA=1"),
    }
}

fn weights(recipe: &Recipe, folder: &Path, device: &Device, cuda_graph: bool) -> [Vec<u8>; 2] {
    let device = Some(device.clone());
    let options = TrainOptions { device, cuda_graph, ..TrainOptions::default() };
    train(recipe, folder, &options).unwrap();
    ["trained.safetensors", "optimizer.safetensors"]
        .map(|name| fs::read(folder.join("last").join(name)).unwrap())
}

#[test]
#[ignore = "needs a GPU or its emulation"]
fn graphs_change_no_bit() {
    let data = tempfile::tempdir().unwrap();
    digits(data.path());
    let (recipe, device) = (recipe(data.path()), gpu());
    let run = |graph: bool| {
        let folder = tempfile::tempdir().unwrap();
        let before = abn_ops::graphs_launched();
        let weights = weights(&recipe, folder.path(), &device, graph);
        let metrics = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let losses: Vec<_> = metrics
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                ["train_loss", "train_error", "test_loss"].map(|key| line[key].as_f64().unwrap())
            })
            .collect();
        (weights, losses, abn_ops::graphs_launched() - before)
    };
    let (expected, losses, none) = run(false);
    assert_eq!(none, 0);
    let (captured, captured_losses, launched) = run(true);
    assert_eq!(captured_losses, losses);
    assert!(captured == expected, "weights or velocities differ");
    // Of each shape, the first three steps are done one by one; the others are replayed.
    assert_eq!(launched as usize, (2 * EPOCHS - 3) + (EPOCHS - 3));
}

#[test]
#[ignore = "needs a GPU or its emulation"]
fn what_cannot_be_captured_is_trained_without() {
    let data = tempfile::tempdir().unwrap();
    digits(data.path());
    let device = gpu();
    let recipe = Recipe {
        model: "densenet10-k4".into(),
        dropout: Some(0.2),
        epochs: 3,
        ema_decay: None,
        ..recipe(data.path())
    };
    let [a, b] = [false, true].map(|graph| {
        let folder = tempfile::tempdir().unwrap();
        let device = Some(device.clone());
        let options = TrainOptions { device, cuda_graph: graph, ..TrainOptions::default() };
        let before = abn_ops::graphs_launched();
        train(&recipe, folder.path(), &options).unwrap();
        assert_eq!(abn_ops::graphs_launched(), before);
        fs::read(folder.path().join("last").join("model.safetensors")).unwrap()
    });
    assert!(a == b, "weights differ");
}
