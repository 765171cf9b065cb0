//! DenseNet-BC for 32×32 images: Huang et al., "Densely Connected Convolutional Networks",
//! section 3, as in the authors' code.

use abn_core::layers::{BatchNorm2d, Conv2d, LinearInit, conv3x3};
use abn_core::{Backbone, Error, Mode, Result};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::densenet::{DenseBlock, LayerNames, Transition, halve};
use crate::head::MeanLinear;
use crate::{Architecture, BackboneOptions};

/// Three dense blocks of n layers with bottlenecks, each transition halving channels and size;
/// depth 6n + 4.
///
/// The feature map that attention weights is what the last dense block takes, 8×8.
pub struct CifarDenseNet {
    conv1: Conv2d,
    stages: [(DenseBlock, Transition); 2],
    /// The last block again.
    att_dense3: Option<DenseBlock>,
    dense3: DenseBlock,
    bn: BatchNorm2d,
    fc: MeanLinear,
}

impl CifarDenseNet {
    /// Layers per block (n) at that depth; `None` if it is not 6n + 4.
    pub(crate) fn layers(depth: usize) -> Option<usize> {
        crate::blocks(depth, 6, 4)
    }

    /// A network of depth 6n + 4 whose layers give `growth` channels each (k).
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(
        depth: usize,
        growth: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let architecture = Architecture::CifarDenseNet { depth, growth };
        let n = Self::layers(depth).ok_or_else(|| architecture.invalid())?;
        Ok(Self::with_layers(n, growth, options, vb)?)
    }

    fn with_layers(
        n: usize,
        growth: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let names = LayerNames { layer: |i| i.to_string(), norms: ["bn1", "bn2"] };
        let block =
            |from, name: &str| DenseBlock::new(n, from, growth, names, options, vb.pp(name));
        let transition = |from, name: &str| {
            Transition::new(from, from / 2, options.norm, ["bn1", "conv1"], vb.pp(name))
        };
        let (stem, grown) = (2 * growth, n * growth);
        let second = (stem + grown) / 2;
        let third = (second + grown) / 2;
        let end = third + grown;
        Ok(Self {
            conv1: conv3x3(3, stem, 1, vb.pp("conv1"))?,
            stages: [
                (block(stem, "dense1")?, transition(stem + grown, "trans1")?),
                (block(second, "dense2")?, transition(second + grown, "trans2")?),
            ],
            att_dense3: options.attention.then(|| block(third, "att_dense3")).transpose()?,
            dense3: block(third, "dense3")?,
            bn: BatchNorm2d::new(end, options.norm, vb.pp("bn"))?,
            fc: MeanLinear::new(end, LinearInit::Uniform, options, vb.pp("fc"))?,
        })
    }
}

impl Backbone for CifarDenseNet {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = self.conv1.forward(&abn_ops::to_channels_last(image)?)?;
        for (block, transition) in &self.stages {
            x = halve(&transition.forward(&block.forward(&x, mode)?, mode)?)?;
        }
        Ok(x)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.att_dense3.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.bn.forward(&self.dense3.forward(feature, mode)?, None, true, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.fc.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.att_dense3.as_ref().map(|_| self.fc.channels())
    }

    fn last_channels(&self) -> usize {
        self.fc.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.fc.weight()
    }
}
