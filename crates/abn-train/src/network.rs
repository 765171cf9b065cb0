//! A network of one task or of several, as training sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_core::{Classifier, Mixed, Mode};
use abn_data::{Dataset, LoaderConfig, Shard, Transform};
use abn_multitask::MultiTask;
use abn_ops::{Meter, PackedWeights, Tracked, in_pool, no_grad};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::attributes::{TaskAnswers, TaskEvaluation};
use crate::card::Question;
use crate::evaluate::{evaluate_part, forward};
use crate::evaluation::Evaluation;
use crate::feed::Feed;
use crate::part::Part;
use crate::tally::{Tally, TaskSums};
use crate::{Precision, Result, ledger};

/// A network.
pub enum Network {
    /// One answer to an image.
    Classes(Box<dyn Classifier>),
    /// An answer to each of several tasks.
    Tasks(Box<dyn MultiTask>),
}

/// How a part of a training step is computed.
pub(crate) struct Pass<'a> {
    /// Where the network is.
    pub device: &'a Device,
    /// Of the dropout masks.
    pub seed: u64,
    /// Of the labels.
    pub smoothing: f64,
    /// The part's of the step's images; 0 if none of them counts.
    pub share: f32,
    /// What counts the part on a GPU, without the host's waiting for it.
    pub meter: Option<&'a Meter>,
}

/// What a network answered to a dataset.
pub enum Tested {
    /// One answer to each image.
    Classes(Evaluation),
    /// An answer to each task.
    Tasks(TaskEvaluation),
}

impl Tested {
    /// Losses and errors.
    pub fn tally(&self) -> &Tally {
        match self {
            Self::Classes(evaluation) => &evaluation.tally,
            Self::Tasks(evaluation) => &evaluation.tally,
        }
    }
}

impl Network {
    /// The network, whose parameters are on this device, with feature maps of this precision.
    ///
    /// # Errors
    /// If the device has no kernels for it.
    pub fn in_precision(self, precision: Precision, device: &Device) -> Result<Self> {
        Ok(match (precision, self) {
            (Precision::F32 | Precision::Tf32, network) => network,
            (_, Self::Classes(model)) => Self::Classes(Box::new(Mixed::bf16(model, device)?)),
            (_, Self::Tasks(model)) => Self::Tasks(Box::new(Mixed::bf16(model, device)?)),
        })
    }

    /// Nothing counted yet.
    pub(crate) fn tally(&self) -> Tally {
        match self {
            Self::Classes(_) => Tally::default(),
            Self::Tasks(model) => Tally::of_tasks(model.tasks().len()),
        }
    }

    /// Counts a part of a training step, and adds its gradient to the others'. A loss that is no
    /// number adds nothing of use.
    ///
    /// `complete` is told of each parameter as soon as the rest of the pass cannot change its
    /// gradient; of none by a network of several tasks, whose passes may be many.
    pub(crate) fn train(
        &self,
        part: Part,
        pass: &Pass,
        gradients: &mut GradStore,
        tally: &mut Tally,
        complete: &mut dyn FnMut(&Tensor, &mut GradStore),
    ) -> Result<()> {
        let &Pass { device, seed, smoothing, share, meter } = pass;
        let mode = Mode::Train { seed };
        match self {
            Self::Classes(model) => {
                let (output, loss, labels) = forward(&**model, part, mode, smoothing)?;
                match meter {
                    Some(meter) => {
                        if share > 0.0 {
                            ledger::measure(meter, &output, &loss, &labels.tensor)?;
                        }
                        tally.add_images(labels.values.len(), output.attention.is_some());
                    }
                    None => {
                        tally.add(&output, &loss, &labels.values)?;
                    }
                }
                // What backward needs it holds itself: without these, memory is free sooner.
                drop(output);
                let share = abn_ops::scalar(share, device)?;
                loss.total.backward_telling(share, gradients, &mut |parameter, store| {
                    complete(parameter, store);
                    Ok(())
                })?;
            }
            Self::Tasks(model) => {
                let (images, labels) = (Tracked::constant(part.images), part.labels);
                let step =
                    model.backward_into(&images, &labels, mode, f64::from(share), gradients)?;
                let scores = step.output.attention.as_ref();
                match meter {
                    Some(meter) => {
                        if share > 0.0 {
                            ledger::measure_tasks(meter, &step, &labels)?;
                        }
                        tally.add_images(labels.dims()[0], scores.is_some());
                    }
                    None => tally.add_tasks(&TaskSums {
                        images: labels.dims()[0],
                        total: step.total()?,
                        perception: step.perception()?,
                        attention: step.attention()?,
                        wrong: wrong(&step.output.predictions()?, &part.known)?,
                        wrong_attention: scores
                            .map(|scores| wrong(&scores.predictions()?, &part.known))
                            .transpose()?,
                    }),
                }
            }
        }
        Ok(())
    }

    /// Asks the network, which is on `device`, for every image of a dataset in its order, in
    /// evaluation mode. `None` if `stop` was set meanwhile.
    ///
    /// # Errors
    /// If an image cannot be had, or does not fit the network.
    pub fn test(
        &self,
        dataset: Arc<dyn Dataset>,
        transform: Transform,
        batch_size: usize,
        device: &Device,
        stop: &AtomicBool,
    ) -> Result<Option<Tested>> {
        let feed = Feed::new(dataset, transform, device)?;
        self.test_part(&feed, batch_size, Shard::default(), stop)
    }

    /// [`Network::test`] of a process's part of each batch.
    pub(crate) fn test_part(
        &self,
        feed: &Feed,
        batch_size: usize,
        shard: Shard,
        stop: &AtomicBool,
    ) -> Result<Option<Tested>> {
        let config = LoaderConfig { batch_size, shard, ..LoaderConfig::default() };
        Ok(match self {
            Self::Classes(model) => {
                evaluate_part(&**model, feed, config, stop)?.map(Tested::Classes)
            }
            Self::Tasks(model) => evaluate_tasks(&**model, feed, config, stop)?.map(Tested::Tasks),
        })
    }
}

/// [`Network::test`] of several tasks.
pub(crate) fn evaluate_tasks(
    model: &dyn MultiTask,
    feed: &Feed,
    config: LoaderConfig,
    stop: &AtomicBool,
) -> Result<Option<TaskEvaluation>> {
    let tasks = Question::all(&**feed.dataset());
    let (mut tally, mut answers) = (Tally::of_tasks(tasks.len()), Vec::new());
    let packed = PackedWeights::new();
    for part in feed.epoch(config, 0)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let part = part?;
        if part.len() == 0 {
            continue; // other processes' images
        }
        let indices = part.indices;
        let (images, labels) = (Tracked::constant(part.images), part.labels);
        let answer = || packed.reuse(|| no_grad(|| model.forward(&images, Mode::Eval)));
        let output = in_pool(answer)?;
        let loss = abn_multitask::loss(model.tasks(), &output, &labels)?;
        let predicted = output.predictions()?;
        let scores = output.attention.as_ref();
        tally.add_tasks(&TaskSums {
            images: indices.len(),
            total: number(&loss.total)?,
            perception: number(&loss.perception)?,
            attention: loss.attention.as_ref().map(number).transpose()?,
            wrong: wrong(&predicted, &part.known)?,
            wrong_attention: scores
                .map(|scores| wrong(&scores.predictions()?, &part.known))
                .transpose()?,
        });
        let labels = part.known.chunks(tasks.len()).map(<[u32]>::to_vec);
        let rows = labels.zip(predicted.to_vec2()?);
        let rows = indices.into_iter().zip(rows);
        answers.extend(rows.map(|(index, (labels, predicted))| TaskAnswers {
            index,
            labels,
            predicted,
        }));
    }
    Ok(Some(TaskEvaluation { tally, answers, tasks }))
}

/// How many predictions (N, T) are not the labels, an image's together.
fn wrong(predicted: &Tensor, labels: &[u32]) -> Result<usize> {
    let predicted = predicted.flatten_all()?.to_vec1::<u32>()?;
    Ok(predicted.iter().zip(labels).filter(|(predicted, label)| predicted != label).count())
}

fn number(value: &Tracked) -> Result<f64> {
    Ok(f64::from(value.value().to_scalar::<f32>()?))
}
