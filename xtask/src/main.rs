//! `cargo xtask …`: tables, figures, datasets, benches, the check on a GPU. Glue only; no algorithm lives here.

mod bench;
mod embed;
mod fetch;
mod figures;
mod gpu_check;
mod regress;
mod synthesize;
mod tables;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_train::report::{page, svg};
use anyhow::{Context, Result};
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tables, figures, datasets and benches", version)]
enum Command {
    Bench(bench::Args),
    EmbedFashionMnist(embed::Args),
    Fetch(fetch::Args),
    GpuCheck(gpu_check::Args),
    GpuCheckPart(gpu_check::part::Args),
    Regress(regress::Args),
    Synthesize(synthesize::Args),
    #[command(name = "reproduce-figures")]
    ReproduceFigures(figures::Args),
    #[command(name = "reproduce-table1")]
    ReproduceTable1(tables::Args),
    #[command(name = "reproduce-table2")]
    ReproduceTable2(tables::Args),
    #[command(name = "reproduce-table3")]
    ReproduceTable3(tables::Args),
    #[command(name = "reproduce-table4")]
    ReproduceTable4(tables::Args),
}

/// What a shell gives a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    abn_ops::keep_freed_memory();
    let Err(error) = run(Command::parse()) else { return ExitCode::SUCCESS };
    if let Some(abn_train::Error::Stopped { .. }) = error.downcast_ref() {
        eprintln!("{error}");
        return ExitCode::from(INTERRUPTED);
    }
    if let Some(stopped) = error.downcast_ref::<fetch::Stopped>() {
        eprintln!("{stopped}");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// The workspace's folder.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}

/// A flag that the first Ctrl-C sets, saying `message` if there is one; the second ends the process, which runs
/// and downloads survive.
fn stop_on_ctrl_c(message: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        if !message.is_empty() {
            eprintln!("{message}");
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench(args) => bench::run(&args),
        Command::EmbedFashionMnist(args) => embed::run(&args),
        Command::Fetch(args) => fetch::run(&args),
        Command::GpuCheck(args) => gpu_check::run(&args),
        Command::GpuCheckPart(args) => gpu_check::part::run(&args),
        Command::Regress(args) => regress::run(&args),
        Command::Synthesize(args) => synthesize::run(&args),
        Command::ReproduceFigures(args) => figures::run(&args),
        Command::ReproduceTable1(args) => tables::run("table1", &args),
        Command::ReproduceTable2(args) => tables::run("table2", &args),
        Command::ReproduceTable3(args) => tables::run("table3", &args),
        Command::ReproduceTable4(args) => tables::run("table4", &args),
    }
}
