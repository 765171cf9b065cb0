//! Wide ResNet: Zagoruyko and Komodakis, "Wide Residual Networks", table 1.

use abn_core::layers::{BatchNorm2d, Conv2d, ConvNorm, Dropout, LinearInit, conv1x1, conv3x3};
use abn_core::{Backbone, Error, Mode, Result, observe};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::conv_norm;
use crate::{Architecture, BackboneOptions};

/// Three stages of n pre-activation blocks with 16k, 32k and 64k channels; depth 6n + 4.
pub struct WideResNet {
    conv1: Conv2d,
    block1: Stage,
    block2: Stage,
    /// The last stage again, at stride 1.
    att_block3: Option<Stage>,
    block3: Stage,
    bn1: BatchNorm2d,
    fc: MeanLinear,
}

impl WideResNet {
    /// Blocks per stage (n) at that depth; `None` if it is not 6n + 4.
    pub(crate) fn blocks(depth: usize) -> Option<usize> {
        crate::blocks(depth, 6, 4)
    }

    /// A network of depth 6n + 4 and widening factor k.
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(
        depth: usize,
        k: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let architecture = Architecture::WideResNet { depth, widen_factor: k };
        let n = Self::blocks(depth).ok_or_else(|| architecture.invalid())?;
        Ok(Self::with_blocks(n, k, options, vb)?)
    }

    fn with_blocks(n: usize, k: usize, options: &BackboneOptions, vb: VarBuilder) -> Result<Self> {
        let stage = |from, to, stride, name: &str| {
            Stage::new(n, from, to, stride, options, vb.pp(name).pp("layer"))
        };
        let [c1, c2, c3] = [16 * k, 32 * k, 64 * k];
        Ok(Self {
            conv1: conv3x3(3, 16, 1, vb.pp("conv1"))?,
            block1: stage(16, c1, 1, "block1")?,
            block2: stage(c1, c2, 2, "block2")?,
            att_block3: options.attention.then(|| stage(c2, c3, 1, "att_block3")).transpose()?,
            block3: stage(c2, c3, 2, "block3")?,
            bn1: BatchNorm2d::new(c3, options.norm, vb.pp("bn1"))?,
            fc: MeanLinear::new(c3, LinearInit::UniformZeroBias, options, vb.pp("fc"))?,
        })
    }
}

impl Backbone for WideResNet {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = self.conv1.forward(&abn_ops::to_channels_last(image)?)?;
        let x = self.block1.forward(&x, mode)?;
        self.block2.forward(&x, mode)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.att_block3.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.bn1.forward(&self.block3.forward(feature, mode)?, None, true, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.fc.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.att_block3.as_ref().map(|_| self.fc.channels())
    }

    fn last_channels(&self) -> usize {
        self.fc.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.fc.weight()
    }
}

struct Stage {
    name: String,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(
        count: usize,
        from: usize,
        to: usize,
        stride: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let blocks = (0..count).map(|i| {
            let (from, stride) = if i == 0 { (from, stride) } else { (to, 1) };
            Block::new(from, to, stride, options, vb.pp(i))
        });
        Ok(Self { name: vb.prefix(), blocks: blocks.collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        Ok(observe::offer(&self.name, x))
    }
}

/// Batch norm, ReLU, 3×3 convolution, twice, with dropout before the second convolution.
struct Block {
    name: String,
    bn1: BatchNorm2d,
    /// `conv1` and `bn2`.
    conv1: ConvNorm,
    dropout: Dropout,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn new(
        from: usize,
        to: usize,
        stride: usize,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let shortcut = || conv1x1(from, to, stride, vb.pp("convShortcut"));
        Ok(Self {
            name: vb.prefix(),
            bn1: BatchNorm2d::new(from, options.norm, vb.pp("bn1"))?,
            conv1: conv_norm(
                conv3x3(from, to, stride, vb.pp("conv1"))?,
                to,
                options.norm,
                vb.pp("bn2"),
            )?,
            dropout: Dropout::new(options.dropout, &vb),
            conv2: conv3x3(to, to, 1, vb.pp("conv2"))?,
            shortcut: (from != to).then(shortcut).transpose()?,
        })
    }

    fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let active = self.bn1.forward(x, None, true, mode)?;
        let y = self.conv1.forward(&active, None, true, mode)?;
        let y = self.conv2.forward(&self.dropout.forward(&y, mode)?)?;
        // A projection sees the activated input, an identity the raw one.
        let sum = match &self.shortcut {
            Some(shortcut) => abn_ops::add(&shortcut.forward(&active)?, &y)?,
            None => abn_ops::add(x, &y)?,
        };
        Ok(observe::offer(&self.name, sum))
    }
}
