//! `cargo xtask …`: tables, figures, datasets and benches. Glue only; no algorithm lives here.

mod bench;
mod embed;

use anyhow::Result;
use clap::Parser;

// Activations are large and short-lived: the system's allocator returns their pages at each step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tables, figures, datasets and benches", version)]
enum Command {
    Bench(bench::Args),
    EmbedFashionMnist(embed::Args),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Bench(args) => bench::run(&args),
        Command::EmbedFashionMnist(args) => embed::run(&args),
    }
}
