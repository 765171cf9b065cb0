//! The families and their sizes.

use std::fmt;

use crate::{CifarResNeXt, CifarResNet, Error, ResNeXtConfig, ResNet, Vgg, VggSize, WideResNet};

/// A family and its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// See [`CifarResNet`].
    CifarResNet {
        /// 6n + 2.
        depth: usize,
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
    /// See [`Vgg`].
    Vgg {
        /// One of [`Vgg::LAYERS`].
        layers: usize,
        /// Channels of the first stage.
        width: usize,
        /// For which images.
        size: VggSize,
    },
    /// See [`ResNet`].
    ResNet {
        /// One of [`ResNet::DEPTHS`].
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
            | Self::Vgg { size: VggSize::Cifar, .. } => 32,
            Self::Vgg { size: VggSize::ImageNet, .. } | Self::ResNet { .. } => 224,
        }
    }

    /// Whether the family has a member of these sizes.
    pub(crate) fn exists(&self) -> bool {
        let within = |size: usize, max| (1..=max).contains(&size);
        match *self {
            Self::CifarResNet { depth } => {
                within(depth, MAX_DEPTH) && CifarResNet::blocks(depth).is_some()
            }
            Self::WideResNet { depth, widen_factor } => {
                within(depth, MAX_DEPTH)
                    && within(widen_factor, MAX_WIDTH)
                    && WideResNet::blocks(depth).is_some()
            }
            Self::CifarResNeXt(ResNeXtConfig { depth, cardinality, base_width, widen_factor }) => {
                within(depth, MAX_DEPTH)
                    && within(cardinality, MAX_CARDINALITY)
                    && within(base_width, 64 * MAX_WIDTH)
                    && within(widen_factor, MAX_WIDTH)
                    && CifarResNeXt::blocks(depth).is_some()
            }
            Self::Vgg { layers, width, .. } => {
                Vgg::LAYERS.contains(&layers) && within(width, 64 * MAX_WIDTH)
            }
            Self::ResNet { depth } => ResNet::DEPTHS.contains(&depth),
        }
    }

    /// The error that says which sizes the family has.
    pub(crate) fn invalid(&self) -> Error {
        let reason = match self {
            Self::CifarResNet { .. } | Self::ResNet { .. } => format!(
                "ResNets for 32×32 images have depth 6n+2 (20, 32, 44, 56, 110, … up to {MAX_DEPTH}), \
                 for 224×224 images 18, 34, 50, 101 or 152"
            ),
            Self::WideResNet { .. } => format!(
                "Wide ResNets are wrn-D-K with depth D = 6n+4 (10, 16, 22, 28, 40, … up to \
                 {MAX_DEPTH}) and width K from 1 to {MAX_WIDTH}"
            ),
            Self::CifarResNeXt(_) => format!(
                "ResNeXts are resnextD-CxWd with depth D = 9n+2 (11, 20, 29, … up to {MAX_DEPTH}), \
                 cardinality C from 1 to {MAX_CARDINALITY} and width W from 1 to {}",
                64 * MAX_WIDTH
            ),
            Self::Vgg { .. } => format!(
                "VGGs have 11, 13, 16 or 19 layers and a width from 1 to {}",
                64 * MAX_WIDTH
            ),
        };
        Error::InvalidModel { name: self.to_string(), reason }
    }
}

/// The name under which the registry finds it.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Depths both families have belong to ImageNet's.
            Self::CifarResNet { depth } if ResNet::DEPTHS.contains(depth) => {
                write!(f, "cifar-resnet{depth}")
            }
            Self::CifarResNet { depth } | Self::ResNet { depth } => write!(f, "resnet{depth}"),
            Self::WideResNet { depth, widen_factor } => write!(f, "wrn-{depth}-{widen_factor}"),
            Self::CifarResNeXt(ResNeXtConfig { depth, cardinality, base_width, widen_factor }) => {
                write!(f, "resnext{depth}-{cardinality}x{base_width}d")?;
                match *widen_factor {
                    ResNeXtConfig::WIDEN_FACTOR => Ok(()),
                    other => write!(f, "-k{other}"),
                }
            }
            Self::Vgg { layers, width, size } => {
                let cifar = if *size == VggSize::Cifar { "cifar-" } else { "" };
                write!(f, "{cifar}vgg{layers}-bn")?;
                match *width {
                    Vgg::WIDTH => Ok(()),
                    other => write!(f, "-w{other}"),
                }
            }
        }
    }
}
