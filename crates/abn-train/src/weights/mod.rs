//! Files of weights that other programs wrote, and those they read: what `torch.save` writes, now
//! and before PyTorch 1.6, and safetensors.
//!
//! [`WeightsFile::read`] finds out what a file holds without converting anything; a tensor is
//! converted when it is asked for. So no file takes more memory than its own size and that of the
//! network it is for, whatever shapes it claims. Nothing in a file is executed.

mod archive;
mod element;
mod legacy;
mod pickled;
mod safe;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use stored::StoredTensor;
pub(crate) use write::pytorch_bytes;

use crate::{Error, Result};

/// A file of weights: tensors by name.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    contents: Contents,
}

/// What a file says of its weights.
#[derive(Debug, Default)]
struct Contents {
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Contents {
    /// Adds a tensor under its name in the network, without what PyTorch puts around it: a leading
    /// `module.` (`DataParallel`). Batch norm's counters are left out.
    ///
    /// torchvision's DenseNet files are older than its DenseNet, which renames `norm.1` in their dense
    /// layers to `norm1` when it loads them; so does this.
    fn add(&mut self, name: &str, tensor: impl FnOnce() -> Found<StoredTensor>) -> Found<()> {
        let plain = name.strip_prefix("module.").unwrap_or(name);
        if plain.rsplit('.').next() == Some("num_batches_tracked") {
            return Ok(());
        }
        let tensor = tensor().map_err(|problem| format!("tensor `{}`: {problem}", short(name)))?;
        let mut plain = plain.to_owned();
        if plain.contains(".denselayer") {
            for (old, new) in DENSE_LAYER_NAMES {
                plain = plain.replace(old, new);
            }
        }
        match self.tensors.insert(plain.clone(), tensor) {
            None => Ok(()),
            Some(_) => Err(format!("tensor `{}` is there twice", short(&plain))),
        }
    }
}

/// Names in torchvision's DenseNet files, and in its DenseNet.
const DENSE_LAYER_NAMES: [(&str, &str); 4] = [
    (".norm.1.", ".norm1."),
    (".norm.2.", ".norm2."),
    (".conv.1.", ".conv1."),
    (".conv.2.", ".conv2."),
];

/// Something, or what is wrong with the file.
type Found<T> = std::result::Result<T, String>;

impl WeightsFile {
    /// Reads what is in a file: a `.pth` of `torch.save`, zip or older, with the weights at the top
    /// or as `state_dict`, `model_state_dict` or `model` of a checkpoint; or a safetensors file.
    ///
    /// # Errors
    /// [`Error::Weights`] with the reason, if it is none of these or damaged: if a storage is missing
    /// or shorter than its tensors, an archive's entries are compressed, overlap, are there twice
    /// or have names that lead out of it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("cannot read", path))?;
        let contents = contents(&bytes)
            .map_err(|problem| Error::Weights { path: path.to_owned(), problem })?;
        Ok(Self { path: path.to_owned(), bytes, contents })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// The tensors' names with their shapes, in order; without `module.` and without counters.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.contents.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims()))
    }

    /// Shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.contents.tensors.get(name).map(StoredTensor::dims)
    }

    /// An entry of the strings that a safetensors file may carry.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.contents.metadata.get(key).map(String::as_str)
    }

    /// A tensor in single precision.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is none of that name, it is not of floating-point numbers, or one of
    /// them is not finite.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let wrong = |problem: String| Error::Weights {
            path: self.path.clone(),
            problem: format!("tensor `{}`: {problem}", short(name)),
        };
        let stored = self.contents.tensors.get(name);
        let stored = stored.ok_or_else(|| wrong("it is not in the file".into()))?;
        let values = stored.values(&self.bytes).map_err(wrong)?;
        Ok(Tensor::from_vec(values, stored.dims(), &Device::Cpu)?)
    }
}

/// Reads any kind of file.
fn contents(bytes: &[u8]) -> Found<Contents> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if archive::is_one(bytes) {
        archive::contents(bytes)
    } else if legacy::is_one(bytes) {
        legacy::contents(bytes)
    } else if safe::is_one(bytes) {
        safe::contents(bytes)
    } else {
        let start: String =
            bytes.iter().take(16).flat_map(|b| b.escape_ascii()).map(char::from).collect();
        Err(format!(
            "it is neither a file of torch.save nor safetensors; it begins with \"{start}\""
        ))
    }
}

/// The beginning of a name: in a hostile file it may have any length.
fn short(name: &str) -> String {
    const SHOWN: usize = 100;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
