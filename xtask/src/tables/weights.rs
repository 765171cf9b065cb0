//! Weights to start from, by the network's name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const SUFFIXES: [&str; 3] = ["pth", "pt", "safetensors"];

/// The weights of a network in a folder: `MODEL.pth`, or `MODEL-HASH.pth` as torchvision calls its files, which has `_`
/// for some of a model's `-`.
///
/// # Errors
/// If there is none, or more than one.
pub fn of(model: &str, folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let text =
            |part: Option<&std::ffi::OsStr>| part.and_then(|p| p.to_str()).map(str::to_owned);
        let (stem, suffix) = (text(path.file_stem()), text(path.extension()));
        let named = stem.is_some_and(|stem| {
            let stem = stem.replace('_', "-");
            let hash = stem.strip_prefix(model).map(|rest| rest.strip_prefix('-'));
            stem == model
                || hash.flatten().is_some_and(|hash| {
                    hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                })
        });
        if named && suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix.as_str())) {
            found.push(path);
        }
    }
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => bail!("--init: no weights of {model} in {}; expected {model}.pth", folder.display()),
        [one, other, ..] => {
            bail!("--init: both {} and {} are of {model}", one.display(), other.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_the_network_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        ["vgg16_bn-6c64b313.pth", "vgg16.txt", "resnet101.pth"].into_iter().for_each(put);
        assert!(of("resnet101", folder.path()).unwrap().ends_with("resnet101.pth"));
        let said = of("vgg16", folder.path()).unwrap_err().to_string();
        assert!(said.contains("no weights of vgg16 in"), "{said}");
        assert!(of("vgg16-bn", folder.path()).unwrap().ends_with("vgg16_bn-6c64b313.pth"));
        put("wide_resnet50_2-95faca4d.pth");
        assert!(of("wide-resnet50-2", folder.path()).is_ok());
        put("vgg16-397923af.pth");
        assert!(of("vgg16", folder.path()).unwrap().ends_with("vgg16-397923af.pth"));
        put("vgg16.safetensors");
        let said = of("vgg16", folder.path()).unwrap_err().to_string();
        assert!(said.contains("both") && said.contains("vgg16.safetensors"), "{said}");
    }
}
