//! Forward and backward, in as little memory as is asked for.

use abn_core::{Backbone, Mode};
use abn_ops::{Tracked, filled};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use crate::loss::mean_loss;
use crate::model::Seen;
use crate::task::check_labels;
use crate::{Attention, Error, MultiTask, MultiTaskAbn, Output, Result, Task};

/// What a training pass saw. Nothing of it can be differentiated any more.
///
/// The losses stay where the network is; to look at them waits until they are computed.
pub struct Step {
    /// The answers and the attention branch's scores and maps.
    pub output: Output,
    /// Mean over the tasks of the loss of the answers, as scalars to be added up: one for each pass of
    /// the perception branch.
    pub perception: Vec<Tensor>,
    /// Mean over the tasks of the loss of the attention branch's scores, a scalar, if there is one.
    pub attention: Option<Tensor>,
}

impl Step {
    /// The loss: the sum of both branches'.
    ///
    /// # Errors
    /// If the device fails.
    pub fn total(&self) -> Result<f64> {
        Ok(match self.attention()? {
            Some(attention) => attention + self.perception()?,
            None => self.perception()?,
        })
    }

    /// Mean over the tasks of the loss of the answers.
    ///
    /// # Errors
    /// If the device fails.
    pub fn perception(&self) -> Result<f64> {
        self.perception.iter().map(number).sum()
    }

    /// Mean over the tasks of the loss of the attention branch's scores, if there is one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn attention(&self) -> Result<Option<f64>> {
        self.attention.as_ref().map(number).transpose()
    }
}

pub(crate) fn check(mode: Mode) -> Result<()> {
    if matches!(mode, Mode::Train { .. }) { Ok(()) } else { Err(Error::NotTraining) }
}

/// Backward of the whole graph of a network without attention branch.
pub(crate) fn at_once(
    tasks: &[Task],
    output: Output,
    labels: &Tensor,
    scale: f64,
    store: &mut GradStore,
) -> Result<Step> {
    check_labels(tasks, labels)?;
    let loss = mean_loss(tasks, &output.logits, labels, 0..tasks.len())?;
    let output = detach(output);
    let perception = vec![loss.value().clone()];
    backward_scaled(&loss, scale, store)?;
    Ok(Step { output, perception, attention: None })
}

/// Backward of some tasks at a time, as far as what the perception branch starts from; then of the
/// rest, where these gradients come in.
pub(crate) fn in_passes<B: Backbone>(
    model: &MultiTaskAbn<B>,
    image: &Tracked,
    labels: &Tensor,
    mode: Mode,
    scale: f64,
    store: &mut GradStore,
) -> Result<Step> {
    check(mode)?;
    check_labels(model.tasks(), labels)?;
    let (scores, seen) = model.look(image, mode)?;
    let cut = Seen {
        feature: Tracked::leaf(seen.feature.value().clone()),
        maps: Tracked::leaf(seen.maps.value().clone()),
    };
    let (mut logits, mut perception) = (Vec::new(), Vec::new());
    for tasks in model.passes() {
        let answers = model.perceive(&cut, tasks.clone(), mode)?;
        let loss = mean_loss(model.tasks(), &answers, labels, tasks)?;
        perception.push(loss.value().clone());
        backward_scaled(&loss, scale, store)?;
        logits.extend(answers.iter().map(Tracked::detach));
    }
    let [d_feature, d_maps] = [&cut.feature, &cut.maps].map(|leaf| store.remove(leaf.value()));
    let attention = mean_loss(model.tasks(), &scores, labels, 0..scores.len())?;
    let output = Output {
        logits,
        attention: Some(Attention {
            logits: scores,
            maps: abn_ops::to_channels_first(&seen.maps)?,
        }),
    };
    let output = detach(output);
    // One root for the two ways back: the scores' loss, and the gradients that came from the passes.
    let total = Tracked::from_op(
        attention.value().clone(),
        &[&attention, &seen.feature, &seen.maps],
        move |grad| Ok(vec![Some(grad), d_feature, d_maps]),
    );
    drop(seen);
    backward_scaled(&total, scale, store)?;
    Ok(Step { output, perception, attention: Some(attention.into_value()) })
}

fn backward_scaled(loss: &Tracked, scale: f64, store: &mut GradStore) -> Result<()> {
    let (dtype, device) = (loss.value().dtype(), loss.value().device());
    Ok(loss.backward_into(filled(scale, (), dtype, device)?, store)?)
}

fn detach(mut output: Output) -> Output {
    let mut all: Vec<&mut Tracked> = output.logits.iter_mut().collect();
    if let Some(attention) = &mut output.attention {
        all.extend(&mut attention.logits);
        all.push(&mut attention.maps);
    }
    for value in all {
        *value = value.detach();
    }
    output
}

fn number(value: &Tensor) -> Result<f64> {
    Ok(value.to_dtype(DType::F64)?.to_scalar()?)
}
