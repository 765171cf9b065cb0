//! Forward and backward, in as little memory as is asked for.

use abn_core::{Backbone, Mode};
use abn_ops::Tracked;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use crate::loss::{loss, losses, scaled_sum};
use crate::model::Seen;
use crate::task::columns;
use crate::{Attention, Error, MultiTask, MultiTaskAbn, Output, Result, Task};

/// What a training pass saw. Nothing of it can be differentiated any more.
pub struct Step {
    /// The answers and the attention branch's scores and maps.
    pub output: Output,
    /// The loss: the sum of the next two.
    pub total: f64,
    /// Mean over the tasks of the loss of the answers.
    pub perception: f64,
    /// Mean over the tasks of the loss of the attention branch's scores, if there is one.
    pub attention: Option<f64>,
}

pub(crate) fn check(mode: Mode) -> Result<()> {
    if matches!(mode, Mode::Train { .. }) { Ok(()) } else { Err(Error::NotTraining) }
}

/// Backward of the whole graph.
pub(crate) fn at_once(
    tasks: &[Task],
    output: Output,
    labels: &Tensor,
    scale: f64,
    store: &mut GradStore,
) -> Result<Step> {
    let loss = loss(tasks, &output, labels)?;
    backward_scaled(&loss.total, scale, store)?;
    Ok(Step {
        output: detach(output),
        total: number(&loss.total)?,
        perception: number(&loss.perception)?,
        attention: loss.attention.as_ref().map(number).transpose()?,
    })
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
    let labels = columns(model.tasks(), labels)?;
    let weight = 1.0 / model.tasks().len() as f64;
    let (scores, seen) = model.look(image, mode)?;
    let cut = Seen {
        feature: Tracked::leaf(seen.feature.value().clone()),
        maps: Tracked::leaf(seen.maps.value().clone()),
    };
    let (mut logits, mut perception) = (Vec::new(), 0.0);
    for tasks in model.passes() {
        let answers = model.perceive(&cut, tasks.clone(), mode)?;
        let loss = scaled_sum(&losses(&answers, &labels[tasks])?, weight)?;
        perception += number(&loss)?;
        backward_scaled(&loss, scale, store)?;
        logits.extend(answers.iter().map(Tracked::detach));
    }
    let [d_feature, d_maps] = [&cut.feature, &cut.maps].map(|leaf| store.remove(leaf.value()));
    let attention = scaled_sum(&losses(&scores, &labels)?, weight)?;
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
    let attention = number(&attention)?;
    Ok(Step { output, total: attention + perception, perception, attention: Some(attention) })
}

fn backward_scaled(loss: &Tracked, scale: f64, store: &mut GradStore) -> Result<()> {
    Ok(loss.backward_into(loss.value().ones_like()?.affine(scale, 0.0)?, store)?)
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

fn number(value: &Tracked) -> Result<f64> {
    Ok(value.value().to_dtype(DType::F64)?.to_scalar()?)
}
