//! What a check runs in processes of their own: with the device it is told, and an answer in JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abn_tests::fixture::Fixture;
use abn_tests::parity::{self, Setup};
use abn_train::{DeviceChoice, Precision, Progress, Recipe, Summary, TrainOptions};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::device::Target;

/// Do one thing of a check in this process; started by `gpu-check`
#[derive(clap::Args, Debug)]
#[command(hide = true)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Open the device.
    Device {
        #[arg(long)]
        device: DeviceChoice,
    },
    /// Run a fixture.
    Parity {
        fixture: PathBuf,
        #[arg(long)]
        device: DeviceChoice,
        #[arg(long)]
        precision: Precision,
        /// Factor to the fixture's tolerance from which double precision is asked.
        #[arg(long)]
        times: f64,
    },
    /// Train by a recipe.
    Train {
        recipe: PathBuf,
        #[arg(long)]
        out: PathBuf,
        #[arg(long)]
        device: DeviceChoice,
        /// Replay steps as CUDA graphs.
        #[arg(long)]
        cuda_graph: bool,
        /// Take cuDNN's own guess of the best algorithm: two processes may measure differently.
        #[arg(long)]
        guess: bool,
    },
}

/// A quantity of a fixture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Quantity {
    /// Which.
    pub what: String,
    /// Relative difference from the fixture. `None` if it is no number.
    pub deviation: Option<f64>,
    /// The fixture's tolerance.
    pub tolerance: f64,
}

/// What became of a fixture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parity {
    /// Its quantities.
    pub quantities: Vec<Quantity>,
    /// What is outside is rounding: the double-precision run that shows it.
    pub rounding: Option<String>,
    /// Convolutions that cuDNN refused.
    pub refused: Vec<String>,
}

/// What became of a training run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trained {
    /// The run's.
    pub summary: Summary,
    /// The most memory taken from the GPU, in bytes.
    pub peak_device_bytes: Option<u64>,
    /// Convolutions that cuDNN refused.
    pub refused: Vec<String>,
    /// Steps that were replayed as CUDA graphs.
    pub replayed: u64,
}

/// Runs the command.
///
/// # Errors
/// If the device cannot be used, or what is to be done cannot.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Device { device } => open(*device).map(drop),
        What::Parity { fixture, device, precision, times } => {
            answer(&parity_of(fixture, &open(*device)?, *precision, *times)?)
        }
        What::Train { recipe, out, device, cuda_graph, guess } => {
            abn_ops::set_cudnn_measures(!guess);
            answer(&train(recipe, out, open(*device)?, *cuda_graph)?)
        }
    }
}

/// This program again, for one of the above; what else it is told comes after.
pub fn command(target: Target, what: &str) -> Result<Command> {
    let mut command = target.command(std::env::current_exe().context("where this program lies")?);
    command.args(["gpu-check-part", what]);
    Ok(command)
}

/// Runs such a command; its answer.
pub fn ask<T: DeserializeOwned>(mut command: Command) -> Result<T> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start this program again")?;
    if !output.status.success() {
        bail!("the process ended with {}; its own message is above", output.status);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).with_context(|| format!("the process said {said:?}"))
}

fn answer(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Opens the device; on the CPU, the GPU's code must be there if it is asked for.
fn open(choice: DeviceChoice) -> Result<Device> {
    let emulated = std::env::var_os("ABN_EMULATE_CUDA").is_some_and(|value| value == "1");
    if emulated && !cfg!(feature = "cuda-emulation") {
        bail!(
            "this program was built without the emulation of a GPU: cargo run -p xtask \
             --features cuda-emulation -- gpu-check --device emulated"
        );
    }
    Ok(choice.open(0)?)
}

fn parity_of(path: &Path, device: &Device, precision: Precision, times: f64) -> Result<Parity> {
    precision.set_up(device)?;
    let fixture = Fixture::read(path)?;
    let bf16 = precision == Precision::Bf16;
    let setup = Setup { bf16, ..Setup::new(device.clone(), DType::F32) };
    let (report, rounding) = abn_ops::in_pool(|| -> Result<_> {
        let report = parity::run(&fixture, &setup, None)?;
        let is_outside = |check: &parity::Check| {
            check.deviation.is_nan() || check.deviation > times * check.bound
        };
        let outside = report.checks.iter().any(is_outside);
        // Only full precision is held to anything.
        let ask = outside && precision == Precision::F32;
        let rounding = ask.then(|| parity::is_rounding(&fixture, &report, device));
        Ok((report, rounding.and_then(Result::ok)))
    })?;
    let quantities = report.checks.into_iter().map(|check| Quantity {
        what: check.what,
        deviation: check.deviation.is_finite().then_some(check.deviation),
        tolerance: check.bound,
    });
    let refused = abn_ops::cudnn_refused();
    Ok(Parity { quantities: quantities.collect(), rounding, refused })
}

fn train(path: &Path, out: &Path, device: Device, cuda_graph: bool) -> Result<Trained> {
    let options = TrainOptions {
        device: Some(device.clone()),
        progress: Progress::Lines,
        command: "cargo xtask gpu-check".into(),
        cuda_graph,
        ..TrainOptions::default()
    };
    let summary = abn_train::train(&Recipe::load(path)?, out, &options)?;
    let peak_device_bytes = abn_ops::peak_memory(&device)?;
    let (refused, replayed) = (abn_ops::cudnn_refused(), abn_ops::graphs_launched());
    Ok(Trained { summary, peak_device_bytes, refused, replayed })
}
