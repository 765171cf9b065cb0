//! The training loss (section 3.3, equation 3).

use abn_ops::Tracked;
use candle_core::Tensor;

use crate::{Output, Result};

/// The loss and its parts, each a scalar.
pub struct Loss {
    /// What is minimised: the sum of the parts.
    pub total: Tracked,
    /// Cross-entropy of the answer (for ABN, of the perception branch).
    pub perception: Tracked,
    /// Cross-entropy of the attention branch's class scores.
    pub attention: Option<Tracked>,
}

/// Equation (3): L(x) = L_att(x) + L_per(x), each the mean cross-entropy over the batch.
///
/// `labels` is (N), u32.
///
/// # Errors
/// If the number of labels is not the batch size, or a label is not a class.
pub fn loss(output: &Output, labels: &Tensor) -> Result<Loss> {
    smoothed_loss(output, labels, 0.0)
}

/// [`loss()`] with the share `smoothing` of each label spread evenly over all classes, in both
/// branches (PyTorch's `CrossEntropyLoss(label_smoothing=smoothing)`).
///
/// # Errors
/// As [`loss()`], and if `smoothing` is not in 0 to 1.
pub fn smoothed_loss(output: &Output, labels: &Tensor, smoothing: f64) -> Result<Loss> {
    let cross_entropy = |logits| abn_ops::smoothed_softmax_cross_entropy(logits, labels, smoothing);
    let perception = cross_entropy(&output.logits)?;
    let Some(attention) = &output.attention else {
        return Ok(Loss { total: perception.clone(), perception, attention: None });
    };
    let attention = cross_entropy(&attention.logits)?;
    let total = abn_ops::add(&attention, &perception)?;
    Ok(Loss { total, perception, attention: Some(attention) })
}
