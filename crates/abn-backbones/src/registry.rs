//! Models by name.

use crate::{Architecture, Error, ModelSpec, ResNeXtConfig, ResNet, Result, Vgg, VggSize};

/// The members of each family that people know. [`find`] knows every other size too.
const LISTED: [&str; 25] = [
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "wrn-10-1",
    "wrn-16-2",
    "wrn-16-4",
    "wrn-28-10",
    "wrn-40-4",
    "resnext29-2x64d",
    "resnext29-8x64d",
    "cifar-vgg11-bn",
    "cifar-vgg13-bn",
    "cifar-vgg16-bn",
    "cifar-vgg19-bn",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
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
/// `resnetD` (D of 18, 34, 50, 101, 152: for ImageNet; any other 6n+2, or `cifar-resnetD`: for
/// 32×32 images), `wrn-D-K`, `resnextD-CxWd` (`…-kF` for a widening factor other than 4), `vggL-bn`,
/// `cifar-vggL-bn` (`…-wW` for a first stage of other than 64 channels).
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
    if let Some(sizes) = name.strip_prefix("resnext") {
        let (depth, sizes) = sizes.split_once('-')?;
        let (cardinality, sizes) = sizes.split_once('x')?;
        let (width, widen_factor) = match sizes.split_once("d-k") {
            Some((width, factor)) => (width, number(factor)?),
            None => (sizes.strip_suffix('d')?, ResNeXtConfig::WIDEN_FACTOR),
        };
        return Some(Architecture::CifarResNeXt(ResNeXtConfig {
            depth: number(depth)?,
            cardinality: number(cardinality)?,
            base_width: number(width)?,
            widen_factor,
        }));
    }
    let (cifar, member) = match name.strip_prefix("cifar-") {
        Some(member) => (true, member),
        None => (false, name),
    };
    if let Some(layers) = member.strip_prefix("vgg") {
        let (layers, width) = match layers.split_once("-bn-w") {
            Some((layers, width)) => (layers, number(width)?),
            None => (layers.strip_suffix("-bn")?, Vgg::WIDTH),
        };
        let size = if cifar { VggSize::Cifar } else { VggSize::ImageNet };
        return Some(Architecture::Vgg { layers: number(layers)?, width, size });
    }
    let depth = number(member.strip_prefix("resnet")?)?;
    if !cifar && ResNet::DEPTHS.contains(&depth) {
        return Some(Architecture::ResNet { depth });
    }
    Some(Architecture::CifarResNet { depth })
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
