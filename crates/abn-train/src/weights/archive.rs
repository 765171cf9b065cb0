//! What `torch.save` writes since PyTorch 1.6: a zip archive of a pickle and raw storages.
//!
//! ```text
//! NAME/data.pkl     the state_dict; tensors name their storages
//! NAME/byteorder    `little` or `big`; not in older files
//! NAME/data/0, …    the storages, uncompressed
//! ```

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::ops::Range;

use abn_pickle::Limits;
use zip::{CompressionMethod, ZipArchive};

use super::pickled::{StorageName, state_dict};
use super::stored::Storage;
use super::{Contents, Found, short};

pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

pub(super) fn contents(bytes: &[u8]) -> Found<Contents> {
    let entries = entries(bytes)?;
    let pickle = entries.get("data.pkl").ok_or(
        "it is a zip archive, but not torch.save's: there is no data.pkl in its first folder",
    )?;
    let big_endian = match entries.get("byteorder").map(|range| &bytes[range.clone()]) {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err("its byteorder is neither little nor big".into()),
    };
    let (pickle, _) = abn_pickle::load(&bytes[pickle.clone()], &Limits::default())
        .map_err(|error| format!("data.pkl: {error}"))?;
    state_dict(&pickle, &|name: &StorageName<'_>| {
        let entry = format!("data/{}", name.key);
        let range = entries
            .get(&entry)
            .ok_or_else(|| format!("its storage {} is not in the archive", short(&entry)))?;
        name.check_size(range.len())?;
        Ok(Storage { bytes: range.clone(), element: name.element, big_endian })
    })
}

/// Where each entry's bytes lie, by its name without the first folder.
fn entries(bytes: &[u8]) -> Found<BTreeMap<String, Range<usize>>> {
    let damaged =
        |error: &dyn std::fmt::Display| format!("it is not a whole zip archive ({error})");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    if archive.has_duplicate_names() {
        return Err("two entries of the archive have the same name".into());
    }
    if archive.has_overlapping_files().map_err(|error| damaged(&error))? {
        return Err("entries of the archive lie on top of each other".into());
    }
    let mut folder = None;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let (name, size) = {
            let entry = archive.by_index_data(index).map_err(|error| damaged(&error))?;
            let name = entry.name().map_err(|error| damaged(&error))?.into_owned();
            if leads_out(&name) {
                return Err(format!(
                    "the name of entry {:?} leads out of the archive",
                    short(&name)
                ));
            }
            if entry.encrypted() {
                return Err(format!("entry {} is encrypted", short(&name)));
            }
            if entry.compression() != CompressionMethod::Stored
                || entry.compressed_size() != entry.size()
            {
                return Err(format!(
                    "entry {} is compressed, which PyTorch's never are; unpack and pack it with `zip -0`",
                    short(&name)
                ));
            }
            (name, entry.size())
        };
        if name.ends_with('/') {
            continue;
        }
        let mut entry = archive.by_index(index).map_err(|error| damaged(&error))?;
        // Reading to the end compares the checksum.
        io::copy(&mut entry, &mut io::sink())
            .map_err(|error| format!("entry {} is damaged ({error})", short(&name)))?;
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let range =
            start.and_then(|start| Some(start..start.checked_add(usize::try_from(size).ok()?)?));
        let range = range
            .filter(|range| bytes.get(range.clone()).is_some())
            .ok_or_else(|| format!("entry {} reaches beyond the end of the file", short(&name)))?;
        let (first, rest) = name.split_once('/').unwrap_or(("", &name));
        if folder.get_or_insert_with(|| first.to_owned()) == first {
            entries.insert(rest.to_owned(), range);
        }
    }
    Ok(entries)
}

/// Whether a name, were it a path, would lead out of the folder it is unpacked to.
fn leads_out(name: &str) -> bool {
    name.starts_with('/')
        || name.contains(['\\', '\0', ':'])
        || name.split('/').any(|part| part == "..")
}
