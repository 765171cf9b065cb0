//! `cargo xtask …`: tables, figures, datasets and benches. Glue only; no algorithm lives here.

mod embed;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tables, figures, datasets and benches", version)]
enum Command {
    EmbedFashionMnist(embed::Args),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::EmbedFashionMnist(args) => embed::run(&args),
    }
}
