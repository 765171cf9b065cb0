//! What a network must offer to carry an attention branch.

use abn_ops::Tracked;

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

/// A classification network, cut in two at the feature map that the attention map will weight
/// (section 3 of the paper, figure 2).
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
    /// [`Error::NoTrunk`](crate::Error::NoTrunk) if the backbone was built for a baseline.
    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked>;

    /// Perception branch: the (attended) feature map to class scores (N, K).
    ///
    /// # Errors
    /// If the feature map has the wrong shape.
    fn perceive(&self, feature: &Tracked, mode: Mode) -> Result<Tracked>;

    /// Channels the trunk gives; `None` if the backbone was built for a baseline, without a trunk.
    fn trunk_channels(&self) -> Option<usize>;
}
