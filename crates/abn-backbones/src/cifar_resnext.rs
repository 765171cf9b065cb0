//! ResNeXt for 32×32 images: Xie et al., "Aggregated Residual Transformations", section 5.3.

use abn_core::layers::{Conv2d, ConvNorm, LinearInit, conv1x1, conv3x3};
use abn_core::{Backbone, Error, Mode, Result};
use abn_ops::{Conv2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::{ResidualBlock, Stage, conv_norm};
use crate::{Architecture, BackboneOptions};

/// Three stages of n bottlenecks whose 3×3 convolutions have C groups; depth 9n + 2.
pub struct CifarResNeXt {
    stem: ConvNorm,
    stage_1: Stage,
    stage_2: Stage,
    /// The last stage again, at stride 1.
    stage_att: Option<Stage>,
    stage_3: Stage,
    classifier: MeanLinear,
}

/// The sizes of a CIFAR ResNeXt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNeXtConfig {
    /// 9n + 2.
    pub depth: usize,
    /// Groups of the 3×3 convolutions (C).
    pub cardinality: usize,
    /// Channels of each group in the first stage; doubles from stage to stage.
    pub base_width: usize,
    /// The stages give 64, 128 and 256 times as many channels; 4 in the paper.
    pub widen_factor: usize,
}

impl ResNeXtConfig {
    /// The paper's.
    pub const WIDEN_FACTOR: usize = 4;
}

impl CifarResNeXt {
    /// Blocks per stage (n) at that depth; `None` if it is not 9n + 2.
    pub(crate) fn blocks(depth: usize) -> Option<usize> {
        crate::blocks(depth, 9, 2)
    }

    /// A network of depth 9n + 2.
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(
        config: ResNeXtConfig,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let architecture = Architecture::CifarResNeXt(config);
        let n = Self::blocks(config.depth).ok_or_else(|| architecture.invalid())?;
        Ok(Self::with_blocks(n, config, options, vb)?)
    }

    fn with_blocks(
        n: usize,
        config: ResNeXtConfig,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let norm = options.norm;
        let [c1, c2, c3] = [64, 128, 256].map(|planes| planes * config.widen_factor);
        let d1 = config.cardinality * config.base_width;
        let stage = |from, width, to, stride, name: &str| {
            let vb = vb.pp(name);
            let blocks = (0..n).map(|i| {
                let (from, stride) = if i == 0 { (from, stride) } else { (to, 1) };
                let vb = vb.pp(format!("{name}_bottleneck_{i}"));
                bottleneck(from, width, to, stride, config.cardinality, options, &vb)
            });
            Ok::<_, Error>(Stage::new(vb.prefix(), blocks.collect::<Result<_>>()?))
        };
        let trunk = || stage(c2, 4 * d1, c3, 1, "stage_att");
        let classifier = vb.pp("classifier");
        Ok(Self {
            stem: conv_norm(conv3x3(3, 64, 1, vb.pp("conv_1_3x3"))?, 64, norm, vb.pp("bn_1"))?,
            stage_1: stage(64, d1, c1, 1, "stage_1")?,
            stage_2: stage(c1, 2 * d1, c2, 2, "stage_2")?,
            stage_att: options.attention.then(trunk).transpose()?,
            stage_3: stage(c2, 4 * d1, c3, 2, "stage_3")?,
            classifier: MeanLinear::new(c3, LinearInit::HeNormal, options, classifier)?,
        })
    }
}

/// 1×1 to the groups' width, 3×3 in groups, 1×1 to the stage's channels (figure 3c of the paper).
fn bottleneck(
    from: usize,
    width: usize,
    to: usize,
    stride: usize,
    groups: usize,
    options: &BackboneOptions,
    vb: &VarBuilder,
) -> Result<ResidualBlock> {
    let bn = |conv, channels, name| conv_norm(conv, channels, options.norm, vb.pp(name));
    let grouped = Conv2dConfig { stride, padding: 1, groups, ..Default::default() };
    let branch = vec![
        bn(conv1x1(from, width, 1, vb.pp("conv_reduce"))?, width, "bn_reduce")?,
        bn(Conv2d::new(width, width, 3, grouped, vb.pp("conv_conv"))?, width, "bn")?,
        bn(conv1x1(width, to, 1, vb.pp("conv_expand"))?, to, "bn_expand")?,
    ];
    let shortcut = if from != to {
        let conv = conv1x1(from, to, stride, vb.pp("shortcut.shortcut_conv"))?;
        Some(bn(conv, to, "shortcut.shortcut_bn")?)
    } else {
        None
    };
    Ok(ResidualBlock::new(vb.prefix(), branch, shortcut))
}

impl Backbone for CifarResNeXt {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = self.stem.forward(&abn_ops::to_channels_last(image)?, None, true, mode)?;
        let x = self.stage_1.forward(&x, mode)?;
        self.stage_2.forward(&x, mode)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.stage_att.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.stage_3.forward(feature, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.classifier.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.stage_att.as_ref().map(|_| self.classifier.channels())
    }

    fn last_channels(&self) -> usize {
        self.classifier.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.classifier.weight()
    }
}
