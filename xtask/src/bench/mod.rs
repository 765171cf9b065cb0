//! `cargo xtask bench …`: how fast, and in how much memory.

mod data;
mod photos;
pub mod step;
mod train;
mod worker;

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
    Train(train::Args),
    TrainWorker(step::Args),
}

/// Runs the command.
///
/// # Errors
/// If a network is unknown, a worker fails, or the report cannot be written.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Data(args) => data::run(args),
        What::Train(args) => train::run(args),
        What::TrainWorker(args) => step::run(args),
    }
}
