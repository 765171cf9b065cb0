//! The networks of the paper's tables as backbones of Attention Branch Networks, and their names.
//!
//! [`find`] turns a name into a [`ModelSpec`], which builds the network in any [`Variant`];
//! [`catalogue`] lists the well-known members. Parameter names are those of the
//! authors' released code (CIFAR networks, ImageNet ResNet and SE-ResNet) and of torchvision (VGG,
//! DenseNet, baselines).

mod architecture;
mod cifar_densenet;
mod cifar_resnet;
mod cifar_resnext;
mod densenet;
mod error;
mod head;
mod registry;
mod residual;
mod resnet;
mod spec;
mod squeeze;
#[cfg(test)]
mod tests;
mod variant;
mod vgg;
mod wide_resnet;

pub use architecture::Architecture;
pub use cifar_densenet::CifarDenseNet;
pub use cifar_resnet::CifarResNet;
pub use cifar_resnext::{CifarResNeXt, ResNeXtConfig};
pub use densenet::DenseNet;
pub use error::{Error, Result};
pub use registry::{catalogue, find};
pub use resnet::{ResNet, ResNetConfig};
pub use spec::{BuildOptions, Cost, ModelSpec};
pub use variant::Variant;
pub use vgg::{Vgg, VggConfig, VggSize};
pub use wide_resnet::WideResNet;

use abn_core::layers::BatchNormConfig;

/// What every backbone is told besides its own architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackboneOptions {
    /// Number of classes (K).
    pub classes: usize,
    /// Whether to build the trunk of an attention branch.
    pub attention: bool,
    /// Which fully connected layers to build.
    pub top: Top,
    /// For all batch norm layers.
    pub norm: BatchNormConfig,
    /// Probability, in the families that have dropout.
    pub dropout: f64,
}

/// Fully connected layers at the end of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// None: the model ends otherwise.
    None,
    /// The hidden ones (VGG's), for a model with last layers of its own: [`abn_core::Backbone::embed`].
    Hidden,
    /// All: [`abn_core::Backbone::classify`].
    Full,
}

/// Blocks per stage of a network whose depth is `layers`·n + `rest` with n at least 1.
fn blocks(depth: usize, layers: usize, rest: usize) -> Option<usize> {
    let n = depth.checked_sub(rest)? / layers;
    (n > 0 && depth == layers * n + rest).then_some(n)
}
