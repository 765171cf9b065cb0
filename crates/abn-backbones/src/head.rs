//! The end of every network but VGG.

use abn_core::layers::{Linear, LinearInit};
use abn_core::{Error, Result};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::{BackboneOptions, Top};

/// The mean of each channel, and one linear layer from the means to class scores.
pub(crate) struct MeanLinear {
    /// Not there in a network that is built without.
    linear: Option<Linear>,
    channels: usize,
}

impl MeanLinear {
    pub(crate) fn new(
        channels: usize,
        init: LinearInit,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let linear = || Linear::new(channels, options.classes, init, vb);
        Ok(Self { linear: (options.top == Top::Full).then(linear).transpose()?, channels })
    }

    /// (N, h, w, C) to (N, K).
    pub(crate) fn forward(&self, last: &Tracked) -> Result<Tracked> {
        let linear = self.linear.as_ref().ok_or(Error::NoClassifier)?;
        linear.forward(&abn_ops::global_avg_pool(last)?)
    }

    /// C.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// (K, C)
    pub(crate) fn weight(&self) -> Option<&Tensor> {
        self.linear.as_ref().map(Linear::weight)
    }
}
