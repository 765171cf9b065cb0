//! A trained network, ready to answer.

use std::path::{Path, PathBuf};

use abn_core::{Classifier, Mixed, Mode, ParamStore};
use abn_data::Image;
use abn_explain::pictures::{Heatmap, Reach};
use abn_ops::{PackedWeights, Tracked, in_pool, no_grad};
use candle_core::{DType, Device, Tensor};

use crate::card::Card;
use crate::checkpoint::{self, MODEL, State};
use crate::folder::RunFolder;
use crate::network::Network;
use crate::task_run::TaskRun;
use crate::{Error, Precision, Recipe, Result, files};

/// Images that go through the network at a time.
const BATCH: usize = 64;

/// A trained network from a run's folder.
pub struct Run {
    /// What the network is, sees and answers.
    pub card: Card,
    /// The recipe that trained it, with the place of the data if the run's folder tells it.
    pub recipe: Recipe,
    /// How far it was trained.
    pub state: State,
    /// The network. Its weights are not to be changed once it has answered.
    pub model: Box<dyn Classifier>,
    /// Its parameters.
    pub params: ParamStore,
    /// The folder the weights came from.
    pub checkpoint: PathBuf,
    packed: PackedWeights,
}

/// A trained network of either kind, for those who take both.
pub enum AnyRun {
    /// One answer to an image.
    Classes(Run),
    /// An answer to each of several tasks.
    Tasks(TaskRun),
}

impl AnyRun {
    /// Opens a run's folder, in which `best/` goes before `last/`, or one of these.
    ///
    /// # Errors
    /// If there is no checkpoint, a file of it is damaged, or its weights are not of the network
    /// that the run's recipe names.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, &Device::Cpu)
    }

    /// [`AnyRun::open`], the network on another device than the CPU.
    ///
    /// # Errors
    /// As [`AnyRun::open`], and if the device has no memory for it.
    pub fn open_on(path: &Path, device: &Device) -> Result<Self> {
        let Opened { card, recipe, state, model, params, checkpoint } = open(path, device)?;
        let packed = PackedWeights::new();
        Ok(match model {
            Network::Classes(model) => {
                Self::Classes(Run { card, recipe, state, model, params, checkpoint, packed })
            }
            Network::Tasks(model) => {
                Self::Tasks(TaskRun { card, recipe, state, model, params, checkpoint, packed })
            }
        })
    }

    /// The network, with feature maps of this precision; the process computes so from here on. Its answers
    /// and maps are f32 as ever.
    ///
    /// # Errors
    /// If the network's device has no kernels for it.
    pub fn in_precision(self, precision: Precision) -> Result<Self> {
        Ok(match self {
            Self::Classes(run) => Self::Classes(run.in_precision(precision)?),
            Self::Tasks(run) => Self::Tasks(run.in_precision(precision)?),
        })
    }

    /// What the network is, sees and answers.
    pub fn card(&self) -> &Card {
        match self {
            Self::Classes(run) => &run.card,
            Self::Tasks(run) => &run.card,
        }
    }

    /// Its parameters.
    pub fn params(&self) -> &ParamStore {
        match self {
            Self::Classes(run) => &run.params,
            Self::Tasks(run) => &run.params,
        }
    }

    /// The folder the weights came from.
    pub fn checkpoint(&self) -> &Path {
        match self {
            Self::Classes(run) => &run.checkpoint,
            Self::Tasks(run) => &run.checkpoint,
        }
    }
}

/// What a network says of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Probability of each class, by the perception branch.
    pub probabilities: Vec<f32>,
    /// Where the network looked; a baseline does not tell.
    pub attention: Option<Heatmap>,
}

impl Prediction {
    /// The likeliest classes, likeliest first, with their probabilities. Of equals the first.
    pub fn top(&self, count: usize) -> Vec<(usize, f32)> {
        let mut classes: Vec<_> = self.probabilities.iter().copied().enumerate().collect();
        classes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        classes.truncate(count);
        classes
    }
}

impl Run {
    /// Opens a run's folder, in which `best/` goes before `last/`, or one of these.
    ///
    /// # Errors
    /// If there is no checkpoint, a file of it is damaged, or its weights are not of the network
    /// that the run's recipe names; or if that has several tasks, as [`TaskRun`](crate::TaskRun) has.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, &Device::Cpu)
    }

    /// [`Run::open`], the network on another device than the CPU.
    ///
    /// # Errors
    /// As [`Run::open`], and if the device has no memory for it.
    pub fn open_on(path: &Path, device: &Device) -> Result<Self> {
        match AnyRun::open_on(path, device)? {
            AnyRun::Classes(run) => Ok(run),
            AnyRun::Tasks(run) => Err(Error::Invalid(format!(
                "{}: {} answers several tasks; this is for networks of one (`abn eval`, `abn explain` and `abn \
                 export` take both)",
                path.display(),
                run.card.network()
            ))),
        }
    }

    /// As [`AnyRun::in_precision`].
    ///
    /// # Errors
    /// As there.
    pub fn in_precision(self, precision: Precision) -> Result<Self> {
        let device = self.params.device();
        precision.set_up(device)?;
        let model: Box<dyn Classifier> = match precision {
            Precision::F32 | Precision::Tf32 => self.model,
            Precision::Bf16 => Box::new(Mixed::bf16(self.model, device)?),
        };
        Ok(Self { model, ..self })
    }

    /// Probabilities and attention maps for images of any size, which are brought to the
    /// network's input as in evaluation.
    ///
    /// # Errors
    /// If an image's bytes do not fit its size.
    pub fn predict(&self, images: &[Image]) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(images.len());
        for images in images.chunks(BATCH) {
            self.predict_batch(images, &mut predictions)?;
        }
        Ok(predictions)
    }

    /// Images of any size as the network takes them (N, 3, H, W), on its device, and how far each
    /// reaches over its image.
    ///
    /// # Errors
    /// If an image's bytes do not fit its size.
    pub fn inputs<'a>(
        &self,
        images: impl IntoIterator<Item = &'a Image>,
    ) -> Result<(Tensor, Vec<Reach>)> {
        let (inputs, reaches) = self.card.inputs(images)?;
        Ok((inputs.to_device(self.params.device())?, reaches))
    }

    /// Black images for the network, on its device.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn zeros(&self, count: usize) -> Result<Tensor> {
        Ok(self.card.input.zeros(count)?.to_device(self.params.device())?)
    }

    fn predict_batch(&self, images: &[Image], predictions: &mut Vec<Prediction>) -> Result<()> {
        let (inputs, reaches) = self.inputs(images)?;
        let forward = || self.model.forward(&Tracked::constant(inputs), Mode::Eval);
        let output = in_pool(|| self.packed.reuse(|| no_grad(forward)))?;
        let probabilities = abn_ops::softmax(output.logits.value())?.to_vec2::<f32>()?;
        for (index, (probabilities, reach)) in probabilities.into_iter().zip(reaches).enumerate() {
            let attention = match &output.attention {
                Some(attention) => {
                    Some(Heatmap::from_tensor(&attention.map.value().get(index)?, reach)?)
                }
                None => None,
            };
            predictions.push(Prediction { probabilities, attention });
        }
        Ok(())
    }
}

/// What a run's folder holds.
struct Opened {
    card: Card,
    recipe: Recipe,
    state: State,
    model: Network,
    params: ParamStore,
    checkpoint: PathBuf,
}

/// Opens a run of one task or of several.
fn open(path: &Path, device: &Device) -> Result<Opened> {
    let checkpoint = find_checkpoint(path)?;
    let file = checkpoint.join(MODEL);
    let (card, tensors) = checkpoint::read_model(&file)?;
    let recipe = run_recipe(&checkpoint, &card)?;
    let state = checkpoint::read_state(&checkpoint)?;
    let params = ParamStore::new(0, DType::F32, device.clone());
    let model = card.build(&params)?;
    checkpoint::fill(&params, tensors, &file, card.network())?;
    Ok(Opened { card, recipe, state, model, params, checkpoint })
}

/// The folder with the weights of a run, or of one of its checkpoints.
pub(crate) fn find_checkpoint(path: &Path) -> Result<PathBuf> {
    let run = RunFolder::new(path);
    let candidates = [path.to_owned(), run.best(), run.last()];
    let found = candidates.into_iter().map(|folder| files::whole_folder(&folder));
    found.into_iter().find(|folder| folder.join(MODEL).is_file()).ok_or_else(|| Error::NoRun {
        path: path.to_owned(),
        problem: match path.is_dir() {
            true => format!("expected {MODEL} in it, in best/ or in last/"),
            false => "there is no such folder".into(),
        },
    })
}

/// The recipe beside a checkpoint; the card's if the checkpoint stands alone.
fn run_recipe(checkpoint: &Path, card: &Card) -> Result<Recipe> {
    let file = checkpoint.parent().map(|run| RunFolder::new(run).recipe());
    let Some(file) = file.filter(|file| file.is_file()) else { return Ok(card.recipe.clone()) };
    let recipe = Recipe::load(&file)?;
    match card.recipe.differences(&recipe).first() {
        None => Ok(recipe),
        Some(difference) => Err(Error::Misfit {
            path: checkpoint.join(MODEL),
            network: format!("the run of {}", file.display()),
            problem: format!(
                "its weights were trained with {} = {}, the recipe has {}",
                difference.key, difference.ours, difference.theirs
            ),
        }),
    }
}
