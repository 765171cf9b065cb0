//! VGG, with and without batch norm: Simonyan and Zisserman, "Very Deep Convolutional Networks",
//! table 1, with torchvision's parameter names.

use abn_core::layers::{BatchNormConfig, Conv2d, ConvNorm, Dropout, Linear, LinearInit, conv3x3};
use abn_core::{Backbone, Error, Mode, Result, observe};
use abn_ops::{Pool2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::residual::conv_norm;
use crate::{Architecture, BackboneOptions, Top};

/// Channels of the five stages, in multiples of the first's.
const WIDENING: [usize; 5] = [1, 2, 4, 8, 8];

/// What images a VGG is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VggSize {
    /// 32×32: two fully connected layers of 512 (at the usual width).
    Cifar,
    /// 224×224: torchvision's, two fully connected layers of 4096 on 7×7 features.
    ImageNet,
}

impl VggSize {
    /// Side length of the feature map the fully connected layers see.
    fn pooled(self) -> usize {
        match self {
            Self::Cifar => 1,
            Self::ImageNet => 7,
        }
    }

    /// Width of the hidden fully connected layers, in multiples of the first stage's channels.
    fn hidden(self) -> usize {
        match self {
            Self::Cifar => 8,
            Self::ImageNet => 64,
        }
    }

    fn init(self) -> LinearInit {
        match self {
            Self::Cifar => LinearInit::HeNormal,
            Self::ImageNet => LinearInit::Normal(0.01),
        }
    }

    /// Stages of the feature extractor. At 224×224 these are all of them, so that the map is
    /// 14×14 (DESIGN: "up to but without the last max-pool"). At 32×32 that would leave 2×2,
    /// too coarse to show anything: there the extractor ends two stages earlier, with 8×8.
    fn extractor(self) -> usize {
        match self {
            Self::Cifar => 3,
            Self::ImageNet => 5,
        }
    }
}

/// The sizes of a VGG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VggConfig {
    /// One of [`Vgg::LAYERS`].
    pub layers: usize,
    /// Channels of the first stage, [`Vgg::WIDTH`] as published; those of all other layers are in
    /// proportion.
    pub width: usize,
    /// For which images.
    pub size: VggSize,
    /// Whether batch norm follows every convolution. It is younger than VGG.
    pub batch_norm: bool,
}

/// Five stages of 3×3 convolutions, each followed by a max-pool, then three fully connected
/// layers.
///
/// The authors released no VGG code. After the paper's description the attention branch has 3×3
/// convolutions with batch norm and ReLU in place of the two hidden fully connected layers
/// (`att_layer.0` to `.4`), as wide as the feature map; with batch norm in every VGG, as the rest of
/// the branch has it.
pub struct Vgg {
    /// The convolutions of each stage.
    stages: Vec<Vec<Layer>>,
    trunk: Option<Vec<Layer>>,
    classifier: Option<Classifier>,
    size: VggSize,
    /// Channels of the extractor's feature map.
    channels: usize,
    last_channels: usize,
}

impl Vgg {
    /// Channels of the first stage, as published.
    pub const WIDTH: usize = 64;

    /// Number of layers with weights there are.
    pub const LAYERS: [usize; 4] = [11, 13, 16, 19];

    /// Convolutions in each stage; `None` for other numbers of layers.
    fn counts(layers: usize) -> Option<[usize; 5]> {
        Some(match layers {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => return None,
        })
    }

    /// A network of these sizes.
    ///
    /// # Errors
    /// If there is none of these sizes, or the store holds a parameter of the same name with
    /// another shape.
    pub fn new(
        config: VggConfig,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> crate::Result<Self> {
        let invalid = || Architecture::Vgg(config).invalid();
        let counts = Self::counts(config.layers).ok_or_else(invalid)?;
        Ok(Self::with_stages(counts, config, options, vb)?)
    }

    fn with_stages(
        counts: [usize; 5],
        VggConfig { width, size, batch_norm, .. }: VggConfig,
        options: &BackboneOptions,
        vb: VarBuilder,
    ) -> Result<Self> {
        let features = Sequence { norm: batch_norm.then_some(options.norm), vb: vb.pp("features") };
        let mut stages = Vec::new();
        // torchvision numbers convolution, batch norm, ReLU and max-pool in one sequence.
        let (mut index, mut from) = (0, 3);
        for (count, widening) in counts.into_iter().zip(WIDENING) {
            let mut stage = Vec::new();
            let to = width * widening;
            for _ in 0..count {
                stage.push(features.layer(from, to, index)?);
                index += features.step();
                from = to;
            }
            index += 1;
            stages.push(stage);
        }
        let channels = width * WIDENING[size.extractor() - 1];
        let trunk = || {
            let sequence = Sequence { norm: Some(options.norm), vb: vb.pp("att_layer") };
            let layer = |i| sequence.layer(channels, channels, i * sequence.step());
            (0..2).map(layer).collect::<Result<_>>()
        };
        let classifier = || Classifier::new(width, size, options, vb.pp("classifier"));
        Ok(Self {
            stages,
            trunk: options.attention.then(trunk).transpose()?,
            classifier: (options.top != Top::None).then(classifier).transpose()?,
            size,
            channels,
            last_channels: from,
        })
    }
}

/// `ReLU(norm?(conv(x)))`
struct Layer {
    /// Of the ReLU, in the sequence.
    name: String,
    conv: Convolution,
}

enum Convolution {
    Plain(Conv2d),
    Normed(ConvNorm),
}

impl Layer {
    fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let y = match &self.conv {
            Convolution::Plain(conv) => abn_ops::relu(&conv.forward(x)?)?,
            Convolution::Normed(conv) => conv.forward(x, None, true, mode)?,
        };
        Ok(observe::offer(&self.name, y))
    }
}

/// Layers numbered as PyTorch numbers a sequence.
struct Sequence<'a> {
    norm: Option<BatchNormConfig>,
    vb: VarBuilder<'a>,
}

impl Sequence<'_> {
    /// `index` is the convolution, which has a bias; then comes the batch norm, if there is one,
    /// then ReLU.
    fn layer(&self, from: usize, to: usize, index: usize) -> Result<Layer> {
        let conv = conv3x3(from, to, 1, self.vb.pp(index))?.with_bias(self.vb.pp(index))?;
        let conv = match self.norm {
            Some(norm) => Convolution::Normed(conv_norm(conv, to, norm, self.vb.pp(index + 1))?),
            None => Convolution::Plain(conv),
        };
        let name = self.vb.pp(index + self.step() - 1).prefix();
        Ok(Layer { name, conv })
    }

    /// From one convolution to the next.
    fn step(&self) -> usize {
        if self.norm.is_some() { 3 } else { 2 }
    }
}

fn run(layers: &[Layer], x: &Tracked, mode: Mode) -> Result<Tracked> {
    let mut x = x.clone();
    for layer in layers {
        x = layer.forward(&x, mode)?;
    }
    Ok(x)
}

fn halve(x: &Tracked) -> Result<Tracked> {
    Ok(abn_ops::max_pool2d(x, &Pool2dConfig { kernel: 2, stride: 2, padding: 0 })?)
}

impl Backbone for Vgg {
    fn extract(&self, image: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = abn_ops::to_channels_last(image)?;
        for (i, stage) in self.stages[..self.size.extractor()].iter().enumerate() {
            if i > 0 {
                x = halve(&x)?;
            }
            x = run(stage, &x, mode)?;
        }
        Ok(x)
    }

    fn attention_trunk(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        run(self.trunk.as_ref().ok_or(Error::NoTrunk)?, feature, mode)
    }

    fn deepen(&self, feature: &Tracked, mode: Mode) -> Result<Tracked> {
        let mut x = feature.clone();
        for stage in &self.stages[self.size.extractor()..] {
            x = run(stage, &halve(&x)?, mode)?;
        }
        Ok(x)
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        let last_layer = self.classifier.as_ref().and_then(|c| c.last.as_ref());
        last_layer.ok_or(Error::NoClassifier)?.forward(&self.embed(last, mode)?)
    }

    fn embed(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        self.classifier.as_ref().ok_or(Error::NoClassifier)?.embed(&halve(last)?, mode)
    }

    fn embedded(&self) -> usize {
        self.classifier.as_ref().map_or(self.last_channels, |c| c.width)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.trunk.as_ref().map(|_| self.channels)
    }

    fn last_channels(&self) -> usize {
        self.last_channels
    }

    /// Between the last feature map and the scores lie three layers.
    fn class_weights(&self) -> Option<&Tensor> {
        None
    }
}

/// The fully connected layers: `0`, `3` and `6` in torchvision's numbering, with ReLU and dropout
/// after the first two.
struct Classifier {
    pooled: usize,
    hidden: [(Linear, Dropout); 2],
    /// Channels of the hidden layers.
    width: usize,
    /// Not there in a network that is built without.
    last: Option<Linear>,
}

impl Classifier {
    fn new(width: usize, size: VggSize, options: &BackboneOptions, vb: VarBuilder) -> Result<Self> {
        let (pooled, init) = (size.pooled(), size.init());
        let features = width * WIDENING[4] * pooled * pooled;
        let width = width * size.hidden();
        let hidden = |inputs, index: usize| {
            let linear = Linear::new(inputs, width, init, vb.pp(index))?;
            Ok::<_, Error>((linear, Dropout::new(options.dropout, &vb.pp(index + 2))))
        };
        let last = || Linear::new(width, options.classes, init, vb.pp(6));
        Ok(Self {
            pooled,
            hidden: [hidden(features, 0)?, hidden(width, 3)?],
            width,
            last: (options.top == Top::Full).then(last).transpose()?,
        })
    }

    /// Up to but without the last layer.
    fn embed(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let x = abn_ops::adaptive_avg_pool2d(x, [self.pooled, self.pooled])?;
        // PyTorch flattens (C, H, W), so that order must be restored first.
        let x = abn_ops::to_channels_first(&x)?;
        let (n, features) = (x.dims()[0], x.dims()[1..].iter().product::<usize>());
        let mut x = abn_ops::reshape(&x, (n, features))?;
        for (linear, dropout) in &self.hidden {
            x = dropout.forward(&abn_ops::relu(&linear.forward(&x)?)?, mode)?;
        }
        Ok(x)
    }
}
