//! The families and their sizes.

use std::fmt;

use crate::{
    CifarDenseNet, CifarResNeXt, CifarResNet, DenseNet, Error, ResNeXtConfig, ResNet, ResNetConfig,
    Vgg, VggConfig, VggSize, WideResNet,
};

/// A family and its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// See [`CifarResNet`].
    CifarResNet {
        /// 6n + 2.
        depth: usize,
        /// Whether every block ends with squeeze-and-excitation.
        squeeze: bool,
    },
    /// See [`WideResNet`].
    WideResNet {
        /// 6n + 4.
        depth: usize,
        /// Widening factor (k).
        widen_factor: usize,
    },
    /// See [`CifarResNeXt`].
    CifarResNeXt(ResNeXtConfig),
    /// See [`CifarDenseNet`].
    CifarDenseNet {
        /// 6n + 4.
        depth: usize,
        /// Channels each layer adds (k).
        growth: usize,
    },
    /// See [`Vgg`].
    Vgg(VggConfig),
    /// See [`ResNet`]: also ResNeXt, Wide ResNet and SE-ResNet for ImageNet.
    ResNet(ResNetConfig),
    /// See [`DenseNet`].
    DenseNet {
        /// One of [`DenseNet::DEPTHS`].
        depth: usize,
    },
}

/// Beyond these nobody has gone, and memory would not last.
const MAX_DEPTH: usize = 2000;
const MAX_WIDTH: usize = 64;
const MAX_CARDINALITY: usize = 256;

impl Architecture {
    /// Side length of the images the network is made for.
    pub fn image_size(&self) -> usize {
        match self {
            Self::CifarResNet { .. }
            | Self::WideResNet { .. }
            | Self::CifarResNeXt(_)
            | Self::CifarDenseNet { .. }
            | Self::Vgg(VggConfig { size: VggSize::Cifar, .. }) => 32,
            Self::Vgg(VggConfig { size: VggSize::ImageNet, .. })
            | Self::ResNet(_)
            | Self::DenseNet { .. } => 224,
        }
    }

    /// Whether the family has a member of these sizes.
    pub(crate) fn exists(&self) -> bool {
        let within = |size: usize, max| (1..=max).contains(&size);
        let groups = |cardinality, base_width| {
            within(cardinality, MAX_CARDINALITY) && within(base_width, 64 * MAX_WIDTH)
        };
        match *self {
            Self::CifarResNet { depth, .. } => {
                within(depth, MAX_DEPTH) && CifarResNet::blocks(depth).is_some()
            }
            Self::WideResNet { depth, widen_factor } => {
                within(depth, MAX_DEPTH)
                    && within(widen_factor, MAX_WIDTH)
                    && WideResNet::blocks(depth).is_some()
            }
            Self::CifarResNeXt(ResNeXtConfig { depth, cardinality, base_width, widen_factor }) => {
                within(depth, MAX_DEPTH)
                    && groups(cardinality, base_width)
                    && within(widen_factor, MAX_WIDTH)
                    && CifarResNeXt::blocks(depth).is_some()
            }
            Self::CifarDenseNet { depth, growth } => {
                within(depth, MAX_DEPTH)
                    && within(growth, 4 * MAX_WIDTH)
                    && CifarDenseNet::layers(depth).is_some()
            }
            Self::Vgg(VggConfig { layers, width, .. }) => {
                Vgg::LAYERS.contains(&layers) && within(width, 64 * MAX_WIDTH)
            }
            Self::ResNet(config) => {
                let depths: &[usize] =
                    if config.is_plain() { &ResNet::DEPTHS } else { &ResNet::BOTTLENECK_DEPTHS };
                depths.contains(&config.depth) && groups(config.cardinality, config.base_width)
            }
            Self::DenseNet { depth } => DenseNet::DEPTHS.contains(&depth),
        }
    }

    /// The error that says which sizes the family has.
    pub(crate) fn invalid(&self) -> Error {
        let width = 64 * MAX_WIDTH;
        let reason = match self {
            Self::ResNet(ResNetConfig { squeeze: true, .. })
            | Self::CifarResNet { squeeze: true, .. } => format!(
                "SE-ResNets are cifar-se-resnetD with depth 6n+2 (20, 32, 56, … up to {MAX_DEPTH}) for 32×32 \
                 images, and se-resnetD with depth 18, 34, 50, 101 or 152 for 224×224 images"
            ),
            Self::ResNet(config) if config.cardinality == 1 && !config.is_plain() => format!(
                "Wide ResNets for 224×224 images are wide-resnetD-K with depth 50, 101 or 152 and \
                 width K from 1 to {MAX_WIDTH}"
            ),
            Self::CifarResNet { .. } | Self::ResNet(_) if !self.is_resnext() => format!(
                "ResNets for 32×32 images have depth 6n+2 (20, 32, 44, 56, 110, … up to {MAX_DEPTH}), \
                 for 224×224 images 18, 34, 50, 101 or 152"
            ),
            Self::CifarResNet { .. } | Self::ResNet(_) | Self::CifarResNeXt(_) => format!(
                "ResNeXts are resnextD-CxWd with depth D = 9n+2 (11, 20, 29, … up to {MAX_DEPTH}) for \
                 32×32 images and 50, 101 or 152 for 224×224 images, cardinality C from 1 to \
                 {MAX_CARDINALITY} and width W from 1 to {width}"
            ),
            Self::WideResNet { .. } => format!(
                "Wide ResNets are wrn-D-K with depth D = 6n+4 (10, 16, 22, 28, 40, … up to \
                 {MAX_DEPTH}) and width K from 1 to {MAX_WIDTH} for 32×32 images, and \
                 wide-resnet50-2 and its like for 224×224 images"
            ),
            Self::CifarDenseNet { .. } | Self::DenseNet { .. } => format!(
                "DenseNets for 32×32 images are densenetD-kG with depth D = 6n+4 (22, 40, 100, … up \
                 to {MAX_DEPTH}) and growth G from 1 to {}; for 224×224 images densenetD with depth \
                 121, 161, 169 or 201",
                4 * MAX_WIDTH
            ),
            Self::Vgg(_) => {
                format!("VGGs have 11, 13, 16 or 19 layers and a width from 1 to {width}")
            }
        };
        Error::InvalidModel { name: self.to_string(), reason }
    }

    /// Whether the bottlenecks' 3×3 convolutions have groups.
    fn is_resnext(&self) -> bool {
        matches!(self, Self::CifarResNeXt(_))
            || matches!(self, Self::ResNet(config) if config.cardinality != 1)
    }
}

/// The name under which the registry finds it.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Depths that both image sizes have belong to ImageNet's.
        let prefix = |depth| if ResNet::DEPTHS.contains(depth) { "cifar-" } else { "" };
        match self {
            Self::CifarResNet { depth, squeeze: true } => write!(f, "cifar-se-resnet{depth}"),
            Self::CifarResNet { depth, squeeze: false } => {
                write!(f, "{}resnet{depth}", prefix(depth))
            }
            Self::WideResNet { depth, widen_factor } => write!(f, "wrn-{depth}-{widen_factor}"),
            Self::CifarResNeXt(ResNeXtConfig { depth, cardinality, base_width, widen_factor }) => {
                write!(f, "{}resnext{depth}-{cardinality}x{base_width}d", prefix(depth))?;
                match *widen_factor {
                    ResNeXtConfig::WIDEN_FACTOR => Ok(()),
                    other => write!(f, "-k{other}"),
                }
            }
            Self::CifarDenseNet { depth, growth } => write!(f, "densenet{depth}-k{growth}"),
            Self::Vgg(VggConfig { layers, width, size, batch_norm }) => {
                let cifar = if *size == VggSize::Cifar { "cifar-" } else { "" };
                let norm = if *batch_norm { "-bn" } else { "" };
                write!(f, "{cifar}vgg{layers}{norm}")?;
                match *width {
                    Vgg::WIDTH => Ok(()),
                    other => write!(f, "-w{other}"),
                }
            }
            Self::ResNet(config) => {
                let ResNetConfig { depth, cardinality, base_width, squeeze } = *config;
                f.write_str(if squeeze { "se-" } else { "" })?;
                if config.is_plain() {
                    write!(f, "resnet{depth}")
                } else if cardinality == 1 && base_width.is_multiple_of(ResNetConfig::BASE_WIDTH) {
                    write!(f, "wide-resnet{depth}-{}", base_width / ResNetConfig::BASE_WIDTH)
                } else {
                    write!(f, "resnext{depth}-{cardinality}x{base_width}d")
                }
            }
            Self::DenseNet { depth } => write!(f, "densenet{depth}"),
        }
    }
}
