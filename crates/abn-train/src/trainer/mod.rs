//! Training, from a recipe to a finished run.

mod begin;
mod record;
mod session;
mod steps;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use abn_data::Splits;
use candle_core::Device;

use crate::folder::RunFolder;
use crate::parallel::{Group, Team};
use crate::progress::Progress;
use crate::{Error, Recipe, Result, Summary};

/// How to go about a run; nothing here changes its result.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Replace whatever run the folder holds, rather than resume or reuse it.
    pub force: bool,
    /// When set, from a signal handler say, training finishes its step, saves and returns
    /// [`Error::Stopped`].
    pub stop: Arc<AtomicBool>,
    /// What to show meanwhile.
    pub progress: Progress,
    /// Goes before every line shown.
    pub label: String,
    /// The command, for the header of the run's `recipe.toml`.
    pub command: String,
    /// Where to compute. Default: the CPU.
    pub device: Option<Device>,
    /// The processes that train this run together, of which this is one: each calls [`train`] with
    /// the same recipe. Default: this process alone.
    pub group: Option<Arc<Group>>,
    /// Have a GPU replay its steps as CUDA graphs, which spares it waiting for the host to tell it each
    /// kernel. The same kernels, the same result. Where steps cannot be captured, training goes on
    /// without and says why.
    pub cuda_graph: bool,
}

/// Trains what a recipe says, in a folder of its own.
///
/// A folder with an unfinished run of the same recipe is gone on with, and ends with the same
/// bytes as if it had never been interrupted; one with a finished run gives its summary at once.
/// Everything is checked before anything is written: a recipe, dataset or folder that cannot be
/// leaves the disk as it was.
///
/// Several processes ([`TrainOptions::group`]) share each batch of the recipe's size, and rank 0 alone
/// reads and writes the folder; all get the same summary.
///
/// # Errors
/// If the recipe, the data or what the folder holds cannot be; [`Error::OtherRun`] if it holds a
/// run of another recipe; [`Error::Diverged`] if the loss is no longer a number, which on a GPU is
/// found some steps late (the checkpoint after the last whole epoch stays); [`Error::Stopped`] if
/// asked to; [`Error::Peer`] if another process is gone or has failed.
pub fn train(recipe: &Recipe, folder: &Path, options: &TrainOptions) -> Result<Summary> {
    let team = Team::new(options.group.clone());
    begin::begin(&team, recipe, folder, options).map_err(|error| match team.fail(error) {
        Error::Peer { rank, problem } if RunFolder::new(folder).last().exists() => {
            let kept =
                "what was saved before is kept, run the same command again to go on from there";
            Error::Peer { rank, problem: format!("{problem}; {kept}") }
        }
        error => error,
    })
}

/// Opens a dataset; that it needs a folder is said in the words of a recipe.
///
/// # Errors
/// As [`abn_data::open`].
pub fn open_data(dataset: &str, data_dir: Option<&Path>) -> Result<Splits> {
    abn_data::open(dataset, data_dir).map_err(|error| match error {
        abn_data::Error::Unavailable { .. } if data_dir.is_none() => {
            Error::Setting { key: "data_dir", problem: error.to_string() }
        }
        error => error.into(),
    })
}
