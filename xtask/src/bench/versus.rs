//! `cargo xtask bench train` and `bench eval`: a step of ABN, here and in PyTorch, in alternation.

use std::path::{Path, PathBuf};
use std::process::Command;

use abn_train::DeviceChoice;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::step::Pass;
use super::worker::{Peak, Worker};

/// Networks and the batch they are trained with here. What each is: ABN for 100 classes at 32×32.
const NETWORKS: [(&str, usize); 4] =
    [("resnet20", 64), ("resnet110", 32), ("wrn-16-4", 32), ("resnext29-8x64d", 8)];
/// Batches of an evaluation: of a test set, and of someone who asks about one image.
const EVAL_BATCHES: [usize; 2] = [32, 1];
/// Steps before anything is measured: memory is mapped, and the clock settles.
pub(super) const WARM_UP: usize = 2;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// What is compared, and how.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A Python that has torch (see tests/reference/README.md); compare with it
    #[arg(long, value_name = "PYTHON")]
    against_pytorch: Option<PathBuf>,

    /// Compare with `torch.compile` too (needs a C++ compiler, and minutes for each network)
    #[arg(long, requires = "against_pytorch")]
    compile: bool,

    /// Write the measurements to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Which networks: resnet20, resnet110, wrn-16-4, resnext29-8x64d
    #[arg(long, value_delimiter = ',', default_values_t = NETWORKS.map(|(name, _)| name.to_owned()))]
    networks: Vec<String>,

    /// Steps of a round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
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
    pass: Pass,
    classes: usize,
    image_size: usize,
    threads: u16,
    steps: u16,
    rounds: u16,
    torch: Option<String>,
    networks: Vec<Row>,
    /// Geometric means of the networks' ratios.
    mean_ratio: Option<f64>,
    mean_ratio_compiled: Option<f64>,
}

#[derive(Serialize)]
struct Row {
    network: String,
    batch: usize,
    abn: Side,
    pytorch: Option<Side>,
    compiled: Option<Side>,
    /// Our images per second by PyTorch's, eager and compiled.
    ratio: Option<f64>,
    ratio_compiled: Option<f64>,
}

/// What a worker measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    pub median_seconds: f64,
    pub images_per_second: f64,
    #[serde(flatten)]
    pub peak: Peak,
    pub seconds: Vec<f64>,
}

/// Times a training step: forward, both losses, backward, SGD.
///
/// # Errors
/// If a network is not of this bench, a worker fails, or the report cannot be written.
pub fn train(args: &Args) -> Result<()> {
    let networks = args.networks.iter().map(|name| known(name)).collect::<Result<Vec<_>>>()?;
    run(args, Pass::Train, &networks)
}

/// Times an evaluation: classes and attention map of a batch, and of one image.
///
/// # Errors
/// As [`train`].
pub fn eval(args: &Args) -> Result<()> {
    let networks = args.networks.iter().map(|name| known(name)).collect::<Result<Vec<_>>>()?;
    let rows = EVAL_BATCHES.iter().flat_map(|&batch| networks.iter().map(move |n| (n.0, batch)));
    run(args, Pass::Eval, &rows.collect::<Vec<_>>())
}

fn run(args: &Args, pass: Pass, rows: &[(&'static str, usize)]) -> Result<()> {
    let mut report = Report {
        pass,
        classes: 100,
        image_size: 32,
        threads: args.threads,
        steps: args.steps,
        rounds: args.rounds,
        torch: None,
        networks: Vec::new(),
        mean_ratio: None,
        mean_ratio_compiled: None,
    };
    println!(
        "{:<16} {:>5}  {:>24}  {:>24}  {:>5}  {:>24}  {:>5}",
        "network", "batch", "abn", "pytorch", "ratio", "compiled", "ratio"
    );
    for &(network, batch) in rows {
        let row = measure(args, pass, network, batch, &mut report.torch)?;
        let side = |side: &Option<Side>| side.as_ref().map_or("-".to_owned(), describe);
        println!(
            "{network:<16} {batch:>5}  {:>24}  {:>24}  {:>5}  {:>24}  {:>5}",
            describe(&row.abn),
            side(&row.pytorch),
            in_short(row.ratio),
            side(&row.compiled),
            in_short(row.ratio_compiled),
        );
        report.networks.push(row);
    }
    report.mean_ratio = geometric_mean(report.networks.iter().map(|row| row.ratio));
    report.mean_ratio_compiled =
        geometric_mean(report.networks.iter().map(|row| row.ratio_compiled));
    if report.mean_ratio.is_some() {
        println!(
            "{:<74} {:>5}  {:>24}  {:>5}",
            "geometric mean",
            in_short(report.mean_ratio),
            "",
            in_short(report.mean_ratio_compiled)
        );
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn in_short(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Of all ratios, if there are any and none is missing.
fn geometric_mean(ratios: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let ratios = ratios.collect::<Option<Vec<_>>>()?;
    let logarithms = ratios.iter().map(|ratio| ratio.ln());
    (!ratios.is_empty()).then(|| (logarithms.sum::<f64>() / ratios.len() as f64).exp())
}

fn known(name: &str) -> Result<(&'static str, usize)> {
    match NETWORKS.iter().find(|(known, _)| *known == name) {
        Some(&network) => Ok(network),
        None => {
            let known = NETWORKS.map(|(name, _)| name).join(", ");
            bail!("no network `{name}` in this bench; expected one of {known}")
        }
    }
}

fn measure(
    args: &Args,
    pass: Pass,
    network: &str,
    batch: usize,
    torch: &mut Option<String>,
) -> Result<Row> {
    let start = |what, command| Worker::start(what, command);
    let mut workers = Vec::new();
    workers.push(start("this project's worker", our_command(args, pass, network, batch)?)?.0);
    if let Some(python) = &args.against_pytorch {
        for compile in [false, true].into_iter().take(1 + usize::from(args.compile)) {
            let command = pytorch_command(python, args, pass, network, batch, compile);
            let (worker, ready) = start("the PyTorch worker", command)?;
            *torch = ready.torch;
            workers.push(worker);
        }
    }
    // One after the other: none may disturb what another measures.
    let mut seconds = vec![Vec::new(); workers.len()];
    for worker in &mut workers {
        worker.steps(WARM_UP)?;
    }
    for _ in 0..args.rounds {
        for (worker, seconds) in workers.iter_mut().zip(&mut seconds) {
            seconds.extend(worker.steps(args.steps.into())?);
        }
    }
    let sides = workers.into_iter().zip(seconds);
    let sides = sides.map(|(worker, seconds)| Ok(Side::new(seconds, batch, worker.quit()?)));
    let mut sides = sides.collect::<Result<Vec<_>>>()?.into_iter();
    let abn = sides.next().context("this project's worker was started first")?;
    let (pytorch, compiled) = (sides.next(), sides.next());
    let ratio = |side: &Option<Side>| {
        side.as_ref().map(|side| abn.images_per_second / side.images_per_second)
    };
    let (ratio, ratio_compiled) = (ratio(&pytorch), ratio(&compiled));
    Ok(Row { network: network.to_owned(), batch, abn, pytorch, compiled, ratio, ratio_compiled })
}

fn our_command(args: &Args, pass: Pass, network: &str, batch: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "worker", network, "--pass", pass.name()]);
    command.args(["--batch", &batch.to_string(), "--threads", &args.threads.to_string()]);
    command.args(["--device", &args.device.to_string()]);
    Ok(command)
}

fn pytorch_command(
    python: &Path,
    args: &Args,
    pass: Pass,
    network: &str,
    batch: usize,
    compile: bool,
) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/bench_step.py"));
    command.args([network, "--pass", pass.name()]);
    command.args(["--batch", &batch.to_string(), "--threads", &args.threads.to_string()]);
    command.args(["--device", &args.device.to_string()]);
    command.args(compile.then_some("--compile"));
    command
}

impl Side {
    pub fn new(seconds: Vec<f64>, batch: usize, peak: Peak) -> Self {
        let median_seconds = median(&seconds);
        let images_per_second = batch as f64 / median_seconds;
        Self { median_seconds, images_per_second, peak, seconds }
    }
}

pub(super) fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Images per second, and peak memory: of the GPU where one computed.
pub(super) fn describe(side: &Side) -> String {
    let speed = format!("{:.1} images/s", side.images_per_second);
    match side.peak.peak_device_bytes.or(side.peak.peak_rss_bytes) {
        Some(bytes) => format!("{speed}, {:.0} MiB", bytes as f64 / MEBIBYTE),
        None => speed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_mean_of_ratios_is_geometric_and_of_all() {
        let mean = geometric_mean([Some(0.5), Some(8.0)].into_iter()).unwrap();
        assert!((mean - 2.0).abs() < 1e-12);
        assert_eq!(geometric_mean([Some(1.0), None].into_iter()), None);
        assert_eq!(geometric_mean([].into_iter()), None);
    }

    #[test]
    fn every_network_of_the_bench_exists() {
        for (name, _) in NETWORKS {
            assert!(abn_backbones::find(name).is_ok(), "{name}");
        }
        let message = known("resnet21").unwrap_err().to_string();
        assert!(message.contains("resnet110"), "{message}");
    }
}
