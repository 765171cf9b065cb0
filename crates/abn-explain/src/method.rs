//! The methods, by one trait and by name.

use std::fmt;
use std::str::FromStr;

use abn_core::{Classifier, Mode, observe};
use abn_ops::{Tracked, no_grad};
use candle_core::Tensor;

use crate::{
    Attention, Branch, ClassActivation, Error, GradCam, GuidedBackprop, GuidedGradCam, Result,
    Weighting,
};

/// A way to tell where a classifier looked.
pub trait Explain: Send + Sync {
    /// A map for each image and the class given for it.
    ///
    /// Higher means more; the range is the method's own.
    ///
    /// # Shapes
    /// `images` (N, 3, H, W) as the model takes them, N `classes`, to (N, h, w), on the model's
    /// device.
    ///
    /// # Errors
    /// If there is not one class for each image, a class or layer is not the model's, or the model
    /// has not what the method needs.
    fn maps(&self, model: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor>;

    /// The maps, and the signed gradient that they are the magnitude of, where they are: all that
    /// pictures are made of, at the cost of the maps alone.
    ///
    /// # Errors
    /// As [`maps`](Self::maps).
    fn explain(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Explained> {
        Ok(Explained { maps: self.maps(model, images, classes)?, gradients: None })
    }
}

/// What a method says of a batch.
pub struct Explained {
    /// A map for each image (N, h, w).
    pub maps: Tensor,
    /// Of methods that differentiate with respect to the image, such as guided backprop: the
    /// gradient (N, 3, H, W), signed.
    pub gradients: Option<Tensor>,
}

/// Names of the layers that a model offers to be looked at, in the order they run: blocks, stages
/// and convolutions under their parameters' names, and `extractor`, `attended`, `attention_trunk`
/// and `last` in every model that has them.
///
/// # Errors
/// If the model refuses the images, of which one is enough.
pub fn layers(model: &dyn Classifier, images: &Tensor) -> Result<Vec<String>> {
    let image = Tracked::constant(images.narrow(0, 0, 1)?);
    let (output, names) = no_grad(|| observe::layer_names(|| model.forward(&image, Mode::Eval)));
    output?;
    Ok(names)
}

/// The methods there are, with their usual settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// [`Attention`].
    Attention,
    /// [`ClassActivation`].
    Cam,
    /// [`GradCam`].
    GradCam,
    /// [`GradCam`] with [`Weighting::GradCamPlusPlus`].
    GradCamPlusPlus,
    /// [`GradCam`] with [`Weighting::LayerCam`].
    LayerCam,
    /// [`GuidedBackprop`].
    GuidedBackprop,
    /// [`GuidedGradCam`].
    GuidedGradCam,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Attention,
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::LayerCam,
        Self::Cam,
        Self::GuidedBackprop,
        Self::GuidedGradCam,
    ];

    /// The method as it is usually meant: the perception branch's score, at the last feature map.
    pub fn explainer(self) -> Box<dyn Explain> {
        self.explainer_of(Branch::Perception, None)
    }

    /// The method for a branch's score, and for a layer, as [`layers`] lists them; `None`: the last
    /// feature map of the branch. Only those methods heed them that
    /// [have a choice of layers](Self::looks_at_a_layer) and [of branches](Self::has_branches).
    pub fn explainer_of(self, branch: Branch, layer: Option<&str>) -> Box<dyn Explain> {
        let layer = layer.map(str::to_owned);
        let cam = |weighting| GradCam { weighting, branch, layer };
        match self {
            Self::Attention => Box::new(Attention),
            Self::Cam => Box::new(ClassActivation),
            Self::GradCam => Box::new(cam(Weighting::GradCam)),
            Self::GradCamPlusPlus => Box::new(cam(Weighting::GradCamPlusPlus)),
            Self::LayerCam => Box::new(cam(Weighting::LayerCam)),
            Self::GuidedBackprop => Box::new(GuidedBackprop { branch }),
            Self::GuidedGradCam => Box::new(GuidedGradCam { cam: cam(Weighting::GradCam) }),
        }
    }

    /// Whether the method can look at any layer: Grad-CAM and what came of it.
    pub fn looks_at_a_layer(self) -> bool {
        !matches!(self, Self::Attention | Self::Cam | Self::GuidedBackprop)
    }

    /// Whether the method explains one branch's score: all but the attention map, which is no
    /// class's, and CAM, which is of the perception branch.
    pub fn has_branches(self) -> bool {
        !matches!(self, Self::Attention | Self::Cam)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Cam => "cam",
            Self::GradCam => "grad-cam",
            Self::GradCamPlusPlus => "grad-cam++",
            Self::LayerCam => "layer-cam",
            Self::GuidedBackprop => "guided-backprop",
            Self::GuidedGradCam => "guided-grad-cam",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::UnknownMethod { name: name.to_owned(), known }
        })
    }
}
