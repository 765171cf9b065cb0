//! ResNet for 32×32 images: He et al., "Deep Residual Learning", section 4.2.

use abn_core::layers::{ConvNorm, LinearInit, conv3x3};
use abn_core::{Backbone, Error, Mode, Result};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::{BlockKind, Blocks, Stage, conv_norm};
use crate::{Architecture, BackboneOptions};

/// Three stages of n blocks with 16, 32 and 64 planes; depth 6n + 2.
///
/// From depth 44 on the blocks are bottlenecks, as in the authors' code, which keeps n =
/// (depth − 2)/6: such a network has 9n + 2 layers rather than the depth in its name.
///
/// With squeeze-and-excitation it is an SE-ResNet for 32×32 images (Hu et al., section 6.3), of which
/// the authors of ABN have none: block and attention head are those of their ImageNet SE-ResNet.
pub struct CifarResNet {
    stem: ConvNorm,
    layer1: Stage,
    layer2: Stage,
    /// The last stage again, at stride 1.
    att_layer3: Option<Stage>,
    layer3: Stage,
    fc: MeanLinear,
}

impl CifarResNet {
    /// Blocks per stage (n) at that depth; `None` if it is not 6n + 2.
    pub(crate) fn blocks(depth: usize) -> Option<usize> {
        crate::blocks(depth, 6, 2)
    }

    /// A network of depth 6n + 2, perhaps with squeeze-and-excitation.
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(
        depth: usize,
        squeeze: bool,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let architecture = Architecture::CifarResNet { depth, squeeze };
        let n = Self::blocks(depth).ok_or_else(|| architecture.invalid())?;
        let kind = if depth >= 44 { BlockKind::Bottleneck } else { BlockKind::Basic };
        let blocks = Blocks { squeeze, ..Blocks::plain(kind, options.norm) };
        Ok(Self::with_blocks(blocks, n, options, vb)?)
    }

    fn with_blocks(
        blocks: Blocks,
        n: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let Blocks { kind, norm, .. } = blocks;
        let stage =
            |from, planes, stride, name: &str| blocks.stage(n, from, planes, stride, vb.pp(name));
        let [c1, c2, c3] = [16, 32, 64].map(|planes| kind.channels(planes));
        Ok(Self {
            stem: conv_norm(conv3x3(3, 16, 1, vb.pp("conv1"))?, 16, norm, vb.pp("bn1"))?,
            layer1: stage(16, 16, 1, "layer1")?,
            layer2: stage(c1, 32, 2, "layer2")?,
            att_layer3: options.attention.then(|| stage(c2, 64, 1, "att_layer3")).transpose()?,
            layer3: stage(c2, 64, 2, "layer3")?,
            fc: MeanLinear::new(c3, LinearInit::Uniform, options, vb.pp("fc"))?,
        })
    }
}

impl Backbone for CifarResNet {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = self.stem.forward(&abn_ops::to_channels_last(image)?, None, true, mode)?;
        let x = self.layer1.forward(&x, mode)?;
        self.layer2.forward(&x, mode)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.att_layer3.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.layer3.forward(feature, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.fc.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.att_layer3.as_ref().map(|_| self.fc.channels())
    }

    fn last_channels(&self) -> usize {
        self.fc.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.fc.weight()
    }
}
