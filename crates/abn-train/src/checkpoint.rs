//! A trained network on disk: weights that say what they are, and what resuming needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use abn_core::ParamStore;
use abn_core::weights::{self, Weights};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::ema::Ema;
use crate::optimizer::{Rate, Sgd};
use crate::tally::Tally;
use crate::{Error, Recipe, Result, files};

/// Name of the weights' file in a checkpoint.
pub(crate) const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// With an average of the weights: what it is the average of, which training goes on from.
const TRAINED: &str = "trained.safetensors";
const STATE: &str = "state.json";
/// The entry of the weights' metadata that holds the [`Card`].
pub(crate) const CARD: &str = "abn";

/// How far a run is: `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Whole epochs done.
    pub epoch: usize,
    /// Steps done of the epoch after those.
    pub step: usize,
    /// What the steps of that epoch gave so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Tally>,
    /// The first epoch with the lowest test error so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Fingerprint of the recipe.
    pub recipe: String,
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Test images it got wrong.
    pub wrong: usize,
}

/// FNV-1a of a recipe, without the place of the data.
pub(crate) fn fingerprint(recipe: &Recipe) -> String {
    let hash = recipe.identity().compact().bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn damaged(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_owned();
    move |problem| Error::Damaged { path: path.clone(), problem }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("cannot read", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?).map_err(|error| damaged(path)(error.to_string()))
}

/// A card as text.
pub(crate) fn card_text(card: &Card) -> String {
    serde_json::to_string(card).expect("strings and numbers are always JSON")
}

/// What a run consists of while it goes on.
pub(crate) struct Training {
    /// The weights that are trained.
    pub params: ParamStore,
    /// Their velocities.
    pub optimizer: Sgd,
    /// Their average, if the recipe asks for one.
    pub ema: Option<Ema>,
}

impl Training {
    /// The weights of the network that the run is about: the average, if there is one.
    pub fn network(&self) -> &ParamStore {
        self.ema.as_ref().map_or(&self.params, |ema| &ema.params)
    }

    /// Moves the weights by a step of this gradient, and their average after them; so many steps came
    /// `before`.
    pub fn step(&mut self, gradients: GradStore, rate: Rate, before: usize) -> Result<()> {
        self.optimizer.step_at(&gradients, rate)?;
        drop(gradients);
        self.ema.as_ref().map_or(Ok(()), |ema| ema.update(before))
    }
}

/// Writes a checkpoint folder at once: the network, how far the run is, and with `resumable` what
/// else a resumed run needs.
pub(crate) fn save(
    folder: &Path,
    training: &Training,
    resumable: bool,
    card: &Card,
    state: &State,
) -> Result<()> {
    files::replace_folder(folder, |folder| {
        write_network(folder, training.network(), card, state)?;
        if resumable {
            let bytes = weights::to_bytes(training.optimizer.velocity(), &BTreeMap::new())?;
            files::write_synced(&folder.join(OPTIMIZER), &bytes)?;
        }
        if resumable && training.ema.is_some() {
            let bytes = training.params.to_bytes(&BTreeMap::new())?;
            files::write_synced(&folder.join(TRAINED), &bytes)?;
        }
        Ok(())
    })
}

/// Writes a checkpoint folder at once from which nothing will resume.
pub(crate) fn save_network(
    folder: &Path,
    params: &ParamStore,
    card: &Card,
    state: &State,
) -> Result<()> {
    files::replace_folder(folder, |folder| write_network(folder, params, card, state))
}

fn write_network(folder: &Path, params: &ParamStore, card: &Card, state: &State) -> Result<()> {
    let bytes = params.to_bytes(&BTreeMap::from([(CARD.to_owned(), card_text(card))]))?;
    files::write_synced(&folder.join(MODEL), &bytes)?;
    let state = serde_json::to_string_pretty(state).expect("numbers are always JSON") + "\n";
    files::write_synced(&folder.join(STATE), state.as_bytes())
}

/// The tensors in a file, and the strings in its header.
fn read_weights(file: &Path) -> Result<Weights> {
    weights::from_bytes(&read(file)?, &Device::Cpu)
        .map_err(|error| damaged(file)(format!("not whole safetensors ({error})")))
}

/// Weights and what they are of.
pub(crate) fn read_model(file: &Path) -> Result<(Card, BTreeMap<String, Tensor>)> {
    let Weights { tensors, metadata } = read_weights(file)?;
    let damaged = damaged(file);
    let card = metadata.get(CARD).ok_or_else(|| {
        damaged(
            "its metadata has no entry \"abn\", so it does not say which network it is of".into(),
        )
    })?;
    let card = serde_json::from_str(card)
        .map_err(|error| damaged(format!("its metadata is not understood: {error}")))?;
    Ok((card, tensors))
}

/// How far the run of a checkpoint is.
pub(crate) fn read_state(folder: &Path) -> Result<State> {
    read_json(&folder.join(STATE))
}

/// Puts saved weights into a network, whole or not at all.
pub(crate) fn fill(
    params: &ParamStore,
    tensors: BTreeMap<String, Tensor>,
    file: &Path,
    network: String,
) -> Result<()> {
    params.load(tensors, true).map(drop).map_err(|error| Error::Misfit {
        path: file.to_owned(),
        network,
        problem: error.to_string(),
    })
}

/// Goes on from a checkpoint of the same network: fills weights, velocities and averages.
pub(crate) fn resume(folder: &Path, training: &mut Training, card: &Card) -> Result<State> {
    let model = folder.join(MODEL);
    let (found, tensors) = read_model(&model)?;
    if found != *card {
        let differences = card.recipe.differences(&found.recipe);
        let problem = match differences.first() {
            Some(difference) => difference.to_string(),
            None => "it was trained on data with other classes or statistics".into(),
        };
        return Err(Error::Misfit { path: model, network: card.network(), problem });
    }
    let state = read_state(folder)?;
    if state.recipe != fingerprint(&card.recipe) {
        let problem = "it is of another recipe than the weights beside it".into();
        return Err(damaged(&folder.join(STATE))(problem));
    }
    let file = folder.join(OPTIMIZER);
    let velocity = read_weights(&file)?.tensors;
    fill(training.network(), tensors, &model, card.network())?;
    if training.ema.is_some() {
        let trained = folder.join(TRAINED);
        let tensors = read_weights(&trained)?.tensors;
        fill(&training.params, tensors, &trained, card.network())?;
    }
    training.optimizer.set_velocity(velocity).map_err(damaged(&file))?;
    Ok(state)
}
