//! Models by name.

use crate::{
    Architecture, Error, ModelSpec, ResNeXtConfig, ResNet, ResNetConfig, Result, Vgg, VggConfig,
    VggSize,
};

/// The members of each family that people know. [`find`] knows every other size too.
const LISTED: [&str; 52] = [
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "cifar-se-resnet20",
    "cifar-se-resnet110",
    "wrn-10-1",
    "wrn-16-2",
    "wrn-16-4",
    "wrn-28-10",
    "wrn-40-4",
    "resnext29-2x64d",
    "resnext29-8x64d",
    "densenet40-k12",
    "densenet100-k12",
    "densenet190-k40",
    "cifar-vgg11",
    "cifar-vgg13",
    "cifar-vgg16",
    "cifar-vgg19",
    "cifar-vgg11-bn",
    "cifar-vgg13-bn",
    "cifar-vgg16-bn",
    "cifar-vgg19-bn",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50-32x4d",
    "resnext101-32x8d",
    "resnext101-64x4d",
    "wide-resnet50-2",
    "wide-resnet101-2",
    "se-resnet18",
    "se-resnet34",
    "se-resnet50",
    "se-resnet101",
    "se-resnet152",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11-bn",
    "vgg13-bn",
    "vgg16-bn",
    "vgg19-bn",
];

/// The well-known members of each family, those for 32×32 images first.
pub fn catalogue() -> Vec<ModelSpec> {
    LISTED.iter().filter_map(|name| find(name).ok()).collect()
}

/// The model of that name; capitals and `_` for `-` are forgiven.
///
/// For 32×32 images `resnetD` (D = 6n+2), `wrn-D-K`, `resnextD-CxWd` (D = 9n+2; `…-kF` for a widening
/// factor other than 4), `densenetD-kG`, `cifar-se-resnetD`, `cifar-vggL` and `cifar-vggL-bn` (`…-wW` for a first stage of
/// other than 64 channels); for 224×224 images `resnetD`, `resnextD-CxWd`, `wide-resnetD-K`, each also
/// with `se-` before it, `densenetD`, `vggL` and `vggL-bn`. A depth that both have is ImageNet's, unless
/// `cifar-` is before the name.
///
/// # Errors
/// [`Error::UnknownModel`] with the nearest names, or [`Error::InvalidModel`] if the family has no
/// member of that size.
pub fn find(name: &str) -> Result<ModelSpec> {
    let canonical = name.to_ascii_lowercase().replace('_', "-");
    let Some(architecture) = parse(&canonical) else {
        return Err(Error::UnknownModel { name: name.to_owned(), nearest: nearest(&canonical) });
    };
    ModelSpec::new(architecture).map_err(|error| match error {
        Error::InvalidModel { reason, .. } => Error::InvalidModel { name: name.to_owned(), reason },
        error => error,
    })
}

/// Reads a name's family and numbers, without asking whether there is such a member.
fn parse(name: &str) -> Option<Architecture> {
    if let Some(sizes) = name.strip_prefix("wrn-") {
        let (depth, width) = sizes.split_once('-')?;
        let (depth, widen_factor) = (number(depth)?, number(width)?);
        return Some(Architecture::WideResNet { depth, widen_factor });
    }
    if let Some(sizes) = name.strip_prefix("densenet") {
        return match sizes.split_once("-k") {
            Some((depth, growth)) => {
                Some(Architecture::CifarDenseNet { depth: number(depth)?, growth: number(growth)? })
            }
            None => Some(Architecture::DenseNet { depth: number(sizes)? }),
        };
    }
    let (cifar, member) = match name.strip_prefix("cifar-") {
        Some(member) => (true, member),
        None => (false, name),
    };
    if let Some(layers) = member.strip_prefix("vgg") {
        return parse_vgg(layers, if cifar { VggSize::Cifar } else { VggSize::ImageNet });
    }
    if let Some(config) = parse_resnet(name) {
        return Some(Architecture::ResNet(config));
    }
    if let Some(sizes) = member.strip_prefix("resnext") {
        let (depth, sizes) = sizes.split_once('-')?;
        let (sizes, widen_factor) = match sizes.split_once("d-k") {
            Some((sizes, factor)) => (sizes, number(factor)?),
            None => (sizes.strip_suffix('d')?, ResNeXtConfig::WIDEN_FACTOR),
        };
        let (cardinality, width) = sizes.split_once('x')?;
        return Some(Architecture::CifarResNeXt(ResNeXtConfig {
            depth: number(depth)?,
            cardinality: number(cardinality)?,
            base_width: number(width)?,
            widen_factor,
        }));
    }
    let (squeeze, member) = match member.strip_prefix("se-") {
        Some(member) => (true, member),
        None => (false, member),
    };
    let depth = number(member.strip_prefix("resnet")?)?;
    Some(Architecture::CifarResNet { depth, squeeze })
}

/// What follows `vgg`: `16`, `16-bn`, `16-w32`, `16-bn-w32`.
fn parse_vgg(layers: &str, size: VggSize) -> Option<Architecture> {
    let (layers, width) = match layers.split_once("-w") {
        Some((layers, width)) => (layers, number(width)?),
        None => (layers, Vgg::WIDTH),
    };
    let (layers, batch_norm) = match layers.strip_suffix("-bn") {
        Some(layers) => (layers, true),
        None => (layers, false),
    };
    Some(Architecture::Vgg(VggConfig { layers: number(layers)?, width, size, batch_norm }))
}

/// The residual networks for ImageNet, by their prefix or their depth.
fn parse_resnet(name: &str) -> Option<ResNetConfig> {
    let (squeeze, member) = match name.strip_prefix("se-") {
        Some(member) => (true, member),
        None => (false, name),
    };
    let config = if let Some(sizes) = member.strip_prefix("wide-resnet") {
        let (depth, factor) = sizes.split_once('-')?;
        let base_width = number(factor)?.checked_mul(ResNetConfig::BASE_WIDTH)?;
        ResNetConfig { base_width, ..ResNetConfig::resnet(number(depth)?) }
    } else if let Some(sizes) = member.strip_prefix("resnext") {
        let (depth, sizes) = sizes.split_once('-')?;
        let (cardinality, width) = sizes.strip_suffix('d')?.split_once('x')?;
        let (cardinality, base_width) = (number(cardinality)?, number(width)?);
        ResNetConfig { cardinality, base_width, ..ResNetConfig::resnet(number(depth)?) }
    } else {
        ResNetConfig::resnet(number(member.strip_prefix("resnet")?)?)
    };
    // Other depths without a prefix are for 32×32 images.
    let other = squeeze || member.starts_with("wide-") || ResNet::DEPTHS.contains(&config.depth);
    other.then_some(ResNetConfig { squeeze, ..config })
}

/// A decimal number without sign or leading zero, so that every model has one name.
fn number(digits: &str) -> Option<usize> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

/// Up to three listed names that look like this one, the most similar first.
fn nearest(name: &str) -> Vec<String> {
    const ENOUGH: f64 = 0.5;
    let mut scored: Vec<(f64, &str)> = LISTED
        .iter()
        .map(|listed| (strsim::normalized_damerau_levenshtein(name, listed), *listed))
        .filter(|(score, _)| *score >= ENOUGH)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, listed)| listed.to_owned()).collect()
}
