//! DenseNet-BC: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional
//! Networks". Dense blocks and transitions, and the network for ImageNet as torchvision has it.

use abn_core::layers::{
    BatchNorm2d, BatchNormConfig, Conv2d, ConvNorm, Dropout, LinearInit, conv1x1, conv3x3,
};
use abn_core::{Backbone, Error, Mode, Result, observe};
use abn_ops::{Conv2dConfig, Pool2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::head::MeanLinear;
use crate::residual::conv_norm;
use crate::{Architecture, BackboneOptions};

/// A dense layer's 1×1 convolution gives so many times the growth.
const BOTTLENECK: usize = 4;

/// Batch norm, ReLU, 1×1 convolution, batch norm, ReLU, 3×3 convolution to as many channels as the
/// block grows by (k), dropout.
struct DenseLayer {
    norm1: BatchNorm2d,
    /// With the batch norm that follows it.
    conv1: ConvNorm,
    conv2: Conv2d,
    dropout: Dropout,
}

/// Names of a dense layer's parts, which differ between the authors' code and torchvision's.
#[derive(Clone, Copy)]
pub(crate) struct LayerNames {
    /// The path of the i-th layer, from 0.
    pub(crate) layer: fn(usize) -> String,
    pub(crate) norms: [&'static str; 2],
}

/// Layers that each see what all before them gave, and the block's input.
pub(crate) struct DenseBlock {
    name: String,
    layers: Vec<DenseLayer>,
}

impl DenseBlock {
    /// From `from` to `from` + `count`·`growth` channels.
    pub(crate) fn new(
        count: usize,
        from: usize,
        growth: usize,
        names: LayerNames,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let layer = |i: usize| {
            let vb = vb.pp((names.layer)(i));
            let ([norm1, norm2], norm) = (names.norms, options.norm);
            let (from, width) = (from + i * growth, BOTTLENECK * growth);
            Ok(DenseLayer {
                norm1: BatchNorm2d::new(from, norm, vb.pp(norm1))?,
                conv1: conv_norm(
                    conv1x1(from, width, 1, vb.pp("conv1"))?,
                    width,
                    norm,
                    vb.pp(norm2),
                )?,
                conv2: conv3x3(width, growth, 1, vb.pp("conv2"))?,
                dropout: Dropout::new(options.dropout, &vb),
            })
        };
        Ok(Self { name: vb.prefix(), layers: (0..count).map(layer).collect::<Result<_>>()? })
    }

    pub(crate) fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = x.clone();
        for DenseLayer { norm1, conv1, conv2, dropout } in &self.layers {
            let y = conv1.forward(&norm1.forward(&x, None, true, mode)?, None, true, mode)?;
            let y = dropout.forward(&conv2.forward(&y)?, mode)?;
            x = abn_ops::concat(&[&x, &y])?;
        }
        Ok(observe::offer(&self.name, x))
    }
}

/// Batch norm, ReLU and 1×1 convolution to fewer channels. The pooling that follows is apart.
pub(crate) struct Transition {
    norm: BatchNorm2d,
    conv: Conv2d,
}

impl Transition {
    pub(crate) fn new(
        from: usize,
        to: usize,
        norm: BatchNormConfig,
        [norm_name, conv_name]: [&str; 2],
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            norm: BatchNorm2d::new(from, norm, vb.pp(norm_name))?,
            conv: conv1x1(from, to, 1, vb.pp(conv_name))?,
        })
    }

    pub(crate) fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        self.conv.forward(&self.norm.forward(x, None, true, mode)?)
    }
}

/// The mean of 2×2 pixels.
pub(crate) fn halve(x: &Tracked) -> Result<Tracked> {
    Ok(abn_ops::avg_pool2d(x, &Pool2dConfig { kernel: 2, stride: 2, padding: 0 })?)
}

/// DenseNet-BC for 224×224 images: four dense blocks, each transition halving channels and size.
///
/// The authors of ABN released none. As in their ResNets, the feature map that attention weights
/// is 14×14: the extractor ends before the last transition's pooling. The trunk is the last dense
/// block again (`att_denseblock4`), without that pooling.
///
/// Convolutions start as everywhere here, by their fan out; torchvision's DenseNets by their fan in.
pub struct DenseNet {
    stem: ConvNorm,
    /// Dense blocks and their transitions, all but the last.
    stages: Vec<(DenseBlock, Transition)>,
    trunk: Option<DenseBlock>,
    last: DenseBlock,
    norm5: BatchNorm2d,
    classifier: MeanLinear,
}

impl DenseNet {
    /// The depths there are.
    pub const DEPTHS: [usize; 4] = [121, 161, 169, 201];

    /// Growth, channels of the stem and layers per block; `None` for other depths.
    fn sizes(depth: usize) -> Option<(usize, usize, [usize; 4])> {
        Some(match depth {
            121 => (32, 64, [6, 12, 24, 16]),
            161 => (48, 96, [6, 12, 36, 24]),
            169 => (32, 64, [6, 12, 32, 32]),
            201 => (32, 64, [6, 12, 48, 32]),
            _ => return None,
        })
    }

    /// A network of one of the [`DenseNet::DEPTHS`].
    ///
    /// # Errors
    /// If the depth is another, or the store holds a parameter of the same name with another
    /// shape.
    pub fn new(depth: usize, options: &BackboneOptions, vb: VarBuilder) -> crate::Result<Self> {
        let invalid = || Architecture::DenseNet { depth }.invalid();
        let (growth, stem, counts) = Self::sizes(depth).ok_or_else(invalid)?;
        Ok(Self::with_blocks(growth, stem, counts, options, vb)?)
    }

    fn with_blocks(
        growth: usize,
        stem: usize,
        counts: [usize; 4],
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let names =
            LayerNames { layer: |i| format!("denselayer{}", i + 1), norms: ["norm1", "norm2"] };
        let block = |count, from, vb| DenseBlock::new(count, from, growth, names, options, vb);
        let features = vb.pp("features");
        let conv = Conv2dConfig { stride: 2, padding: 3, ..Default::default() };
        let conv = Conv2d::new(3, stem, 7, conv, features.pp("conv0"))?;
        let [early @ .., last] = counts;
        let (mut stages, mut channels) = (Vec::new(), stem);
        for (i, count) in early.into_iter().enumerate() {
            let dense = block(count, channels, features.pp(format!("denseblock{}", i + 1)))?;
            let (from, vb) =
                (channels + count * growth, features.pp(format!("transition{}", i + 1)));
            channels = from / 2;
            let transition = Transition::new(from, channels, options.norm, ["norm", "conv"], vb)?;
            stages.push((dense, transition));
        }
        let trunk = || block(last, channels, vb.pp("att_denseblock4"));
        let end = channels + last * growth;
        let classifier = vb.pp("classifier");
        Ok(Self {
            stem: conv_norm(conv, stem, options.norm, features.pp("norm0"))?,
            stages,
            trunk: options.attention.then(trunk).transpose()?,
            last: block(last, channels, features.pp("denseblock4"))?,
            norm5: BatchNorm2d::new(end, options.norm, features.pp("norm5"))?,
            classifier: MeanLinear::new(end, LinearInit::UniformZeroBias, options, classifier)?,
        })
    }
}

impl Backbone for DenseNet {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = self.stem.forward(&abn_ops::to_channels_last(image)?, None, true, mode)?;
        let mut x = abn_ops::max_pool2d(&x, &Pool2dConfig { kernel: 3, stride: 2, padding: 1 })?;
        for (i, (block, transition)) in self.stages.iter().enumerate() {
            if i > 0 {
                x = halve(&x)?;
            }
            x = transition.forward(&block.forward(&x, mode)?, mode)?;
        }
        Ok(x)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.trunk.as_ref().ok_or(Error::NoTrunk)?.forward(feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        self.norm5.forward(&self.last.forward(&halve(feature)?, mode)?, None, true, mode)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.classifier.forward(last)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.trunk.as_ref().map(|_| self.classifier.channels())
    }

    fn last_channels(&self) -> usize {
        self.classifier.channels()
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.classifier.weight()
    }
}
