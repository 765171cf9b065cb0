//! Where `candle-datasets` reads the same files, its pixels are ours.
//!
//! See `Cargo.toml` for the command, and for why this is no part of the usual run.

use std::path::Path;

use abn_data::{Dataset, idx, open};
use anyhow::Result;
use candle_core::Tensor;
use candle_datasets::vision;

/// `candle-datasets` reads no CIFAR file of another length.
const CIFAR_BATCH: usize = 10_000;

/// Bytes that differ from place to place and from seed to seed.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Labels below ten.
fn labels(seed: usize, len: usize) -> Vec<u8> {
    bytes(seed, len).into_iter().map(|byte| byte % 10).collect()
}

/// Holds every pixel and label of a split against candle's, (N, …) in 0..1, channels first.
fn assert_same(ours: &dyn Dataset, images: &Tensor, labels: &Tensor) -> Result<()> {
    let labels = labels.to_vec1::<u8>()?;
    assert_eq!(ours.len(), labels.len());
    for (index, label) in labels.into_iter().enumerate() {
        let sample = ours.get(index)?;
        assert_eq!(sample.label(), u32::from(label), "sample {index}");
        let image = images.get(index)?.flatten_all()?.to_vec1::<f32>()?;
        let channels = sample.image.channels;
        assert_eq!(image.len(), sample.image.data.len());
        for (channel, plane) in image.chunks_exact(image.len() / channels).enumerate() {
            let pixels = sample.image.data[channel..].iter().step_by(channels);
            assert!(plane.iter().zip(pixels).all(|(&a, &b)| (a * 255.0).round() == f32::from(b)));
        }
    }
    Ok(())
}

fn compare(ours: &str, folder: &Path, theirs: &vision::Dataset) -> Result<()> {
    let ours = open(ours, Some(folder))?;
    assert_same(&*ours.train, &theirs.train_images, &theirs.train_labels)?;
    assert_same(&*ours.test, &theirs.test_images, &theirs.test_labels)
}

#[test]
fn mnist_is_what_candle_reads() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (seed, split, count) in [(1, "train", 30), (2, "t10k", 20)] {
        let images = idx::encode(&[count, 28, 28], &bytes(seed, count * 784))?;
        std::fs::write(folder.path().join(format!("{split}-images-idx3-ubyte")), images)?;
        let labels = idx::encode(&[count], &labels(seed, count))?;
        std::fs::write(folder.path().join(format!("{split}-labels-idx1-ubyte")), labels)?;
    }
    let theirs = vision::mnist::load_dir(folder.path())?;
    compare("mnist", folder.path(), &theirs)?;
    compare("fashion-mnist", folder.path(), &theirs)
}

#[test]
fn cifar10_is_what_candle_reads() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let batches = (1..=5).map(|number| format!("data_batch_{number}.bin"));
    for (seed, name) in batches.chain(["test_batch.bin".to_owned()]).enumerate() {
        let mut file = bytes(seed, CIFAR_BATCH * 3073);
        for (record, label) in file.chunks_exact_mut(3073).zip(labels(seed, CIFAR_BATCH)) {
            record[0] = label;
        }
        std::fs::write(folder.path().join(name), file)?;
    }
    compare("cifar10", folder.path(), &vision::cifar::load_dir(folder.path())?)
}
