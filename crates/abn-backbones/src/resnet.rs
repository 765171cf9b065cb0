//! ResNet for ImageNet: He et al., "Deep Residual Learning", table 1, as in torchvision (the
//! stride of a bottleneck is in its 3×3 convolution).

use abn_core::layers::{Conv2d, ConvNorm, LinearInit};
use abn_core::{Backbone, Error, Mode, Result};
use abn_ops::{Conv2dConfig, Pool2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::{BlockKind, Stage, conv_norm};
use crate::{Architecture, BackboneOptions};

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

    /// A network of one of the [`ResNet::DEPTHS`].
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(depth: usize, options: &BackboneOptions, vb: VarBuilder) -> crate::Result<Self> {
        let architecture = Architecture::ResNet { depth };
        let (kind, counts) = Self::stages(depth).ok_or_else(|| architecture.invalid())?;
        Ok(Self::with_stages(kind, counts, options, vb)?)
    }

    fn with_stages(
        kind: BlockKind,
        counts: [usize; 4],
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let norm = options.norm;
        let stage = |count, from, planes, stride, name: &str| {
            kind.stage(count, from, planes, stride, norm, vb.pp(name))
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
