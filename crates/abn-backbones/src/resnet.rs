//! Residual networks for ImageNet, as in torchvision (the stride of a bottleneck is in its 3×3
//! convolution): ResNet (He et al., "Deep Residual Learning", table 1), ResNeXt (Xie et al.,
//! "Aggregated Residual Transformations"), Wide ResNet (Zagoruyko and Komodakis) and SE-ResNet (Hu
//! et al., "Squeeze-and-Excitation Networks").

use abn_core::layers::{Conv2d, ConvNorm, LinearInit};
use abn_core::{Backbone, Error, Mode, Result};
use abn_ops::{Conv2dConfig, Pool2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::{BlockKind, Blocks, Stage, conv_norm};
use crate::{Architecture, BackboneOptions};

/// The sizes of an ImageNet ResNet and of what was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// One of [`ResNet::DEPTHS`].
    pub depth: usize,
    /// Groups of the bottlenecks' 3×3 convolutions: 1, but for a ResNeXt.
    pub cardinality: usize,
    /// Channels of each of these groups in the first stage, in a ResNet 64; doubles from stage to
    /// stage.
    pub base_width: usize,
    /// Whether every block ends with squeeze-and-excitation.
    pub squeeze: bool,
}

impl ResNetConfig {
    /// A ResNet's width.
    pub(crate) const BASE_WIDTH: usize = 64;

    /// A ResNet.
    pub fn resnet(depth: usize) -> Self {
        Self { depth, cardinality: 1, base_width: Self::BASE_WIDTH, squeeze: false }
    }

    /// Whether its bottlenecks are a ResNet's; depths without bottlenecks have no others.
    pub(crate) fn is_plain(&self) -> bool {
        (self.cardinality, self.base_width) == (1, Self::BASE_WIDTH)
    }
}

/// Four stages with 64, 128, 256 and 512 planes.
pub struct ResNet {
    stem: ConvNorm,
    layer1: Stage,
    layer2: Stage,
    layer3: Stage,
    /// The last stage again, at stride 1.
    att_layer4: Option<Stage>,
    layer4: Stage,
    fc: MeanLinear,
}

impl ResNet {
    /// The depths there are.
    pub const DEPTHS: [usize; 5] = [18, 34, 50, 101, 152];

    /// Those with bottlenecks, whose width can be another.
    pub(crate) const BOTTLENECK_DEPTHS: [usize; 3] = [50, 101, 152];

    /// Kind of block and blocks per stage; `None` for other depths.
    fn stages(depth: usize) -> Option<(BlockKind, [usize; 4])> {
        Some(match depth {
            18 => (BlockKind::Basic, [2, 2, 2, 2]),
            34 => (BlockKind::Basic, [3, 4, 6, 3]),
            50 => (BlockKind::Bottleneck, [3, 4, 6, 3]),
            101 => (BlockKind::Bottleneck, [3, 4, 23, 3]),
            152 => (BlockKind::Bottleneck, [3, 8, 36, 3]),
            _ => return None,
        })
    }

    /// A network of these sizes.
    ///
    /// # Errors
    /// If there is none of these sizes, or the store holds a parameter of the same name with
    /// another shape.
    pub fn new(
        config: ResNetConfig,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let invalid = || Architecture::ResNet(config).invalid();
        let (kind, counts) = Self::stages(config.depth).ok_or_else(invalid)?;
        if kind == BlockKind::Basic && !config.is_plain() {
            return Err(invalid());
        }
        let blocks = Blocks {
            kind,
            groups: config.cardinality,
            base_width: config.base_width,
            squeeze: config.squeeze,
            norm: options.norm,
        };
        Ok(Self::with_stages(blocks, counts, options, vb)?)
    }

    fn with_stages(
        blocks: Blocks,
        counts: [usize; 4],
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let Blocks { kind, norm, .. } = blocks;
        let stage = |count, from, planes, stride, name: &str| {
            blocks.stage(count, from, planes, stride, vb.pp(name))
        };
        let [c1, c2, c3, c4] = [64, 128, 256, 512].map(|planes| kind.channels(planes));
        let conv = Conv2dConfig { stride: 2, padding: 3, ..Default::default() };
        let conv = Conv2d::new(3, 64, 7, conv, vb.pp("conv1"))?;
        let trunk = || stage(counts[3], c3, 512, 1, "att_layer4");
        Ok(Self {
            stem: conv_norm(conv, 64, norm, vb.pp("bn1"))?,
            layer1: stage(counts[0], 64, 64, 1, "layer1")?,
            layer2: stage(counts[1], c1, 128, 2, "layer2")?,
            layer3: stage(counts[2], c2, 256, 2, "layer3")?,
            att_layer4: options.attention.then(trunk).transpose()?,
            layer4: stage(counts[3], c3, 512, 2, "layer4")?,
            fc: MeanLinear::new(c4, LinearInit::Uniform, options, vb.pp("fc"))?,
        })
    }
}

impl Backbone for ResNet {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = self.stem.forward(&abn_ops::to_channels_last(image)?, None, true, mode)?;
        let x = abn_ops::max_pool2d(&x, &Pool2dConfig { kernel: 3, stride: 2, padding: 1 })?;
        let x = self.layer1.forward(&x, mode)?;
        let x = self.layer2.forward(&x, mode)?;
        self.layer3.forward(&x, mode)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.att_layer4.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.layer4.forward(feature, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.fc.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.att_layer4.as_ref().map(|_| self.fc.channels())
    }

    fn last_channels(&self) -> usize {
        self.fc.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.fc.weight()
    }
}
