//! `cargo xtask bench explain`: what maps cost beside the forward pass, and beside the `grad-cam` package.

use std::path::{Path, PathBuf};
use std::process::Command;

use abn_train::DeviceChoice;
use anyhow::{Context, Result};
use serde::Serialize;

use super::step::Pass;
use super::versus::{Side, WARM_UP, describe};
use super::worker::Worker;

/// Attention maps of a round.
const MAPS: usize = 1000;
/// The network that they are of, and images at a time.
const ATTENTION: (&str, usize, usize) = ("resnet20", 32, 50);
/// Networks whose Grad-CAM is timed: name, side of the images, images at a time.
const GRAD_CAM: [(&str, usize, usize); 4] =
    [("resnet20", 32, 64), ("resnet18", 224, 8), ("resnet20", 32, 1), ("resnet18", 224, 1)];

/// What is compared, and how.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A Python that has torch and grad-cam (see tests/reference/README.md); compare with it
    #[arg(long, value_name = "PYTHON")]
    against_pytorch: Option<PathBuf>,

    /// Write the measurements to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Grad-CAM batches of a round; of single images, ten times as many
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,

    /// Rounds of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Threads of each side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,

    /// Where to compute, on both sides: `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
}

#[derive(Serialize)]
struct Report {
    classes: usize,
    threads: u16,
    rounds: u16,
    torch: Option<String>,
    attention: AttentionRow,
    grad_cam: Vec<GradCamRow>,
}

/// Attention maps beside the forward pass of the same network.
#[derive(Serialize)]
struct AttentionRow {
    network: &'static str,
    batch: usize,
    maps: Side,
    forward: Side,
    /// Seconds of the maps by seconds of the forward pass.
    cost: f64,
}

#[derive(Serialize)]
struct GradCamRow {
    network: &'static str,
    image_size: usize,
    batch: usize,
    abn: Side,
    package: Option<Side>,
    /// Our images per second by the package's.
    ratio: Option<f64>,
}

/// Runs the bench.
///
/// # Errors
/// If a worker fails, or the report cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut torch = None;
    let attention = attention(args)?;
    println!(
        "attention maps of {} (batches of {}): {}; forward pass alone: {}; cost {:.3} ×",
        attention.network,
        attention.batch,
        describe(&attention.maps),
        describe(&attention.forward),
        attention.cost
    );
    println!(
        "{:<10} {:>5} {:>5}  {:>24}  {:>24}  ratio",
        "Grad-CAM", "side", "batch", "abn", "grad-cam"
    );
    let mut rows = Vec::new();
    for (network, size, batch) in GRAD_CAM {
        let row = grad_cam(args, (network, size, batch), &mut torch)?;
        println!(
            "{network:<10} {size:>5} {batch:>5}  {:>24}  {:>24}  {}",
            describe(&row.abn),
            row.package.as_ref().map_or("-".to_owned(), describe),
            row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
        rows.push(row);
    }
    let Args { threads, rounds, .. } = *args;
    let report = Report { classes: 100, threads, rounds, torch, attention, grad_cam: rows };
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn attention(args: &Args) -> Result<AttentionRow> {
    let (network, size, batch) = ATTENTION;
    let start = |pass| -> Result<Worker> {
        let command = our_command(args, pass, (network, size, batch))?;
        Ok(Worker::start("this project's worker", command)?.0)
    };
    let workers = vec![start(Pass::Attention)?, start(Pass::Forward)?];
    let mut sides = alternate(args, workers, MAPS.div_ceil(batch), batch)?.into_iter();
    let (maps, forward) = sides.next().zip(sides.next()).context("two workers were started")?;
    let cost = maps.median_seconds / forward.median_seconds;
    Ok(AttentionRow { network, batch, maps, forward, cost })
}

fn grad_cam(
    args: &Args,
    what: (&'static str, usize, usize),
    torch: &mut Option<String>,
) -> Result<GradCamRow> {
    let (network, image_size, batch) = what;
    let command = our_command(args, Pass::GradCam, what)?;
    let mut workers = vec![Worker::start("this project's worker", command)?.0];
    if let Some(python) = &args.against_pytorch {
        let command = package_command(python, args, what);
        let (worker, ready) = Worker::start("the grad-cam worker", command)?;
        *torch = ready.torch;
        workers.push(worker);
    }
    let steps = usize::from(args.steps) * if batch == 1 { 10 } else { 1 };
    let mut sides = alternate(args, workers, steps, batch)?.into_iter();
    let abn = sides.next().context("this project's worker was started first")?;
    let package = sides.next();
    let ratio = package.as_ref().map(|side| abn.images_per_second / side.images_per_second);
    Ok(GradCamRow { network, image_size, batch, abn, package, ratio })
}

/// One after the other, round for round: none disturbs what another measures.
fn alternate(
    args: &Args,
    mut workers: Vec<Worker>,
    steps: usize,
    batch: usize,
) -> Result<Vec<Side>> {
    let mut seconds = vec![Vec::new(); workers.len()];
    for worker in &mut workers {
        worker.steps(WARM_UP)?;
    }
    for _ in 0..args.rounds {
        for (worker, seconds) in workers.iter_mut().zip(&mut seconds) {
            seconds.extend(worker.steps(steps)?);
        }
    }
    let sides = workers.into_iter().zip(seconds);
    sides.map(|(worker, seconds)| Ok(Side::new(seconds, batch, worker.quit()?))).collect()
}

fn our_command(args: &Args, pass: Pass, what: (&str, usize, usize)) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "worker", what.0, "--pass", pass.name()]);
    size_and_threads(&mut command, args, what);
    Ok(command)
}

fn package_command(python: &Path, args: &Args, what: (&str, usize, usize)) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/bench_explain.py"));
    command.arg(what.0);
    size_and_threads(&mut command, args, what);
    command
}

fn size_and_threads(command: &mut Command, args: &Args, (_, size, batch): (&str, usize, usize)) {
    command.args(["--size", &size.to_string(), "--batch", &batch.to_string()]);
    command.args(["--threads", &args.threads.to_string(), "--device", &args.device.to_string()]);
}

#[cfg(test)]
mod tests {
    use abn_backbones::Variant;
    use candle_core::Device;

    use super::*;
    use crate::bench::step::{Batch, Trainer};

    #[test]
    fn every_network_of_the_bench_exists() {
        for (name, ..) in GRAD_CAM.into_iter().chain([ATTENTION]) {
            assert!(abn_backbones::find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_map_of_the_bench_can_be_made() {
        let batch = Batch { images: 2, size: 32, classes: 5, dropout: None };
        let trainer = |variant| Trainer::new("resnet8", variant, batch, &Device::Cpu).unwrap();
        let (mut abn, mut plain) = (trainer(Variant::Abn), trainer(Variant::Baseline));
        for pass in [Pass::Forward, Pass::Attention, Pass::GradCam] {
            assert!(abn.pass(pass).unwrap() > 0.0, "{pass:?}");
        }
        assert!(plain.pass(Pass::GradCam).unwrap() > 0.0);
        assert!(plain.pass(Pass::Attention).is_err(), "a plain network has no attention map");
    }
}
