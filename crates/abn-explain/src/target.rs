//! Which score is explained.

use abn_core::Output;
use abn_ops::Tracked;
use candle_core::Tensor;

use crate::{Error, Result};

/// Which of the two branches answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Branch {
    /// The perception branch, whose answer is the model's; a baseline's only one.
    #[default]
    Perception,
    /// The attention branch's own class scores.
    Attention,
}

impl Branch {
    /// The branch's class scores (N, K).
    pub(crate) fn logits(self, output: &Output) -> Result<&Tracked> {
        match self {
            Self::Perception => Ok(&output.logits),
            Self::Attention => {
                output.attention.as_ref().map(|a| &a.logits).ok_or(Error::NoAttention)
            }
        }
    }
}

/// Refuses a list of classes that is not one for each image.
pub(crate) fn check(images: &Tensor, classes: &[u32]) -> Result<()> {
    let count = images.dims().first().copied().unwrap_or(0);
    match count == classes.len() {
        true => Ok(()),
        false => Err(Error::Targets { images: count, classes: classes.len() }),
    }
}

/// The gradient that picks each image's class out of the scores (N, K): 1 there, 0 elsewhere.
pub(crate) fn one_hot(logits: &Tensor, classes: &[u32]) -> Result<Tensor> {
    let (n, k) = logits.dims2()?;
    let mut picked = vec![0f64; n * k];
    for (row, &class) in picked.chunks_exact_mut(k.max(1)).zip(classes) {
        match row.get_mut(class as usize) {
            Some(place) => *place = 1.0,
            None => return Err(Error::Class { class, count: k }),
        }
    }
    Ok(Tensor::from_vec(picked, (n, k), logits.device())?.to_dtype(logits.dtype())?)
}
