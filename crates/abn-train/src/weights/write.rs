//! Writing what `torch.load(…, weights_only=True)` reads.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use abn_pickle::Writer;
use candle_core::{DType, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::stored::contiguous_strides;
use crate::{Error, Result};

/// The archive's only folder.
const FOLDER: &str = "archive";
/// PyTorch aligns storages, so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;
/// The format's version, as PyTorch writes it.
const VERSION: &[u8] = b"3\n";

/// The tensors (f32 or f64) as the bytes of a `.pth` file: an `OrderedDict` of tensors, each with a
/// storage of its own. The same tensors give the same bytes.
///
/// # Errors
/// For other number types.
pub(crate) fn pytorch_bytes(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut storages = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        storages.push(storage(name, tensor)?);
    }
    let classes = storages.iter().map(|(class, _)| *class);
    let pickle = pickle(tensors.iter().zip(classes));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("{FOLDER}/{name}"), options)?;
        archive.write_all(bytes)?;
        zip::result::ZipResult::Ok(())
    };
    let mut write = || {
        add("data.pkl", &pickle)?;
        add("byteorder", b"little")?;
        for (key, (_, bytes)) in storages.iter().enumerate() {
            add(&format!("data/{key}"), bytes)?;
        }
        add("version", VERSION)
    };
    write()
        .and_then(|()| archive.finish())
        .map(Cursor::into_inner)
        .map_err(|error| Error::Invalid(format!("the weights cannot be packed: {error}")))
}

/// The class and the bytes of a tensor's storage.
fn storage(name: &str, tensor: &Tensor) -> Result<(&'static str, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => {
            let values = flat.to_vec1::<f32>()?;
            ("FloatStorage", values.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        DType::F64 => {
            let values = flat.to_vec1::<f64>()?;
            ("DoubleStorage", values.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        dtype => return Err(abn_core::Error::SaveDType { name: name.to_owned(), dtype }.into()),
    })
}

fn pickle<'a>(tensors: impl Iterator<Item = ((&'a String, &'a Tensor), &'static str)>) -> Vec<u8> {
    let mut out = Writer::new();
    out.global("collections", "OrderedDict").empty_tuple().reduce().mark();
    for (key, ((name, tensor), class)) in tensors.enumerate() {
        out.text(name).global("torch._utils", "_rebuild_tensor_v2").mark();
        out.mark().text("storage").global("torch", class).text(&key.to_string()).text("cpu");
        out.int(tensor.elem_count() as i64).tuple().persistent();
        out.int(0);
        for sizes in [tensor.dims(), &contiguous_strides(tensor.dims())] {
            out.mark();
            for &size in sizes {
                out.int(size as i64);
            }
            out.tuple();
        }
        // requires_grad, and no backward hooks
        out.bool(false).global("collections", "OrderedDict").empty_tuple().reduce();
        out.tuple().reduce();
    }
    out.set_items();
    out.finish()
}
