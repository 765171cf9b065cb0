//! The python form: pickles, read without running them.

use std::path::Path;

use abn_pickle::{Limits, Value};

use super::{IMAGE, Kind, append_planes, checked_label};
use crate::error::{Error, Result};
use crate::memory::MAX_IMAGES;

/// What a batch may have beside its images, for each: its file's name and labels.
const MAX_EXTRA: usize = 1024;

/// Appends the images and labels of a batch.
pub(super) fn read(
    kind: &Kind,
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u8>,
) -> Result<()> {
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let limit = (MAX_IMAGES * (IMAGE + MAX_EXTRA)) as u64;
    if size > limit {
        return Err(Error::format(path, format!("at most {limit} bytes"), format!("{size} bytes")));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let wrong = |error: abn_pickle::Error| match error {
        abn_pickle::Error::Unexpected { expected, found } => Error::format(path, expected, found),
        error => Error::format(path, "a Python pickle", error.to_string()),
    };
    let (pickle, _) = abn_pickle::load(&bytes, &Limits::default()).map_err(wrong)?;
    let root = pickle.root();
    let entries = root.entries().unwrap_or_default();
    let entry = |key: &str| {
        // `str` of either Python, or `bytes`.
        let is_key = |name: Value<'_>| match name.text() {
            Some(text) => text == key,
            None => name.bytes().is_some_and(|bytes| *bytes == *key.as_bytes()),
        };
        let found = entries.iter().rev().find(|(name, _)| is_key(*name));
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Error::format(path, format!("a dict with `{key}`"), root.describe()))
    };
    let data = entry("data")?.array().map_err(wrong)?;
    let found = match data.shape[..] {
        [count, IMAGE] if (1..=MAX_IMAGES).contains(&count) => data.as_u8().map_err(wrong)?,
        _ => {
            let expected = format!("`data` of N×{IMAGE}, N from 1 to {MAX_IMAGES}");
            return Err(Error::format(path, expected, format!("{:?}", data.shape)));
        }
    };
    let batch = read_labels(kind, path, entry(kind.label_key)?)?;
    if batch.len() != data.shape[0] {
        return Err(Error::CountMismatch {
            images_path: path.to_owned(),
            labels_path: path.to_owned(),
            images: data.shape[0],
            labels: batch.len(),
        });
    }
    labels.extend(batch);
    pixels.reserve_exact(found.len());
    found.chunks_exact(IMAGE).for_each(|image| append_planes(image, pixels));
    Ok(())
}

fn read_labels(kind: &Kind, path: &Path, value: Value<'_>) -> Result<Vec<u8>> {
    let expected = || format!("a list of labels in `{}`", kind.label_key);
    let items =
        value.sequence().ok_or_else(|| Error::format(path, expected(), value.describe()))?;
    let label = |(sample, item): (usize, Value<'_>)| {
        let label = item.int().ok_or_else(|| Error::format(path, expected(), item.describe()))?;
        let label = u32::try_from(label).map_err(|_| {
            Error::format(path, expected(), format!("label {label} of sample {sample}"))
        })?;
        checked_label(kind, path, sample, label)
    };
    items.iter().enumerate().map(label).collect()
}
