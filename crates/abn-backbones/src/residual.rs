//! Residual blocks and the stages made of them.

use abn_core::layers::{BatchNorm2d, BatchNormConfig, Conv2d, ConvNorm, conv1x1, conv3x3};
use abn_core::{Mode, Result, observe};
use abn_ops::{Conv2dConfig, Tracked};
use candle_nn::VarBuilder;

use crate::squeeze::Squeeze;

/// `ReLU(branch(x) + shortcut(x))`: the branch is a chain of convolutions with batch norm, all but
/// the last with ReLU, and perhaps squeeze-and-excitation after them; the shortcut is x itself or
/// a 1×1 convolution with batch norm.
pub(crate) struct ResidualBlock {
    name: String,
    branch: Vec<ConvNorm>,
    squeeze: Option<Squeeze>,
    shortcut: Option<ConvNorm>,
}

impl ResidualBlock {
    /// A block of that full name.
    pub(crate) fn new(name: String, branch: Vec<ConvNorm>, shortcut: Option<ConvNorm>) -> Self {
        Self { name, branch, squeeze: None, shortcut }
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
            y = match &self.squeeze {
                Some(squeeze) if last => {
                    let y = layer.forward(&y, None, false, mode)?;
                    abn_ops::excite(&y, &squeeze.forward(&y)?, shortcut)?
                }
                _ => layer.forward(&y, last.then_some(shortcut), true, mode)?,
            };
        }
        Ok(observe::offer(&self.name, y))
    }
}

/// Residual blocks one after the other.
pub(crate) struct Stage {
    name: String,
    blocks: Vec<ResidualBlock>,
}

impl Stage {
    /// A stage of that full name.
    pub(crate) fn new(name: String, blocks: Vec<ResidualBlock>) -> Self {
        Self { name, blocks }
    }

    pub(crate) fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        Ok(observe::offer(&self.name, x))
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
    /// 1×1 to fewer channels, 3×3, 1×1 to 4·`planes` channels. The 3×3 one carries the stride.
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
}

/// What the residual blocks of a network have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub(crate) kind: BlockKind,
    /// Groups of a bottleneck's 3×3 convolution.
    pub(crate) groups: usize,
    /// Channels of each of these groups for 64 planes.
    pub(crate) base_width: usize,
    /// Whether blocks end with squeeze-and-excitation.
    pub(crate) squeeze: bool,
    pub(crate) norm: BatchNormConfig,
}

impl Blocks {
    /// Those of a ResNet: a bottleneck's 3×3 convolution has one group, as wide as the planes.
    pub(crate) fn plain(kind: BlockKind, norm: BatchNormConfig) -> Self {
        Self { kind, groups: 1, base_width: 64, squeeze: false, norm }
    }

    fn block(
        self,
        from: usize,
        planes: usize,
        stride: usize,
        vb: &VarBuilder,
    ) -> Result<ResidualBlock> {
        let Self { groups, norm, .. } = self;
        let to = self.kind.channels(planes);
        let bn = |conv, channels, name| conv_norm(conv, channels, norm, vb.pp(name));
        let branch = match self.kind {
            BlockKind::Basic => vec![
                bn(conv3x3(from, planes, stride, vb.pp("conv1"))?, planes, "bn1")?,
                bn(conv3x3(planes, planes, 1, vb.pp("conv2"))?, planes, "bn2")?,
            ],
            BlockKind::Bottleneck => {
                let width = planes * self.base_width / 64 * groups;
                let grouped = Conv2dConfig { stride, padding: 1, groups, ..Default::default() };
                let middle = Conv2d::new(width, width, 3, grouped, vb.pp("conv2"))?;
                vec![
                    bn(conv1x1(from, width, 1, vb.pp("conv1"))?, width, "bn1")?,
                    bn(middle, width, "bn2")?,
                    bn(conv1x1(width, to, 1, vb.pp("conv3"))?, to, "bn3")?,
                ]
            }
        };
        let squeeze = self.squeeze.then(|| Squeeze::new(to, vb)).transpose()?;
        let shortcut = if stride != 1 || from != to {
            let conv = conv1x1(from, to, stride, vb.pp("downsample.0"))?;
            Some(bn(conv, to, "downsample.1")?)
        } else {
            None
        };
        Ok(ResidualBlock { name: vb.prefix(), branch, squeeze, shortcut })
    }

    /// `count` blocks (`0`, `1`, …), of which the first may change the channels and the size.
    pub(crate) fn stage(
        self,
        count: usize,
        from: usize,
        planes: usize,
        stride: usize,
        vb: VarBuilder,
    ) -> Result<Stage> {
        let to = self.kind.channels(planes);
        let blocks = (0..count).map(|i| {
            let (from, stride) = if i == 0 { (from, stride) } else { (to, 1) };
            self.block(from, planes, stride, &vb.pp(i))
        });
        Ok(Stage::new(vb.prefix(), blocks.collect::<Result<_>>()?))
    }
}
