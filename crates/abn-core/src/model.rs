//! Whole classifiers: a backbone alone, with an attention branch, and with one that is held.

use abn_ops::Tracked;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::{AttentionBranch, AttentionConfig, Backbone, Error, Mechanism, Mode, Result, observe};

/// Name under which every model [offers](observe::offer) the feature extractor's map g(x).
pub const EXTRACTOR: &str = "extractor";
/// Name of the attention branch's trunk.
pub const TRUNK: &str = "attention_trunk";
/// Name of the feature map weighted by the attention map.
pub const ATTENDED: &str = "attended";
/// Name of the last feature map, [`Features::last`].
pub const LAST: &str = "last";

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
    /// The attention map M (N, 1, h, w): 0 to 1, or 0 and more where it is a
    /// [sum of logarithms](crate::MapHead::LogSum).
    pub map: Tracked,
}

/// What a classifier has before it decides.
pub struct Features {
    /// The last feature map (N, h, w, C), after its activation and before any pooling.
    pub last: Tracked,
    /// What the attention branch gives, if there is one.
    pub attention: Option<Attention>,
}

/// An image classifier.
///
/// It works in two steps, so that explanations can look at and change what lies between: Grad-CAM
/// takes [`Classifier::features`], makes the last map a leaf, and differentiates
/// [`Classifier::classify`].
pub trait Classifier: Send + Sync {
    /// Images (N, 3, H, W) to the last feature map.
    ///
    /// # Errors
    /// If the images have the wrong shape.
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features>;

    /// The last feature map (N, h, w, C) to class scores (N, K).
    ///
    /// # Errors
    /// If the feature map has the wrong shape.
    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked>;

    /// The weight (K, C) of the linear layer, where [`Classifier::classify`] is the mean of each
    /// channel and one linear layer: what [`class_activation_maps`](crate::class_activation_maps)
    /// needs. `None` where it is more.
    fn class_weights(&self) -> Option<&Tensor>;

    /// [`features`](Self::features) with a map of the caller's own in place of the model's, which is
    /// not asked for its own (`attention` is `None`): human knowledge of where to look.
    ///
    /// The map is as [`Attention::map`] gives it, (N, 1, h, w), usually 0 to 1; what is computed
    /// from it can be differentiated with respect to it.
    ///
    /// # Errors
    /// [`Error::NoAttention`] of a model that has no map; or if the images or the map have the
    /// wrong shape.
    fn features_with(&self, image: &Tracked, map: &Tracked, mode: Mode) -> Result<Features> {
        let _ = (image, map, mode);
        Err(Error::NoAttention)
    }

    /// Images (N, 3, H, W) to class scores: both steps.
    ///
    /// # Errors
    /// If the images have the wrong shape.
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let Features { last, attention } = self.features(image, mode)?;
        Ok(Output { logits: self.classify(&last, mode)?, attention })
    }
}

impl<C: Classifier + ?Sized> Classifier for Box<C> {
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        (**self).features(image, mode)
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).classify(last, mode)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        (**self).class_weights()
    }

    fn features_with(&self, image: &Tracked, map: &Tracked, mode: Mode) -> Result<Features> {
        (**self).features_with(image, map, mode)
    }

    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        (**self).forward(image, mode)
    }
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
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        let feature = observe::offer(EXTRACTOR, self.backbone.extract(image, mode)?);
        let last = observe::offer(LAST, self.backbone.deepen(&feature, mode)?);
        Ok(Features { last, attention: None })
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        self.backbone.classify(last, mode)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.backbone.class_weights()
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
    /// [`Error::NoTrunk`] if the backbone was built without one.
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

impl<B: Backbone> Abn<B> {
    /// The backbone, whose [`Backbone::extract`] gives g(x).
    pub fn backbone(&self) -> &B {
        &self.backbone
    }

    /// The perception branch's answer to a feature map weighted by a map of the caller's own.
    ///
    /// With the map that [`Classifier::forward`] gives, its answer; differentiable with respect to
    /// both.
    ///
    /// # Shapes
    /// `feature` g(x) (N, h, w, C), as [`Backbone::extract`] gives it and [`EXTRACTOR`] is offered;
    /// `map` (N, 1, h, w), as [`Attention::map`], usually 0 to 1. Gives class scores (N, K).
    ///
    /// # Errors
    /// If the map is not of the feature map's size.
    pub fn perceive_with(&self, feature: &Tracked, map: &Tracked, mode: Mode) -> Result<Tracked> {
        let last = self.deepen_with(feature, map, mode)?;
        self.backbone.classify(&last, mode)
    }

    /// The perception branch's last feature map.
    fn deepen_with(&self, feature: &Tracked, map: &Tracked, mode: Mode) -> Result<Tracked> {
        let &[n, h, w, _] = feature.dims() else {
            return refuse("a feature map (N, h, w, C)".into(), feature);
        };
        if map.dims() != [n, 1, h, w] {
            return refuse(format!("a map of {:?}", [n, 1, h, w]), map);
        }
        // One channel: (N, 1, h, w) and (N, h, w, 1) are the same numbers in the same order.
        let map = abn_ops::reshape(map, (n, h, w, 1))?;
        let attended = observe::offer(ATTENDED, self.mechanism.apply(feature, &map)?);
        Ok(observe::offer(LAST, self.backbone.deepen(&attended, mode)?))
    }
}

fn refuse<T>(expected: String, got: &Tracked) -> Result<T> {
    let got = got.dims().to_vec();
    Err(abn_ops::Error::Shape { op: "perceive_with", expected, got }.into())
}

impl<B: Backbone> Classifier for Abn<B> {
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        let feature = observe::offer(EXTRACTOR, self.backbone.extract(image, mode)?);
        let trunk = observe::offer(TRUNK, self.backbone.attention_trunk(&feature, mode)?);
        let (logits, map) = self.branch.forward(&trunk, mode)?;
        let (n, h, w) = (map.dims()[0], map.dims()[1], map.dims()[2]);
        let map = abn_ops::reshape(&map, (n, 1, h, w))?;
        let last = self.deepen_with(&feature, &map, mode)?;
        Ok(Features { last, attention: Some(Attention { logits, map }) })
    }

    fn features_with(&self, image: &Tracked, map: &Tracked, mode: Mode) -> Result<Features> {
        let feature = observe::offer(EXTRACTOR, self.backbone.extract(image, mode)?);
        Ok(Features { last: self.deepen_with(&feature, map, mode)?, attention: None })
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        self.backbone.classify(last, mode)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.backbone.class_weights()
    }
}

/// An ABN whose attention map is held where it changes nothing: at 0 for g·(1+M), at 1 for g·M.
///
/// It has the parameters of [`Abn`], under the same names, and the same loss, but the perception
/// branch sees the features as they are. The paper does not have it: what ABN gains over its
/// baseline may come from the attention, or from the larger network and the second loss; what it
/// gains over this control comes from the attention. What only the map is made of (`att_conv3`,
/// `bn_att3`) gets no gradient and stays as it began.
pub struct Control<B>(Abn<B>);

impl<B: Backbone> Control<B> {
    /// Holds the map of an ABN.
    pub fn new(abn: Abn<B>) -> Self {
        Self(abn)
    }
}

impl<B: Backbone> Classifier for Control<B> {
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        let Abn { backbone, branch, mechanism } = &self.0;
        let feature = observe::offer(EXTRACTOR, backbone.extract(image, mode)?);
        let trunk = observe::offer(TRUNK, backbone.attention_trunk(&feature, mode)?);
        let logits = branch.scores(&branch.respond(&trunk, mode)?)?;
        let last = observe::offer(LAST, backbone.deepen(&feature, mode)?);
        let (n, h, w) = (feature.dims()[0], feature.dims()[1], feature.dims()[2]);
        let (dtype, device) = (feature.value().dtype(), feature.value().device());
        let map = abn_ops::filled(mechanism.neutral(), (n, 1, h, w), dtype, device)?;
        let map = Tracked::constant(map);
        Ok(Features { last, attention: Some(Attention { logits, map }) })
    }

    /// With a map that is not held: as the ABN that the control is made of.
    fn features_with(&self, image: &Tracked, map: &Tracked, mode: Mode) -> Result<Features> {
        self.0.features_with(image, map, mode)
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        self.0.classify(last, mode)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.0.class_weights()
    }
}
