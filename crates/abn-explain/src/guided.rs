//! Guided backprop and Guided Grad-CAM.

use abn_core::{Classifier, Mode};
use abn_ops::{Tracked, frozen, guided};
use candle_core::Tensor;

use crate::{Branch, Explain, Explained, GradCam, Result, target};

/// Guided backpropagation (Springenberg et al. 2015): the gradient of a class's score with respect
/// to the image, through ReLUs that pass positive gradients only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuidedBackprop {
    /// Whose score is explained.
    pub branch: Branch,
}

impl GuidedBackprop {
    /// The gradient itself, signed, of the images' shape (N, 3, H, W).
    ///
    /// # Errors
    /// As [`Explain::maps`].
    pub fn gradients(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Tensor> {
        target::check(images, classes)?;
        let image = Tracked::leaf(images.contiguous()?);
        let output = frozen(|| guided(|| model.forward(&image, Mode::Eval)))?;
        let logits = self.branch.logits(&output)?;
        let picked = target::one_hot(logits.value(), classes)?;
        let mut gradients = logits.backward_from(picked)?;
        match gradients.remove(image.value()) {
            Some(gradient) => Ok(gradient),
            None => Ok(image.value().zeros_like()?),
        }
    }
}

/// (N, 3, H, W) to (N, H, W): the largest magnitude of a pixel's channels (Simonyan et al. 2014).
fn magnitude(gradients: &Tensor) -> Result<Tensor> {
    Ok(gradients.abs()?.max(1)?)
}

impl Explain for GuidedBackprop {
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        magnitude(&self.gradients(model, images, classes)?)
    }

    fn explain(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Explained> {
        let gradients = self.gradients(model, images, classes)?;
        Ok(Explained { maps: magnitude(&gradients)?, gradients: Some(gradients) })
    }
}

/// Guided Grad-CAM (Selvaraju et al. 2017): guided backprop where Grad-CAM looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuidedGradCam {
    /// The map that the gradient is multiplied by; its branch is that of both.
    pub cam: GradCam,
}

impl GuidedGradCam {
    /// The product itself, signed, of the images' shape (N, 3, H, W).
    ///
    /// # Errors
    /// As [`Explain::maps`].
    pub fn gradients(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Tensor> {
        let (_, _, height, width) = images.dims4()?;
        let maps = self.cam.maps(model, images, classes)?;
        let maps = crate::resize::bilinear(&maps, height, width)?.unsqueeze(1)?;
        let guided = GuidedBackprop { branch: self.cam.branch };
        Ok(guided.gradients(model, images, classes)?.broadcast_mul(&maps)?)
    }
}

impl Explain for GuidedGradCam {
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        magnitude(&self.gradients(model, images, classes)?)
    }

    fn explain(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Explained> {
        let gradients = self.gradients(model, images, classes)?;
        Ok(Explained { maps: magnitude(&gradients)?, gradients: Some(gradients) })
    }
}
