//! A trained network for several tasks, ready to answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use abn_core::{Mixed, Mode, ParamStore};
use abn_data::{Dataset, Image, LoaderConfig};
use abn_explain::pictures::Heatmap;
use abn_multitask::MultiTask;
use abn_ops::{PackedWeights, Tracked, in_pool, no_grad};
use candle_core::Device;

use crate::attributes::TaskEvaluation;
use crate::card::Card;
use crate::checkpoint::State;
use crate::feed::Feed;
use crate::network::evaluate_tasks;
use crate::run::AnyRun;
use crate::{Error, Precision, Recipe, Result};

/// Images that go through the network at a time.
const BATCH: usize = 16;

/// A trained network for several tasks, from a run's folder.
pub struct TaskRun {
    /// What the network is, sees and answers.
    pub card: Card,
    /// The recipe that trained it, with the place of the data if the run's folder tells it.
    pub recipe: Recipe,
    /// How far it was trained.
    pub state: State,
    /// The network. Its weights are not to be changed once it has answered.
    pub model: Box<dyn MultiTask>,
    /// Its parameters.
    pub params: ParamStore,
    /// The folder the weights came from.
    pub checkpoint: PathBuf,
    pub(crate) packed: PackedWeights,
}

/// What a network says of an image's attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPrediction {
    /// Of each task the probability of each answer.
    pub probabilities: Vec<Vec<f32>>,
    /// Where the network looked for each task; a baseline does not tell. Values of tasks with two
    /// answers are of either sign.
    pub maps: Option<Vec<Heatmap>>,
}

impl TaskPrediction {
    /// The likeliest answer to a task and its probability; of equals the first.
    pub fn answer(&self, task: usize) -> Option<(usize, f32)> {
        let answers = self.probabilities.get(task)?.iter().copied().enumerate();
        answers.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

/// One map's positive part, M above 0, or its negative part, −M where M is below 0, as the paper's
/// figures of faces show them.
///
/// # Errors
/// None but for a map whose numbers are none.
pub fn part_of(map: &Heatmap, positive: bool) -> Result<Heatmap> {
    let sign = if positive { 1.0 } else { -1.0 };
    let values = map.values().iter().map(|value| (sign * value).max(0.0)).collect();
    Ok(Heatmap::new(map.width(), map.height(), values, map.reach())?)
}

impl TaskRun {
    /// Opens a run's folder, in which `best/` goes before `last/`, or one of these.
    ///
    /// # Errors
    /// As [`Run::open`](crate::Run::open), and if its network has one task.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, &Device::Cpu)
    }

    /// [`TaskRun::open`], the network on another device than the CPU.
    ///
    /// # Errors
    /// As [`TaskRun::open`], and if the device has no memory for it.
    pub fn open_on(path: &Path, device: &Device) -> Result<Self> {
        match AnyRun::open_on(path, device)? {
            AnyRun::Tasks(run) => Ok(run),
            AnyRun::Classes(run) => Err(Error::Invalid(format!(
                "{}: {} has one task, not several",
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
        let model: Box<dyn MultiTask> = match precision {
            Precision::F32 | Precision::Tf32 => self.model,
            Precision::Bf16 => Box::new(Mixed::bf16(self.model, device)?),
        };
        Ok(Self { model, ..self })
    }

    /// Asks the network for every image of a dataset in its order.
    ///
    /// # Errors
    /// If the dataset's tasks are not the network's, or an image cannot be had.
    pub fn evaluate(&self, dataset: Arc<dyn Dataset>) -> Result<TaskEvaluation> {
        self.card.check_tasks(&*dataset)?;
        let batch_size = self.recipe.part_size();
        let config = LoaderConfig { batch_size, ..LoaderConfig::default() };
        let (transform, device) = (self.card.transform(), self.params.device());
        let never = AtomicBool::new(false);
        let feed = Feed::new(dataset, transform, device)?;
        evaluate_tasks(&*self.model, &feed, config, &never)?
            .ok_or_else(|| Error::Invalid("the evaluation was stopped".into()))
    }

    /// Answers and maps for images of any size, which are brought to the network's input as in
    /// evaluation.
    ///
    /// # Errors
    /// If an image's bytes do not fit its size.
    pub fn predict(&self, images: &[Image]) -> Result<Vec<TaskPrediction>> {
        self.packed.reuse(|| predict(&*self.model, &self.card, self.params.device(), images))
    }
}

/// Answers and maps of a network with this card.
pub(crate) fn predict(
    model: &dyn MultiTask,
    card: &Card,
    device: &Device,
    images: &[Image],
) -> Result<Vec<TaskPrediction>> {
    let mut predictions = Vec::with_capacity(images.len());
    for images in images.chunks(BATCH) {
        let (inputs, reaches) = card.inputs(images)?;
        let inputs = inputs.to_device(device)?;
        let forward = || model.forward(&Tracked::constant(inputs), Mode::Eval);
        let output = in_pool(|| no_grad(forward))?;
        let probabilities = output.probabilities()?;
        let rows = probabilities.iter().map(|task| task.to_vec2::<f32>());
        let rows = rows.collect::<candle_core::Result<Vec<_>>>()?;
        for (i, reach) in reaches.into_iter().enumerate() {
            let probabilities = rows.iter().map(|task| task[i].clone()).collect();
            let maps = output.attention.as_ref().map(|attention| {
                let maps = attention.maps.value().get(i)?;
                let map = |t| Ok::<_, Error>(Heatmap::from_tensor(&maps.get(t)?, reach)?);
                (0..model.tasks().len()).map(map).collect::<Result<Vec<_>>>()
            });
            predictions.push(TaskPrediction { probabilities, maps: maps.transpose()? });
        }
    }
    Ok(predictions)
}
