//! What `torch.save` wrote before PyTorch 1.6, and writes with
//! `_use_new_zipfile_serialization=False`: five pickles, then raw storages.
//!
//! ```text
//! a magic number · the format's version · {"little_endian": …, …} · the object · [storage keys]
//! of each key's storage: the number of its elements (int64), then the elements
//! ```

use std::collections::BTreeMap;

use abn_pickle::{Limits, Pickle, Value};

use super::pickled::{StorageName, state_dict};
use super::stored::Storage;
use super::{Contents, Found, short};

/// 0x1950a86a20f9469cfc6c, lowest byte first.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Whether the bytes begin with a pickle of protocol 2 or later. Not all of these are PyTorch's.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

pub(super) fn contents(bytes: &[u8]) -> Found<Contents> {
    let mut at = 0;
    let magic = next(bytes, &mut at, "its magic number")?;
    if !matches!(magic.root(), Value::Long(number) if number == MAGIC) {
        return Err(format!(
            "it is a pickle, but not torch.save's: it begins with {}",
            magic.root().describe()
        ));
    }
    let version = next(bytes, &mut at, "the format's version")?;
    if version.root().int() != Some(VERSION) {
        return Err(format!("its format is {}, not {VERSION}", version.root().describe()));
    }
    let system = next(bytes, &mut at, "the writer's system")?;
    let big_endian = matches!(system.root().get("little_endian"), Some(Value::Bool(false)));
    let object = next(bytes, &mut at, "the weights")?;
    let keys = next(bytes, &mut at, "the storages' names")?;
    let storages = storages(bytes, at, big_endian, &object, &keys)?;
    state_dict(&object, &|name: &StorageName<'_>| {
        let storage = storages.get(name.key);
        storage.cloned().ok_or_else(|| format!("its storage {} is missing", short(name.key)))
    })
}

/// The next pickle of the file.
fn next<'a>(bytes: &'a [u8], at: &mut usize, what: &str) -> Found<Pickle<'a>> {
    let (pickle, consumed) = abn_pickle::load(&bytes[*at..], &Limits::default())
        .map_err(|error| format!("{what} (at byte {at}): {error}"))?;
    *at += consumed;
    Ok(pickle)
}

/// Where the storages lie. Their types stand where tensors name them, not beside them.
fn storages(
    bytes: &[u8],
    mut at: usize,
    big_endian: bool,
    object: &Pickle<'_>,
    keys: &Pickle<'_>,
) -> Found<BTreeMap<String, Storage>> {
    let mut names = BTreeMap::new();
    for reference in object.references() {
        let name = StorageName::of(reference)?;
        if let Some(other) = names.insert(name.key, name)
            && (other.element, other.count) != (name.element, name.count)
        {
            return Err(format!("storage {} has two types or sizes", short(name.key)));
        }
    }
    let keys = keys.root().sequence().ok_or("the storages' names are no list")?;
    let mut storages = BTreeMap::new();
    for key in keys.iter() {
        let key = key.text().ok_or_else(|| format!("a storage's name is {}", key.describe()))?;
        let name = names.get(key).ok_or_else(|| {
            format!("storage {} is of no tensor, so its type is not known", short(key))
        })?;
        let what = || format!("the file ends in storage {} (at byte {at})", short(key));
        let count = bytes.get(at..at + size_of::<i64>()).ok_or_else(what)?;
        let mut number = [0; size_of::<i64>()];
        number.copy_from_slice(count);
        let count = i64::from_le_bytes(number);
        if usize::try_from(count) != Ok(name.count) {
            return Err(format!(
                "storage {} has {count} elements, where its tensors expect {}",
                short(key),
                name.count
            ));
        }
        let start = at + size_of::<i64>();
        let end = name.bytes().and_then(|length| start.checked_add(length));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(what)?;
        let storage = Storage { bytes: start..end, element: name.element, big_endian };
        if storages.insert(key.to_owned(), storage).is_some() {
            return Err(format!("storage {} is there twice", short(key)));
        }
        at = end;
    }
    Ok(storages)
}
