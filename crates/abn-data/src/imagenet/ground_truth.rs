//! The classes of a flat validation folder.
//!
//! Three forms, told apart by their first line:
//! - the devkit's `ILSVRC2012_validation_ground_truth.txt`: line i is the ILSVRC id of image i, and
//!   the `meta.mat` beside it says which class an id is (the ids are not in the order of labels);
//! - a line per image, in the same order, with its WordNet id;
//! - a line per image with its file name and its WordNet id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::is_wnid;
use crate::error::{Error, Result};
use crate::mat::{self, STRUCT_CLASS};

/// Where it is looked for, from the folder that holds `train` and `val`.
const FILES: [&str; 5] = [
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    "data/ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_validation_ground_truth.txt",
    "val.txt",
    "val/val.txt",
];
/// More images than any such file names, in bytes of text.
const MAX_BYTES: u64 = 64 << 20;

/// What was found.
#[derive(Debug)]
pub(super) struct GroundTruth {
    pub path: PathBuf,
    /// File name and WordNet id of each image.
    pub images: Vec<(String, String)>,
}

/// Reads the first of the files that is there.
pub(super) fn read(root: &Path) -> Result<GroundTruth> {
    let path = FILES.iter().map(|file| root.join(file)).find(|path| path.is_file());
    let path = path.ok_or_else(|| {
        let reason = format!(
            "val/ has no class folders, so a ground truth is needed; expected one of {}",
            FILES.join(", ")
        );
        Error::layout(root, reason)
    })?;
    let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
    if size > MAX_BYTES {
        let expected = format!("a ground truth of at most {MAX_BYTES} bytes");
        return Err(Error::format(path, expected, format!("{size} bytes")));
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::format(&path, "a ground truth in ASCII or UTF-8", "other bytes"))?;
    let images = parse(text.trim_ascii_end(), &path)?;
    Ok(GroundTruth { path, images })
}

fn parse(text: &str, path: &Path) -> Result<Vec<(String, String)>> {
    let wrong = |line: usize, expected: &str, found: &str| {
        Error::format(path, format!("{expected} in line {}", line + 1), format!("{found:.60?}"))
    };
    let has_ids = text.lines().next().is_some_and(|line| line.trim().parse::<u32>().is_ok());
    let classes =
        if has_ids { classes(&path.with_file_name("meta.mat"))? } else { BTreeMap::new() };
    let mut images = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let (image, wnid) = match content.split_whitespace().collect::<Vec<_>>()[..] {
            [id] if has_ids => {
                let wnid = id.parse().ok().and_then(|id: u32| classes.get(&id));
                (
                    official(line),
                    wnid.ok_or_else(|| wrong(line, "an ILSVRC id of meta.mat", id))?.as_str(),
                )
            }
            [wnid] if !has_ids => (official(line), wnid),
            [image, wnid] if !has_ids => (image.to_owned(), wnid),
            _ => return Err(wrong(line, "`ID`, `WNID` or `NAME WNID`", content)),
        };
        if !is_wnid(wnid) {
            return Err(wrong(line, "a WordNet id such as n01440764", wnid));
        }
        images.push((image, wnid.to_owned()));
    }
    match images.is_empty() {
        true => Err(Error::format(path, "a line per validation image", "an empty file")),
        false => Ok(images),
    }
}

/// The official name of the image that a line is about.
fn official(line: usize) -> String {
    format!("ILSVRC2012_val_{:08}.JPEG", line + 1)
}

/// The WordNet ids of the devkit's `synsets`, by ILSVRC id.
fn classes(path: &Path) -> Result<BTreeMap<u32, String>> {
    let mut classes = BTreeMap::new();
    mat::variables(path, |variable| {
        if variable.name != "synsets" || variable.class != STRUCT_CLASS {
            return Ok(());
        }
        for row in mat::table(variable, ["ILSVRC2012_ID", "WNID"])? {
            let (id, wnid) = match &row {
                [mat::Field::Numbers(id), mat::Field::Text(wnid)] if id.len() == 1 => (id[0], wnid),
                other => {
                    let expected = "an ILSVRC2012_ID and a WNID in each of `synsets`";
                    return Err(Error::format(path, expected, format!("{other:.60?}")));
                }
            };
            if id < 1.0 || id.fract() != 0.0 || classes.insert(id as u32, wnid.clone()).is_some() {
                let found = format!("{id}");
                return Err(Error::format(path, "a different ILSVRC2012_ID for each class", found));
            }
        }
        Ok(())
    })?;
    match classes.is_empty() {
        true => Err(Error::format(path, "a structure `synsets`", "none of that name")),
        false => Ok(classes),
    }
}
