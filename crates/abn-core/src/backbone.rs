//! What a network must offer to carry an attention branch and to be explained.

use abn_ops::Tracked;
use candle_core::Tensor;

use crate::init::derive_seed;
use crate::{Error, Result};

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
    /// Training on several batches that lie one after the other in the first dimension. Each is
    /// treated as it would be alone, in [`Mode::part`]: statistics of its own, which update the
    /// running ones in turn, and dropout masks of its own. So a branch that several tasks share
    /// does them all in one pass.
    TrainParts {
        /// Of this step, as in [`Mode::Train`].
        seed: u64,
        /// Number of the first batch.
        first: usize,
        /// How many batches there are.
        count: usize,
    },
}

impl Mode {
    /// Whether this is a training pass.
    pub fn is_train(self) -> bool {
        !matches!(self, Self::Eval)
    }

    /// How `count` batches are treated together, the first of which is number `first`.
    ///
    /// # Errors
    /// [`Error::NestedParts`] if they are parts already.
    pub fn parts(self, first: usize, count: usize) -> Result<Self> {
        match self {
            Self::Eval => Ok(Self::Eval),
            Self::Train { seed } => Ok(Self::TrainParts { seed, first, count }),
            Self::TrainParts { .. } => Err(Error::NestedParts),
        }
    }

    /// How batch number `number` is treated alone: in training with a seed of its own, which
    /// follows from the step's and the number.
    pub fn part(self, number: usize) -> Self {
        match self {
            Self::Eval => Self::Eval,
            Self::Train { seed } | Self::TrainParts { seed, .. } => {
                Self::Train { seed: derive_seed(seed, &part_name(number)) }
            }
        }
    }
}

/// What one of the batches that are trained on in one step is called where its seed is made.
pub(crate) fn part_name(number: usize) -> String {
    format!("part {number}")
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

    /// What the last linear layer of [`Backbone::classify`] sees: pooling and the hidden fully
    /// connected layers, if any. The last feature map to features (N, F), for models with outputs
    /// of their own.
    ///
    /// By default the mean of each channel.
    ///
    /// # Errors
    /// [`Error::NoClassifier`](crate::Error::NoClassifier) if the backbone was built without its
    /// hidden fully connected layers; or if the feature map has the wrong shape.
    fn embed(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        let _ = mode;
        Ok(abn_ops::global_avg_pool(last)?)
    }

    /// F, the features that [`Backbone::embed`] gives.
    fn embedded(&self) -> usize {
        self.last_channels()
    }

    /// Channels the trunk gives; `None` if the backbone was built without one.
    fn trunk_channels(&self) -> Option<usize>;

    /// Channels of the last feature map.
    fn last_channels(&self) -> usize;

    /// The weight (K, last channels) of the linear layer, where [`Backbone::classify`] is the mean
    /// of each channel and one linear layer; `None` where it is more, or was not built.
    fn class_weights(&self) -> Option<&Tensor>;
}

impl<B: Backbone + ?Sized> Backbone for Box<B> {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).extract(image, mode)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).attention_trunk(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).deepen(feature, mode)
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).classify(last, mode)
    }

    fn embed(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        (**self).embed(last, mode)
    }

    fn embedded(&self) -> usize {
        (**self).embedded()
    }

    fn trunk_channels(&self) -> Option<usize> {
        (**self).trunk_channels()
    }

    fn last_channels(&self) -> usize {
        (**self).last_channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        (**self).class_weights()
    }
}
