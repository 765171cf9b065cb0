//! Whole classifiers: a backbone alone, and a backbone with an attention branch.

use abn_ops::Tracked;
use candle_nn::VarBuilder;

use crate::{AttentionBranch, AttentionConfig, Backbone, Error, Mechanism, Mode, Result};

/// What a classifier answers.
pub struct Output {
    /// Class scores (N, K): the answer, for ABN that of the perception branch.
    pub logits: Tracked,
    /// What the attention branch gives, if there is one.
    pub attention: Option<Attention>,
}

/// What an attention branch gives.
pub struct Attention {
    /// The branch's own class scores (N, K).
    pub logits: Tracked,
    /// The attention map M (N, 1, h, w), 0 to 1.
    pub map: Tracked,
}

/// An image classifier.
pub trait Classifier: Send + Sync {
    /// Images (N, 3, H, W) to class scores.
    ///
    /// # Errors
    /// If the images have the wrong shape.
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output>;
}

/// A backbone without attention branch: the network ABN is compared with.
pub struct Baseline<B> {
    backbone: B,
}

impl<B: Backbone> Baseline<B> {
    /// Wraps the backbone.
    pub fn new(backbone: B) -> Self {
        Self { backbone }
    }
}

impl<B: Backbone> Classifier for Baseline<B> {
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let feature = self.backbone.extract(image, mode)?;
        Ok(Output { logits: self.backbone.perceive(&feature, mode)?, attention: None })
    }
}

/// Attention Branch Network (section 3 of the paper): the attention branch looks at the feature
/// map, and the perception branch sees it weighted by the attention map.
pub struct Abn<B> {
    backbone: B,
    branch: AttentionBranch,
    mechanism: Mechanism,
}

impl<B: Backbone> Abn<B> {
    /// Adds an attention branch for K classes to a backbone that has its trunk.
    ///
    /// # Errors
    /// [`Error::NoTrunk`] if the backbone was built for a baseline.
    pub fn new(
        backbone: B,
        classes: usize,
        mechanism: Mechanism,
        config: AttentionConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let channels = backbone.trunk_channels().ok_or(Error::NoTrunk)?;
        let branch = AttentionBranch::new(channels, classes, config, vb)?;
        Ok(Self { backbone, branch, mechanism })
    }
}

impl<B: Backbone> Classifier for Abn<B> {
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let feature = self.backbone.extract(image, mode)?;
        let trunk = self.backbone.attention_trunk(&feature, mode)?;
        let (attention_logits, map) = self.branch.forward(&trunk, mode)?;
        let attended = self.mechanism.apply(&feature, &map)?;
        let logits = self.backbone.perceive(&attended, mode)?;
        // One channel: (N, h, w, 1) and (N, 1, h, w) are the same numbers in the same order.
        let (n, h, w) = (map.dims()[0], map.dims()[1], map.dims()[2]);
        let map = abn_ops::reshape(&map, (n, 1, h, w))?;
        Ok(Output { logits, attention: Some(Attention { logits: attention_logits, map }) })
    }
}
