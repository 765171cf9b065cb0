//! `cargo xtask bench …`: how fast, and in how much memory.

mod data;
mod explain;
mod multitask;
mod photos;
pub mod step;
pub mod versus;
pub mod worker;

use anyhow::Result;

/// Measure speed and memory
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Data(data::Args),
    /// Time one training step of ABN (forward, both losses, backward, SGD)
    ///
    /// Prints medians of seconds, images per second and peak memory. With --against-pytorch, rounds
    /// alternate with the same step in PyTorch, and the ratio of the medians is printed.
    Train(versus::Args),
    /// Time ABN's answer, classes and attention map, for a batch of 32 and for one image
    ///
    /// As `bench train`; PyTorch runs in `torch.inference_mode()`.
    Eval(versus::Args),
    /// Time a training step of ABN for many tasks: all in one pass, some at a time, and in the loop
    ///
    /// Each way runs in a process of its own, in alternation; prints medians of seconds, their ratio
    /// to the loop's, peak memory, and how far losses and gradients are from the loop's.
    Multitask(multitask::Args),
    /// Time 1,000 attention maps against the forward pass alone, and Grad-CAM for batches and for one image
    ///
    /// With --against-pytorch, Grad-CAM alternates with the `grad-cam` package.
    Explain(explain::Args),
    Worker(step::Args),
    MultitaskWorker(multitask::WorkerArgs),
}

/// For serde: as it is displayed.
pub fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Runs the command.
///
/// # Errors
/// If a network is unknown, a worker fails, or the report cannot be written.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Data(args) => data::run(args),
        What::Train(args) => versus::train(args),
        What::Eval(args) => versus::eval(args),
        What::Multitask(args) => multitask::run(args),
        What::Explain(args) => explain::run(args),
        What::Worker(args) => step::run(args),
        What::MultitaskWorker(args) => multitask::work(args),
    }
}
