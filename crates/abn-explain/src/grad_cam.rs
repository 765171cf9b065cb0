//! Grad-CAM and what came of it.

use abn_core::{Classifier, LAST, Mode, TRUNK, observe};
use abn_ops::{Tracked, frozen};
use candle_core::{D, Tensor};

use crate::{Branch, Error, Explain, Result, layers, target};

/// How a channel of the feature map counts. A is the feature map (N, h, w, C), G the gradient of
/// the class's score with respect to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// Grad-CAM (Selvaraju et al. 2017): ReLU(Σ_c mean(G_c) · A_c).
    #[default]
    GradCam,
    /// Grad-CAM++ (Chattopadhay et al. 2018): channels weigh Σ α · ReLU(G) with
    /// α = G² / (2G² + ΣA · G³), which assumes an exponential on the score. For layers after a
    /// ReLU: where A can be negative, the denominator can vanish.
    GradCamPlusPlus,
    /// LayerCAM (Jiang et al. 2021): ReLU(Σ_c ReLU(G_c) · A_c), every pixel with its own weight.
    LayerCam,
}

/// A map from a layer's output and the gradient of a class's score with respect to it.
///
/// Only the layers after the one looked at are differentiated, and no weights are: a pass costs
/// little more than the forward pass where the layer is late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradCam {
    /// How channels count.
    pub weighting: Weighting,
    /// Whose score is explained.
    pub branch: Branch,
    /// Name of the layer, as [`layers`] lists them; `None`: the last feature map of the branch.
    pub layer: Option<String>,
}

impl GradCam {
    /// With another weighting.
    pub fn new(weighting: Weighting) -> Self {
        Self { weighting, ..Self::default() }
    }

    /// At another layer.
    #[must_use]
    pub fn at(self, layer: &str) -> Self {
        Self { layer: Some(layer.to_owned()), ..self }
    }

    /// Of another branch's score.
    #[must_use]
    pub fn of(self, branch: Branch) -> Self {
        Self { branch, ..self }
    }

    fn layer(&self) -> &str {
        let default = match self.branch {
            Branch::Perception => LAST,
            Branch::Attention => TRUNK,
        };
        self.layer.as_deref().unwrap_or(default)
    }
}

impl Explain for GradCam {
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        target::check(images, classes)?;
        let layer = self.layer();
        let image = Tracked::constant(images.clone());
        let run = || model.forward(&image, Mode::Eval);
        let (output, leaf) = frozen(|| observe::cut_at(layer, run));
        let output = output?;
        let Some(leaf) = leaf else {
            let known = layers(model, images)?;
            return Err(Error::NoLayer { layer: layer.to_owned(), known });
        };
        let feature = leaf.value();
        if feature.dims().len() != 4 {
            let shape = feature.dims().to_vec();
            return Err(Error::NoFeatureMap { layer: layer.to_owned(), shape });
        }
        let logits = self.branch.logits(&output)?;
        let unconnected = || Error::Unconnected { layer: layer.to_owned() };
        if !logits.is_tracked() {
            return Err(unconnected());
        }
        let picked = target::one_hot(logits.value(), classes)?;
        let gradients = logits.backward_from(picked)?;
        let gradient = gradients.get(feature).ok_or_else(unconnected)?;
        self.weighting.map(feature, gradient)
    }
}

impl Weighting {
    /// A and G, both (N, h, w, C), to the map (N, h, w).
    fn map(self, feature: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (n, h, w, channels) = feature.dims4()?;
        let pixels = (n, h * w, channels);
        let (a, g) = (feature.reshape(pixels)?, gradient.reshape(pixels)?);
        let weights = match self {
            Self::GradCam => g.mean_keepdim(1)?,
            Self::GradCamPlusPlus => {
                let sums = a.sum_keepdim(1)?;
                let squares = g.sqr()?;
                let below = ((&squares * 2.0)? + (&squares * &g)?.broadcast_mul(&sums)?)?;
                // The published code's guard against 0/0; where G is 0, so is ReLU(G).
                let alpha = (&squares / (below + 1e-6)?)?;
                (alpha * g.relu()?)?.sum_keepdim(1)?
            }
            Self::LayerCam => {
                let map = (a * g.relu()?)?.sum(D::Minus1)?;
                return Ok(map.relu()?.reshape((n, h, w))?);
            }
        };
        let map = a.matmul(&weights.transpose(1, 2)?.contiguous()?)?;
        Ok(map.relu()?.reshape((n, h, w))?)
    }
}
