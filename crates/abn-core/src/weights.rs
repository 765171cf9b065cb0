//! Named tensors as safetensors files: the same tensors always give the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result};

/// What a safetensors file holds.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The tensors, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The strings in the file's header.
    pub metadata: BTreeMap<String, String>,
}

/// The tensors (f32 or f64) as the bytes of a safetensors file.
///
/// # Errors
/// [`Error::SaveDType`] for other number types.
pub fn to_bytes(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut data = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, bytes) = little_endian(name, tensor)?;
        data.push((name, dtype, tensor.dims().to_vec(), bytes));
    }
    let views = data
        .iter()
        .map(|(name, dtype, dims, bytes)| Ok((name, TensorView::new(*dtype, dims.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None)?;
    Ok(if metadata.is_empty() { bytes } else { with_metadata(bytes, metadata) })
}

/// Reads the bytes of a safetensors file.
///
/// # Errors
/// If they are not one.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Weights> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let tensors = candle_core::safetensors::load_buffer(bytes, device)?.into_iter().collect();
    Ok(Weights { tensors, metadata })
}

/// Reads a safetensors file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, and those of [`from_bytes`].
pub fn read(path: &Path, device: &Device) -> Result<Weights> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    from_bytes(&bytes, device)
}

fn little_endian(name: &str, tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::F32 => {
            let values = flat.to_vec1::<f32>()?;
            Ok((Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        }
        DType::F64 => {
            let values = flat.to_vec1::<f64>()?;
            Ok((Dtype::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        }
        dtype => Err(Error::SaveDType { name: name.to_owned(), dtype }),
    }
}

/// Puts metadata into the header. The safetensors crate would write it in a hash map's order,
/// another one each time; here it is sorted.
fn with_metadata(bytes: Vec<u8>, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    const LENGTH: usize = size_of::<u64>();
    let mut length = [0; LENGTH];
    length.copy_from_slice(&bytes[..LENGTH]);
    let (header, data) = bytes[LENGTH..].split_at(u64::from_le_bytes(length) as usize);
    // The header is a JSON object, padded by spaces so that the data begin at a multiple of 8.
    let tensors = header.trim_ascii_end().strip_prefix(b"{").unwrap_or_default();
    let metadata = serde_json::json!(metadata).to_string();
    let separator = if tensors == b"}" { "" } else { "," };
    let mut header = format!("{{\"__metadata__\":{metadata}{separator}").into_bytes();
    header.extend_from_slice(tensors);
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.append(&mut header);
    out.extend_from_slice(data);
    out
}
