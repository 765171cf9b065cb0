//! ABN's own attention map.

use abn_core::{Classifier, Mode};
use abn_ops::{Tracked, no_grad};
use candle_core::Tensor;

use crate::{Error, Explain, Result, target};

/// The attention map M(x) of an Attention Branch Network (Fukui et al., section 3.1): one map for
/// all classes, at the cost of a forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention;

impl Explain for Attention {
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        target::check(images, classes)?;
        let features = no_grad(|| model.features(&Tracked::constant(images.clone()), Mode::Eval))?;
        let map = features.attention.ok_or(Error::NoAttention)?.map.into_value();
        Ok(map.squeeze(1)?)
    }
}
