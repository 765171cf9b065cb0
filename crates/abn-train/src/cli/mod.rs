//! Arguments, and a module for each command.

mod eval;
mod explain;
mod export;
mod import;
mod lists;
mod parallel;
mod train;

use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use abn_train::DeviceChoice;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Args, Parser, Subcommand};

pub use parallel::Silent;

/// Train, evaluate and explain image classifiers that learn where to look: Attention Branch
/// Networks (CVPR 2019).
#[derive(Parser)]
#[command(name = "abn", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network, or go on with an interrupted run
    Train(Box<train::TrainArgs>),
    /// Measure the error of a trained network on a test set
    Eval(eval::EvalArgs),
    /// Show where a trained network looks in your images
    Explain(explain::ExplainArgs),
    /// Make a run of weights from PyTorch or safetensors
    Import(import::ImportArgs),
    /// Write a run's weights for PyTorch or as safetensors
    Export(export::ExportArgs),
    /// List the networks with their sizes
    Models(lists::ModelsArgs),
    /// List the datasets
    Datasets(lists::DatasetsArgs),
}

/// What every command that computes takes.
#[derive(Args)]
struct Compute {
    /// CPU threads [default: one per core]. The result does not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`, of the GPUs that CUDA_VISIBLE_DEVICES shows
    /// [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    /// Take cuDNN's guess at algorithms rather than measure them: two runs on a GPU have the same bytes
    #[arg(long, hide = true)]
    cudnn_guess: bool,
}

impl Compute {
    /// Sets up what the options say, for the whole process, and gives the device.
    fn set_up(&self) -> Result<Device> {
        let device = self.device.unwrap_or_default().open(0)?;
        self.set_up_process(None)?;
        Ok(device)
    }

    /// Sets up all but the device. Threads are as many as told, or this process's part of the cores if
    /// `processes` share them.
    fn set_up_process(&self, processes: Option<usize>) -> Result<()> {
        if self.cudnn_guess {
            abn_ops::set_cudnn_measures(false);
        }
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let part = processes.map(|processes| (cores() / processes.max(1)).max(1));
        let Some(threads) = self.threads.map(NonZeroUsize::get).or(part) else { return Ok(()) };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .with_context(|| format!("cannot start {threads} threads"))
    }
}

impl Cli {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// With one clear cause, for the user to read.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Train(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Import(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Models(args) => args.run(),
            Command::Datasets(args) => args.run(),
        }
    }
}

/// Prints a command's result. A reader that has seen enough (`abn models | head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the result")
        }
        _ => Ok(()),
    }
}

/// A number with its thousands set apart: 1,234,567.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Refuses a path that is not there, before anything is done.
fn must_exist(path: &Path, what: &str) -> Result<()> {
    if !path.exists() {
        bail!("there is no {what} {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, thousands};

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
