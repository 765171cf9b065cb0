//! The training loss: equation (3), with each branch's loss the mean over the tasks.

use abn_ops::Tracked;
use candle_core::Tensor;

use crate::task::columns;
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
/// On other labels.
pub fn loss(tasks: &[Task], output: &Output, labels: &Tensor) -> Result<Loss> {
    let columns = columns(tasks, labels)?;
    let mean = |logits: &[Tracked]| {
        let losses = losses(logits, &columns)?;
        scaled_sum(&losses, 1.0 / tasks.len() as f64)
    };
    let perception = mean(&output.logits)?;
    let Some(attention) = &output.attention else {
        return Ok(Loss { total: perception.clone(), perception, attention: None });
    };
    let attention = mean(&attention.logits)?;
    let total = abn_ops::add(&attention, &perception)?;
    Ok(Loss { total, perception, attention: Some(attention) })
}

/// The mean loss over the batch of each task's logits.
pub(crate) fn losses(logits: &[Tracked], labels: &[Vec<u32>]) -> Result<Vec<Tracked>> {
    let one = |(logits, labels): (&Tracked, &Vec<u32>)| {
        let device = logits.value().device();
        if logits.dims()[1] == 1 {
            let targets: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
            let targets = Tensor::from_vec(targets, (labels.len(), 1), device)?;
            let targets = targets.to_dtype(logits.value().dtype())?;
            return Ok(abn_ops::bce_with_logits(logits, &targets)?);
        }
        let labels = Tensor::new(labels.as_slice(), device)?;
        Ok(abn_ops::softmax_cross_entropy(logits, &labels)?)
    };
    logits.iter().zip(labels).map(one).collect()
}

/// The sum of scalars times a factor.
pub(crate) fn scaled_sum(terms: &[Tracked], factor: f64) -> Result<Tracked> {
    let mut sum = Tensor::zeros((), terms[0].value().dtype(), terms[0].value().device())?;
    for term in terms {
        sum = (sum + term.value())?;
    }
    let (count, inputs): (_, Vec<&Tracked>) = (terms.len(), terms.iter().collect());
    Ok(Tracked::from_op(sum.affine(factor, 0.0)?, &inputs, move |grad| {
        (0..count).map(|_| Ok(Some(grad.affine(factor, 0.0)?))).collect()
    }))
}
