//! `cargo xtask bench train`: a training step of ABN, here and in PyTorch, in alternation.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::worker::Worker;

/// Networks and their batches. What each is: ABN for 100 classes at 32×32.
const NETWORKS: [(&str, usize); 4] =
    [("resnet20", 64), ("resnet110", 32), ("wrn-16-4", 32), ("resnext29-8x64d", 8)];
/// Steps before anything is measured: memory is mapped, and the clock settles.
const WARM_UP: usize = 2;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Time one training step of ABN (forward, both losses, backward, SGD)
///
/// Prints medians of seconds, images per second and peak memory. With --against-pytorch, rounds
/// alternate with the same step in PyTorch, and the ratio of the medians is printed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A Python that has torch (see tests/reference/README.md); compare with it
    #[arg(long, value_name = "PYTHON")]
    against_pytorch: Option<PathBuf>,

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
}

#[derive(Serialize)]
struct Report {
    classes: usize,
    image_size: usize,
    threads: u16,
    steps: u16,
    rounds: u16,
    torch: Option<String>,
    networks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    network: String,
    batch: usize,
    abn: Side,
    pytorch: Option<Side>,
    /// Our images per second by PyTorch's.
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct Side {
    median_seconds: f64,
    images_per_second: f64,
    peak_rss_bytes: Option<u64>,
    seconds: Vec<f64>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let networks = args.networks.iter().map(|name| batch_of(name)).collect::<Result<Vec<_>>>()?;
    let mut report = Report {
        classes: 100,
        image_size: 32,
        threads: args.threads,
        steps: args.steps,
        rounds: args.rounds,
        torch: None,
        networks: Vec::new(),
    };
    println!("{:<16} {:>5}  {:>24}  {:>24}  {:>5}", "network", "batch", "abn", "pytorch", "ratio");
    for (network, batch) in networks {
        let row = measure(args, network, batch, &mut report.torch)?;
        let pytorch = row.pytorch.as_ref().map_or("-".to_owned(), describe);
        let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!("{network:<16} {batch:>5}  {:>24}  {pytorch:>24}  {ratio:>5}", describe(&row.abn));
        report.networks.push(row);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn batch_of(name: &str) -> Result<(&'static str, usize)> {
    match NETWORKS.iter().find(|(known, _)| *known == name) {
        Some(&network) => Ok(network),
        None => {
            let known = NETWORKS.map(|(name, _)| name).join(", ");
            bail!("no network `{name}` in this bench; expected one of {known}")
        }
    }
}

fn measure(args: &Args, network: &str, batch: usize, torch: &mut Option<String>) -> Result<Row> {
    let (mut ours, _) = Worker::start("this project's worker", our_command(args, network, batch)?)?;
    let mut theirs = None;
    if let Some(python) = &args.against_pytorch {
        let command = pytorch_command(python, args, network, batch);
        let (worker, ready) = Worker::start("the PyTorch worker", command)?;
        *torch = ready.torch;
        theirs = Some(worker);
    }
    ours.steps(WARM_UP)?;
    if let Some(theirs) = &mut theirs {
        theirs.steps(WARM_UP)?;
    }
    let (mut our_seconds, mut their_seconds) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        our_seconds.extend(ours.steps(args.steps.into())?);
        if let Some(theirs) = &mut theirs {
            their_seconds.extend(theirs.steps(args.steps.into())?);
        }
    }
    let abn = Side::new(our_seconds, batch, ours.quit()?);
    let pytorch = match theirs {
        Some(theirs) => Some(Side::new(their_seconds, batch, theirs.quit()?)),
        None => None,
    };
    let ratio = pytorch.as_ref().map(|p| abn.images_per_second / p.images_per_second);
    Ok(Row { network: network.to_owned(), batch, abn, pytorch, ratio })
}

fn our_command(args: &Args, network: &str, batch: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "train-worker", network]);
    command.args(["--batch", &batch.to_string(), "--threads", &args.threads.to_string()]);
    Ok(command)
}

fn pytorch_command(python: &Path, args: &Args, network: &str, batch: usize) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/bench_train.py"));
    command.arg(network);
    command.args(["--batch", &batch.to_string(), "--threads", &args.threads.to_string()]);
    command
}

impl Side {
    fn new(seconds: Vec<f64>, batch: usize, peak_rss_bytes: Option<u64>) -> Self {
        let median_seconds = median(&seconds);
        let images_per_second = batch as f64 / median_seconds;
        Self { median_seconds, images_per_second, peak_rss_bytes, seconds }
    }
}

pub(super) fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Images per second, and peak memory.
fn describe(side: &Side) -> String {
    let speed = format!("{:.1} images/s", side.images_per_second);
    match side.peak_rss_bytes {
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
    fn every_network_of_the_bench_exists() {
        for (name, _) in NETWORKS {
            assert!(abn_backbones::find(name).is_ok(), "{name}");
        }
        let message = batch_of("resnet21").unwrap_err().to_string();
        assert!(message.contains("resnet110"), "{message}");
    }
}
