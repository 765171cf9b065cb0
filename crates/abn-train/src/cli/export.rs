use std::path::PathBuf;

use abn_train::{AnyRun, export};
use anyhow::Result;
use clap::Args;

use super::{print, thousands};

#[derive(Args)]
pub struct ExportArgs {
    /// Folder of a run (its best/ is taken, or else its last/), or one of these two
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// File to write; the format is its ending's: .safetensors, or .pth for PyTorch
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl ExportArgs {
    pub fn run(self) -> Result<()> {
        let run = AnyRun::open(&self.checkpoint)?;
        export(&run, &self.out)?;
        print(&format!(
            "{}: {} of {}, {} parameters\n",
            self.out.display(),
            run.card().network(),
            run.checkpoint().display(),
            thousands(run.params().parameter_count() as u64)
        ))
    }
}
