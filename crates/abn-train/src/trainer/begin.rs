//! The opening of a run: what is checked and agreed on before anything is written, and where it starts.

use std::path::Path;
use std::sync::Arc;

use abn_core::ParamStore;
use abn_data::Dataset;
use abn_ops::Meter;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{TrainOptions, open_data};
use crate::card::Card;
use crate::checkpoint::{self, State, Training};
use crate::ema::Ema;
use crate::feed::Feed;
use crate::folder::{Found, RunFolder};
use crate::init::{self, Extent};
use crate::optimizer::Sgd;
use crate::parallel::Team;
use crate::progress::{Progress, Reporter};
use crate::replay::Replay;
use crate::weights::WeightsFile;
use crate::{Error, Metrics, Recipe, Result, Summary, files, records};

/// What rank 0 found in the folder.
#[derive(Serialize, Deserialize)]
enum Begin {
    /// A finished run.
    Finished(Box<Summary>),
    /// Nothing, or a run to go on with; the hash of the weights that it starts from, if any.
    Train(Option<String>),
}

/// Opens a run and trains it, unless it is finished.
pub(super) fn begin(
    team: &Team,
    recipe: &Recipe,
    folder: &Path,
    options: &TrainOptions,
) -> Result<Summary> {
    recipe.validate()?;
    let device = options.device.clone().unwrap_or(Device::Cpu);
    recipe.precision.set_up(&device)?;
    check_parts(team, recipe)?;
    let start = Recipe { init: None, init_sha256: None, ..recipe.identity() };
    team.agree("recipe", start.to_toml())?;
    let folder = RunFolder::new(folder);
    let mut weights = None;
    let found = team.told(|| {
        let (recipe, file) = init::resolve(recipe)?;
        weights = file;
        Ok(match folder.inspect(&recipe, options.force)? {
            Found::Finished(summary) => Begin::Finished(summary),
            Found::Nothing | Found::Unfinished => Begin::Train(recipe.init_sha256),
        })
    })?;
    match found {
        Begin::Finished(summary) => Ok(*summary),
        Begin::Train(init_sha256) => {
            let recipe = Recipe { init_sha256, ..recipe.clone() };
            open(team, &recipe, folder, weights, device, options)?.run()
        }
    }
}

/// What trains the run, from `weights` if there are any or from where the folder's run is.
fn open<'a>(
    team: &'a Team,
    recipe: &'a Recipe,
    folder: RunFolder,
    weights: Option<WeightsFile>,
    device: Device,
    options: &TrainOptions,
) -> Result<Session<'a>> {
    let mut data = open_data(&recipe.dataset, recipe.data_dir.as_deref())?;
    if let Some(count) = recipe.images_per_class {
        data = data.first_per_class(count)?;
    }
    let card = Card::new(recipe, &data)?;
    let (train, test) = (data.train.len(), data.test.len());
    let sizes = format!("{train} training images\n{test} test images\n");
    team.agree("dataset", sizes + &checkpoint::card_text(&card))?;
    let params = ParamStore::new(recipe.seed, DType::F32, device);
    let model = card.build(&params)?.in_precision(recipe.precision, params.device())?;
    let optimizer = Sgd::new(params.parameters(), recipe);
    // Before the folder is written to: what does not fit leaves the disk as it was.
    let resumes = files::whole_folder(&folder.last()).exists() && !options.force;
    let started = match resumes || !team.is_root() {
        true => None,
        false => init::needed(recipe, weights)?
            .map(|file| init::take_over(&file, &card, &params, Extent::Start))
            .transpose()?,
    };
    let ema = recipe.ema_decay.map(|decay| Ema::new(&card, &params, decay)).transpose()?;
    let gradients = team.gradients(&params.parameters(), recipe.sync_batch_norm)?;
    let mut training = Training { params, optimizer, ema };

    let progress = if team.is_root() { options.progress } else { Progress::Quiet };
    let reporter = Reporter::new(progress, &options.label, recipe.epochs, data.train.len());
    let (claim, state) = match team.is_root() {
        true => {
            let claim = folder.claim(recipe, &header(options), options.force)?;
            if let (Some(started), Some(file)) = (started, &recipe.init) {
                reporter.say(&format!("starting from {}: {started}", file.display()));
            }
            (Some(claim), resume(recipe, &folder, &mut training, &card, &reporter)?)
        }
        false => (None, State::default()),
    };
    let state = team.share_start(&mut training, state)?;
    let device = training.params.device();
    // One for the run: captured steps know it by its memory.
    let meter = Meter::on(device)?.map(Arc::new);
    let replay = Replay::wanted(recipe, options, device).unwrap_or_else(|why| {
        reporter.say(&format!("training without CUDA graphs: {why}"));
        None
    });
    let feed = |data: &Arc<dyn Dataset>| Feed::new(data.clone(), card.transform(), device);
    let (feed, test_feed) = (feed(&data.train)?, feed(&data.test)?);
    Ok(Session {
        _claim: claim,
        recipe,
        folder,
        data,
        feed,
        test_feed,
        meter,
        replay,
        card,
        model,
        training,
        state,
        reporter,
        options: options.clone(),
        team,
        gradients,
    })
}

/// Where the run in the folder is, with everything that goes with it.
fn resume(
    recipe: &Recipe,
    folder: &RunFolder,
    training: &mut Training,
    card: &Card,
    reporter: &Reporter,
) -> Result<State> {
    let mut state = State { recipe: checkpoint::fingerprint(recipe), ..State::default() };
    if folder.last().exists() {
        state = checkpoint::resume(&folder.last(), training, card)?;
        reporter.say(&format!(
            "going on with {} after epoch {}, step {}",
            folder.root().display(),
            state.epoch,
            state.step
        ));
    }
    Metrics::truncate(&folder.metrics(), state.epoch)?;
    records::write_curves(folder)?;
    Ok(state)
}

/// Refuses batches of which a process would never have a part.
fn check_parts(team: &Team, recipe: &Recipe) -> Result<()> {
    let processes = team.shard().of;
    if recipe.part_size() >= processes {
        return Ok(());
    }
    Err(Error::Setting {
        key: "batch_size",
        problem: format!(
            "{} images at a time are fewer than the {processes} processes that share them",
            recipe.part_size()
        ),
    })
}

/// The comment at the top of a run's recipe.
fn header(options: &TrainOptions) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let by = match options.command.as_str() {
        "" => String::new(),
        command => format!("\n# Command: {}", command.replace('\n', " ")),
    };
    format!("# The recipe of this run with every key, written by abn {version}.{by}\n")
}
