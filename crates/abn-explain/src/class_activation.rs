//! CAM.

use abn_core::{Classifier, Mode, class_activation_maps};
use abn_ops::{Tracked, no_grad};
use candle_core::Tensor;

use crate::{Error, Explain, Result, target};

/// Class activation map (Zhou et al. 2016): the class's weights in the last layer times the last
/// feature map, at the cost of a forward pass. Signed, as defined.
///
/// For models whose answer is one linear layer of the mean of the last feature map: those built as
/// `cam`, and most networks without hidden fully connected layers as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassActivation;

impl Explain for ClassActivation {
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        target::check(images, classes)?;
        let weights = model.class_weights().ok_or(Error::NoClassWeights)?;
        let features = no_grad(|| model.features(&Tracked::constant(images.clone()), Mode::Eval))?;
        let classes = Tensor::new(classes, images.device())?.unsqueeze(1)?;
        Ok(class_activation_maps(features.last.value(), weights, &classes)?.squeeze(1)?)
    }
}
