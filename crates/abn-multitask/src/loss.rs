//! The training loss: equation (3), with each branch's loss the mean over the tasks.

use std::ops::Range;

use abn_ops::Tracked;
use candle_core::Tensor;

use crate::task::check_labels;
use crate::{Output, Result, Task};

/// The loss and its parts, each a scalar.
pub struct Loss {
    /// What is minimised: the sum of the parts.
    pub total: Tracked,
    /// Mean over the tasks of the loss of the answers.
    pub perception: Tracked,
    /// Mean over the tasks of the loss of the attention branch's scores, if there is one.
    pub attention: Option<Tracked>,
}

/// L = L_att + L_per, each the mean over the tasks (and over the batch): for one logit binary
/// cross-entropy, for several the cross-entropy of their softmax.
///
/// # Shapes
/// `labels` (N, T), u32, each below its task's categories.
///
/// # Errors
/// On other labels. Those that lie on a GPU are not looked at: there, one that is none of its task's makes the
/// loss NaN.
pub fn loss(tasks: &[Task], output: &Output, labels: &Tensor) -> Result<Loss> {
    check_labels(tasks, labels)?;
    let mean = |logits: &[Tracked]| mean_loss(tasks, logits, labels, 0..tasks.len());
    let perception = mean(&output.logits)?;
    let Some(attention) = &output.attention else {
        return Ok(Loss { total: perception.clone(), perception, attention: None });
    };
    let attention = mean(&attention.logits)?;
    let total = abn_ops::add(&attention, &perception)?;
    Ok(Loss { total, perception, attention: Some(attention) })
}

/// What some of the tasks, whose logits these are, add to the mean over all.
pub(crate) fn mean_loss(
    tasks: &[Task],
    logits: &[Tracked],
    labels: &Tensor,
    some: Range<usize>,
) -> Result<Tracked> {
    Ok(abn_ops::task_loss(logits, labels, some, 1.0 / tasks.len() as f64)?)
}
