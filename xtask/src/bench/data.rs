//! `cargo xtask bench data`: what it costs to feed a network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use abn_backbones::Variant;
use abn_data::{
    Dataset, Fit, FolderDataset, Loader, LoaderConfig, MemoryDataset, Normalisation, Transform,
};
use anyhow::{Context, Result};
use candle_core::Device;
use serde::Serialize;

use super::photos;
use super::step::{Batch, Trainer};
use super::versus::median;
use super::worker::Worker;

/// Images of a CIFAR epoch.
const CIFAR: usize = 50_000;
const CIFAR_BATCH: usize = 128;
const PHOTO_BATCH: usize = 64;

/// Time the data's way into a network
///
/// First CIFAR's augmentation, beside the training steps of a plain ResNet-20 that it feeds. Then
/// the training pipeline of photographs (decode, resize to 256×256, crop 224×224, flip,
/// normalise) on files generated for the occasion; with --against-pytorch, epochs alternate with
/// torchvision's ImageFolder and DataLoader on the same files. Prints medians.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A Python that has torchvision (see tests/reference/README.md); compare with it
    #[arg(long, value_name = "PYTHON")]
    against_pytorch: Option<PathBuf>,

    /// Write the measurements to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Photographs to generate
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,

    /// Training steps of a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,

    /// Rounds of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Threads here, and worker processes there
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
}

#[derive(Serialize)]
struct Report {
    threads: u16,
    cifar: Augmentation,
    photos: Photos,
}

#[derive(Serialize)]
struct Augmentation {
    /// Of loading 50,000 images, shuffled, cropped, flipped and normalised.
    epoch_seconds: Vec<f64>,
    /// Of training steps of 128 images.
    step_seconds: Vec<f64>,
    /// The medians' ratio, for a whole epoch.
    share_of_training: f64,
}

#[derive(Serialize)]
struct Photos {
    images: u32,
    bytes_per_image: u64,
    torch: Option<String>,
    /// Of an epoch.
    seconds: Vec<f64>,
    pytorch_seconds: Option<Vec<f64>>,
    /// Our images per second by torchvision's.
    ratio: Option<f64>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.into()).build_global()?;
    println!("{} threads, medians of {} rounds", args.threads, args.rounds);
    let cifar = augmentation(args)?;
    let photos = photographs(args)?;
    if let Some(path) = &args.json {
        let report = Report { threads: args.threads, cifar, photos };
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn augmentation(args: &Args) -> Result<Augmentation> {
    let data = cifar_sized()?;
    let transform = Transform::standard(Fit::Pad, 32, Normalisation::CIFAR);
    let batch = Batch { images: CIFAR_BATCH, size: 32, classes: 100, dropout: None };
    let mut trainer = Trainer::new("resnet20", Variant::Baseline, batch, &Device::Cpu)?;
    trainer.step()?;
    epoch(&data, transform, CIFAR_BATCH, 0)?;
    let (mut epoch_seconds, mut step_seconds) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        epoch_seconds.push(epoch(&data, transform, CIFAR_BATCH, round.into())?);
        for _ in 0..args.steps {
            step_seconds.push(trainer.step()?);
        }
    }
    let (loading, step) = (median(&epoch_seconds), median(&step_seconds));
    let steps = CIFAR as f64 / CIFAR_BATCH as f64;
    let share_of_training = loading / (step * steps);
    println!(
        "CIFAR augmentation: {loading:.2} s for {CIFAR} images; ResNet-20 trains on them in {:.0} s \
         ({steps:.0} steps of {:.0} ms): {:.2} % (bar: under 5 %)",
        step * steps,
        step * 1e3,
        share_of_training * 100.0
    );
    Ok(Augmentation { epoch_seconds, step_seconds, share_of_training })
}

/// As many images as CIFAR has, of its size; what they show makes no difference.
fn cifar_sized() -> Result<Arc<dyn Dataset>> {
    let pixels = (0..CIFAR * 3072).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
    let labels = (0..CIFAR).map(|i| (i % 10) as u8).collect();
    let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    Ok(Arc::new(MemoryDataset::new([32, 32, 3], pixels, labels, names.into())?))
}

/// Seconds of an epoch of training batches.
fn epoch(
    data: &Arc<dyn Dataset>,
    transform: Transform,
    batch_size: usize,
    epoch: u64,
) -> Result<f64> {
    let config =
        LoaderConfig { batch_size, shuffle: true, augment: true, epoch, ..LoaderConfig::default() };
    let start = Instant::now();
    for batch in Loader::new(data.clone(), transform, config)? {
        std::hint::black_box(batch?);
    }
    Ok(start.elapsed().as_secs_f64())
}

fn photographs(args: &Args) -> Result<Photos> {
    let root = tempfile::tempdir().context("cannot create a temporary folder")?;
    let bytes_per_image = photos::write(root.path(), args.images)? / u64::from(args.images);
    let data: Arc<dyn Dataset> = Arc::new(FolderDataset::open(root.path())?);
    let transform = Transform::standard(Fit::Resize, 224, Normalisation::IMAGENET);
    let mut theirs = None;
    let mut torch = None;
    if let Some(python) = &args.against_pytorch {
        let command = pytorch_command(python, root.path(), args.threads);
        let (mut worker, ready) = Worker::start("the torchvision worker", command)?;
        torch = ready.torch;
        worker.steps(1)?;
        theirs = Some(worker);
    }
    epoch(&data, transform, PHOTO_BATCH, 0)?;
    let (mut seconds, mut pytorch_seconds) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        seconds.push(epoch(&data, transform, PHOTO_BATCH, round.into())?);
        if let Some(theirs) = &mut theirs {
            pytorch_seconds.extend(theirs.steps(1)?);
        }
    }
    let speed = |seconds: &[f64]| f64::from(args.images) / median(seconds);
    print!(
        "JPEG to 224×224, {} of {}×{} and {} kB: {:.0} images/s",
        args.images,
        photos::WIDTH,
        photos::HEIGHT,
        bytes_per_image / 1000,
        speed(&seconds)
    );
    let pytorch_seconds = match theirs {
        Some(worker) => {
            worker.quit()?;
            Some(pytorch_seconds)
        }
        None => None,
    };
    let ratio = pytorch_seconds.as_ref().map(|theirs| speed(&seconds) / speed(theirs));
    match (&pytorch_seconds, ratio) {
        (Some(theirs), Some(ratio)) => {
            println!("; torchvision {:.0}: ratio {ratio:.2} (bar: at least 1.5)", speed(theirs));
        }
        _ => println!(),
    }
    Ok(Photos { images: args.images, bytes_per_image, torch, seconds, pytorch_seconds, ratio })
}

fn pytorch_command(python: &Path, root: &Path, workers: u16) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/bench_data.py"));
    command.arg(root);
    command.args(["--batch", &PHOTO_BATCH.to_string(), "--workers", &workers.to_string()]);
    command
}
