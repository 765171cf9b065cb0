//! The `abn` command.

mod cli;

use std::process::ExitCode;

use abn_train::Error;
use clap::Parser;

/// What a shell gives a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    abn_ops::keep_freed_memory();
    let Err(error) = cli::Cli::parse().run() else { return ExitCode::SUCCESS };
    if let Some(&cli::Silent(status)) = error.downcast_ref() {
        return ExitCode::from(status);
    }
    if let Some(status) = error.downcast_ref().and_then(abn_train::parallel::left_to_parent) {
        return ExitCode::from(status);
    }
    if let Some(Error::Stopped { .. }) = error.downcast_ref() {
        eprintln!("{error}");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
