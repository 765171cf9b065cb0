//! What a network must offer to carry an attention branch and to be explained.

use abn_ops::Tracked;
use candle_core::Tensor;

use crate::Result;

/// Whether a forward pass trains (batch statistics, dropout) or evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Running statistics, no dropout.
    Eval,
    /// Batch statistics, which also update the running ones, and dropout.
    Train {
        /// Of this step: every layer's dropout mask follows from it and the layer's name.
        seed: u64,
    },
}

impl Mode {
    /// Whether this is a training pass.
    pub fn is_train(self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// A classification network, cut in three: at the feature map that the attention map will weight
/// (section 3 of the paper, figure 2), and at the last feature map, which class activation maps and
/// Grad-CAM look at.
///
/// ```text
/// image ─ extract ─ g(x) ┬ attention_trunk ─ (attention branch)
///                        └ deepen ─ last feature map ─ classify ─ class scores
///                          ╰──── perception branch ────╯
/// ```
///
/// Feature maps are channels-last, (N, h, w, C).
pub trait Backbone: Send + Sync {
    /// Feature extractor: image (N, C, H, W) to the feature map g(x), (N, h, w, c).
    ///
    /// # Errors
    /// If the image has the wrong shape.
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked>;

    /// The attention branch's trunk: the last stage once more, at stride 1, so that the attention
    /// map keeps the feature map's resolution. Gives (N, h, w, trunk channels).
    ///
    /// # Errors
    /// [`Error::NoTrunk`](crate::Error::NoTrunk) if the backbone was built without one.
    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked>;

    /// The perception branch's convolutions: the (attended) feature map to the last feature map
    /// (N, h', w', last channels), after its activation and before any pooling.
    ///
    /// # Errors
    /// If the feature map has the wrong shape.
    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked>;

    /// The rest of the perception branch, pooling and fully connected layers: the last feature map
    /// to class scores (N, K).
    ///
    /// # Errors
    /// [`Error::NoClassifier`](crate::Error::NoClassifier) if the backbone was built without fully
    /// connected layers; or if the feature map has the wrong shape.
    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked>;

    /// Channels the trunk gives; `None` if the backbone was built without one.
    fn trunk_channels(&self) -> Option<usize>;

    /// Channels of the last feature map.
    fn last_channels(&self) -> usize;

    /// The weight (K, last channels) of the linear layer, where [`Backbone::classify`] is the mean
    /// of each channel and one linear layer; `None` where it is more, or was not built.
    fn class_weights(&self) -> Option<&Tensor>;
}
