//! Residual blocks and the stages made of them.

use abn_core::layers::{BatchNorm2d, BatchNormConfig, Conv2d, ConvNorm, conv1x1, conv3x3};
use abn_core::{Mode, Result};
use abn_ops::Tracked;
use candle_nn::VarBuilder;

/// `ReLU(branch(x) + shortcut(x))`: the branch is a chain of convolutions with batch norm, all but
/// the last with ReLU; the shortcut is x itself or a 1×1 convolution with batch norm.
pub(crate) struct ResidualBlock {
    branch: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl ResidualBlock {
    pub(crate) fn new(branch: Vec<ConvNorm>, shortcut: Option<ConvNorm>) -> Self {
        Self { branch, shortcut }
    }

    fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let projected;
        let shortcut = match &self.shortcut {
            Some(shortcut) => {
                projected = shortcut.forward(x, None, false, mode)?;
                &projected
            }
            None => x,
        };
        let mut y = x.clone();
        for (i, layer) in self.branch.iter().enumerate() {
            let last = i + 1 == self.branch.len();
            y = layer.forward(&y, last.then_some(shortcut), true, mode)?;
        }
        Ok(y)
    }
}

/// Residual blocks one after the other.
pub(crate) struct Stage(Vec<ResidualBlock>);

impl Stage {
    pub(crate) fn new(blocks: Vec<ResidualBlock>) -> Self {
        Self(blocks)
    }

    pub(crate) fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = x.clone();
        for block in &self.0 {
            x = block.forward(&x, mode)?;
        }
        Ok(x)
    }
}

pub(crate) fn conv_norm(
    conv: Conv2d,
    channels: usize,
    norm: BatchNormConfig,
    vb: VarBuilder,
) -> Result<ConvNorm> {
    Ok(ConvNorm::new(conv, BatchNorm2d::new(channels, norm, vb)?))
}

/// The two residual blocks of He et al. (2016), table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1 to `planes`, 3×3, 1×1 to 4·`planes` channels. The 3×3 one carries the stride.
    Bottleneck,
}

impl BlockKind {
    /// Output channels of a block of `planes` planes.
    pub(crate) fn channels(self, planes: usize) -> usize {
        match self {
            Self::Basic => planes,
            Self::Bottleneck => 4 * planes,
        }
    }

    fn block(
        self,
        from: usize,
        planes: usize,
        stride: usize,
        norm: BatchNormConfig,
        vb: &VarBuilder,
    ) -> Result<ResidualBlock> {
        let to = self.channels(planes);
        let bn = |conv, channels, name| conv_norm(conv, channels, norm, vb.pp(name));
        let branch = match self {
            Self::Basic => vec![
                bn(conv3x3(from, planes, stride, vb.pp("conv1"))?, planes, "bn1")?,
                bn(conv3x3(planes, planes, 1, vb.pp("conv2"))?, planes, "bn2")?,
            ],
            Self::Bottleneck => vec![
                bn(conv1x1(from, planes, 1, vb.pp("conv1"))?, planes, "bn1")?,
                bn(conv3x3(planes, planes, stride, vb.pp("conv2"))?, planes, "bn2")?,
                bn(conv1x1(planes, to, 1, vb.pp("conv3"))?, to, "bn3")?,
            ],
        };
        let shortcut = if stride != 1 || from != to {
            let conv = conv1x1(from, to, stride, vb.pp("downsample.0"))?;
            Some(bn(conv, to, "downsample.1")?)
        } else {
            None
        };
        Ok(ResidualBlock::new(branch, shortcut))
    }

    /// `count` blocks (`0`, `1`, …), of which the first may change the channels and the size.
    pub(crate) fn stage(
        self,
        count: usize,
        from: usize,
        planes: usize,
        stride: usize,
        norm: BatchNormConfig,
        vb: VarBuilder,
    ) -> Result<Stage> {
        let to = self.channels(planes);
        let blocks = (0..count).map(|i| {
            let (from, stride) = if i == 0 { (from, stride) } else { (to, 1) };
            self.block(from, planes, stride, norm, &vb.pp(i))
        });
        Ok(Stage::new(blocks.collect::<Result<_>>()?))
    }
}
