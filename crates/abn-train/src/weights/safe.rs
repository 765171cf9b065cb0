//! safetensors.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::element::Element;
use super::stored::Storage;
use super::{Contents, Found, StoredTensor};

/// The length of the header, before the header.
const LENGTH: usize = size_of::<u64>();

/// Whether the bytes could be safetensors: a length, then JSON.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.get(LENGTH) == Some(&b'{')
}

pub(super) fn contents(bytes: &[u8]) -> Found<Contents> {
    let (header, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|error| format!("it is not whole safetensors ({error})"))?;
    let start = LENGTH + header;
    let strings = metadata.metadata().clone().unwrap_or_default();
    let mut contents = Contents { metadata: strings.into_iter().collect(), ..Contents::default() };
    let tensors: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
    for (name, info) in &tensors {
        contents.add(name, || {
            let (from, to) = info.data_offsets;
            let storage = Storage {
                bytes: start + from..start + to,
                element: element(info.dtype),
                big_endian: false,
            };
            StoredTensor::contiguous(storage, info.shape.clone())
        })?;
    }
    Ok(contents)
}

fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::I64 => Element::Other("int64", 8),
        Dtype::I32 => Element::Other("int32", 4),
        Dtype::U8 => Element::Other("uint8", 1),
        Dtype::BOOL => Element::Other("bool", 1),
        // The smallest there are, so that bounds hold whatever it is.
        _ => Element::Other("of a type that no weights have", 1),
    }
}
