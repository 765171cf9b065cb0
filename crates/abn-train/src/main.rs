//! The `abn` command.

mod cli;

use std::process::ExitCode;

use abn_train::Error;
use clap::Parser;

/// Activations and gradients are big and short-lived: given back to the system after each step,
/// they would cost a page fault for every 4 KiB of the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a shell gives a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let Err(error) = cli::Cli::parse().run() else { return ExitCode::SUCCESS };
    if let Some(Error::Stopped { .. }) = error.downcast_ref() {
        eprintln!("{error}");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
