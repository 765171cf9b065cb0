//! ImageNet's classification set of 2012 (ILSVRC2012): photographs of 1,000 kinds of things.
//!
//! `train/<wnid>/*.JPEG`, and the validation images either by class too (`val/<wnid>/*.JPEG`, as
//! torchvision lays them out) or flat as distributed (`val/ILSVRC2012_val_00000001.JPEG`, …) with a
//! [ground truth](ground_truth). A class is a WordNet id such as n01440764; labels count the
//! classes of `train/` in the order of their ids, which for all of them is everyone's order. The ids
//! are the classes' names too: the same wherever the data lie, which checkpoints are checked by.
//!
//! Only the paths are held in memory. That suits subsets (`ImageNet-100`, …) as well.

mod ground_truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::{Error, Result};
use crate::folder::{FolderDataset, IMAGE_SIZE};
use crate::listing::{class_folders, entries, images_in, is_image};
use crate::places::Places;
use crate::transform::Fit;

const HELP: &str = "ILSVRC2012 needs an account at https://image-net.org: unpack the training \
                    images to train/<wnid>/ and the validation images to val/, beside them the \
                    folder ILSVRC2012_devkit_t12, and name their folder as the data folder";

/// The dataset, from `folder` or `datasets/imagenet/raw`.
pub(crate) fn splits(folder: Option<&Path>) -> Result<Splits> {
    let places = Places::new("imagenet", folder, &["datasets/imagenet/raw"], HELP);
    let root = places.find_folder("train")?;
    let wnids = class_folders(&root.join("train"))?;
    if let Some(other) = wnids.iter().find(|name| !is_wnid(name)) {
        let path = root.join("train").join(other);
        return Err(Error::layout(path, "not a WordNet id such as n01440764"));
    }
    let val = root.join("val");
    if !val.is_dir() {
        return Err(places.missing("val/"));
    }
    let train = list(&root.join("train"), &wnids, &wnids)?;
    let has_folders = entries(&val)?.iter().any(|entry| entry.is_folder);
    let test =
        if has_folders { list(&val, &class_folders(&val)?, &wnids)? } else { flat(&root, &wnids)? };
    Ok(Splits {
        name: "imagenet".to_owned(),
        train: Arc::new(FolderDataset::from_files(wnids.clone(), train)?),
        test: Arc::new(FolderDataset::from_files(wnids, test)?),
        stats: Normalisation::IMAGENET,
        fit: Fit::Resize,
        image_size: IMAGE_SIZE.into(),
    })
}

/// `n` and eight digits.
fn is_wnid(name: &str) -> bool {
    let digits = name.strip_prefix('n').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The label of a class, if it has training images.
fn label_of(wnid: &str, wnids: &[String]) -> Option<u32> {
    wnids.binary_search_by(|known| known.as_str().cmp(wnid)).ok().map(|label| label as u32)
}

/// The images of these class folders, with their labels.
fn list(root: &Path, folders: &[String], wnids: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let mut files = Vec::new();
    for folder in folders {
        let path = root.join(folder);
        let label = label_of(folder, wnids);
        let label = label.ok_or_else(|| Error::layout(&path, "no such class in train/"))?;
        files.extend(images_in(&path)?.into_iter().map(|image| (image, label)));
    }
    Ok(files)
}

/// The images of a flat `val/`, with the labels that the ground truth gives them.
fn flat(root: &Path, wnids: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let folder = root.join("val");
    let truth = ground_truth::read(root)?;
    // Whether the ground truth names it.
    let mut images: BTreeMap<String, bool> = BTreeMap::new();
    for entry in entries(&folder)? {
        if is_image(&entry.name) {
            images.insert(entry.name.to_string_lossy().into_owned(), false);
        }
    }
    let mut files = Vec::with_capacity(truth.images.len());
    for (line, (image, wnid)) in truth.images.into_iter().enumerate() {
        let wrong = |expected: &str, found: String| {
            let expected = format!("{expected} in line {}", line + 1);
            Error::format(&truth.path, expected, found)
        };
        match images.get_mut(&image) {
            Some(named @ false) => *named = true,
            Some(true) => return Err(wrong("each image once", format!("{image} again"))),
            None => {
                let found = format!("{image}, which is not in {}", folder.display());
                return Err(wrong("an image that is there", found));
            }
        }
        let label = label_of(&wnid, wnids);
        files.push((folder.join(image), label.ok_or_else(|| wrong("a class of train/", wnid))?));
    }
    match images.into_iter().find(|(_, named)| !named) {
        None => Ok(files),
        Some((image, _)) => {
            let expected = format!("a class for {}", folder.join(image).display());
            Err(Error::format(truth.path, expected, "none"))
        }
    }
}

#[cfg(test)]
mod tests;
