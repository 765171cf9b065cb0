//! SVHN, cropped digits (Netzer et al. 2011): 32×32 colour images of house numbers.
//!
//! Each of `train_32x32.mat`, `test_32x32.mat` and `extra_32x32.mat` holds `X`, bytes of
//! 32×32×3×N (columns first: an image is three planes, each column by column), and `y`, N labels
//! of 1 to 10, of which 10 is the digit 0.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Normalisation, Splits};
use crate::error::{Error, Result};
use crate::mat::{self, MI_UINT8, UINT8_CLASS, Variable};
use crate::memory::{MAX_IMAGES, MemoryDataset};
use crate::places::Places;
use crate::transform::Fit;

const SIDE: usize = 32;
const IMAGE: usize = SIDE * SIDE * 3;
const DIGITS: usize = 10;
/// No deflate stream is longer than this when inflated, by the bytes it takes.
const MAX_INFLATION: u64 = 1032;

const HELP: &str = "run `cargo xtask fetch svhn`, or put train_32x32.mat and test_32x32.mat (and \
                    extra_32x32.mat for svhn-extra) into a folder and name it as the data folder";

/// `svhn`, or `svhn-extra`: trained on the extra images too, after the others.
pub(crate) fn splits(folder: Option<&Path>, extra: bool) -> Result<Splits> {
    let name = if extra { "svhn-extra" } else { "svhn" };
    let places = Places::new(name, folder, &["datasets/svhn/raw"], HELP);
    // All are looked for before the first is read.
    let mut train = vec![places.find(&["train_32x32.mat"])?];
    if extra {
        train.push(places.find(&["extra_32x32.mat"])?);
    }
    let test = [places.find(&["test_32x32.mat"])?];
    Ok(Splits {
        name: name.to_owned(),
        train: Arc::new(read(&train)?),
        test: Arc::new(read(&test)?),
        stats: Normalisation::SVHN,
        fit: Fit::Pad,
        image_size: SIDE.into(),
    })
}

/// The images of these files, one file after the other.
fn read(files: &[PathBuf]) -> Result<MemoryDataset> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in files {
        let (images_before, labels_before) = (pixels.len() / IMAGE, labels.len());
        let (mut has_images, mut has_labels) = (false, false);
        mat::variables(path, |variable| match variable.name.as_str() {
            "X" if !has_images => {
                has_images = true;
                read_images(variable, path, &mut pixels)
            }
            "y" if !has_labels => {
                has_labels = true;
                read_labels(variable, path, &mut labels)
            }
            _ => Ok(()),
        })?;
        for (name, found) in [("X", has_images), ("y", has_labels)] {
            if !found {
                let expected = format!("a variable `{name}`");
                return Err(Error::format(path, expected, "none of that name"));
            }
        }
        let images = pixels.len() / IMAGE - images_before;
        if images != labels.len() - labels_before {
            return Err(Error::CountMismatch {
                images_path: path.clone(),
                labels_path: path.clone(),
                images,
                labels: labels.len() - labels_before,
            });
        }
    }
    let names: Vec<String> = (0..DIGITS).map(|digit| digit.to_string()).collect();
    MemoryDataset::new([SIDE, SIDE, 3], pixels, labels, names.into())
}

/// Appends the images of `X`, rows first and channels innermost.
fn read_images(variable: &mut Variable<'_>, path: &Path, pixels: &mut Vec<u8>) -> Result<()> {
    // MATLAB drops a last dimension of 1.
    let count = match variable.dims[..] {
        [SIDE, SIDE, 3] => 1,
        [SIDE, SIDE, 3, count] if (1..=MAX_IMAGES).contains(&count) => count,
        _ => {
            let expected = format!("`X` of {SIDE}×{SIDE}×3×N, N at most {MAX_IMAGES}");
            return Err(Error::format(path, expected, variable.shape()));
        }
    };
    if variable.class != UINT8_CLASS {
        let found = format!("class {}", variable.class);
        return Err(Error::format(path, "`X` of class uint8", found));
    }
    let tag = variable.elements.tag("the pixels of `X`")?;
    if tag.kind != MI_UINT8 || tag.small.is_some() || tag.len != (count * IMAGE) as u64 {
        let found = format!("{} bytes of type {}", tag.len, tag.kind);
        return Err(Error::format(path, format!("{} bytes of pixels", count * IMAGE), found));
    }
    // Room for what the file can hold, not for what it claims.
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let possible = size.saturating_mul(MAX_INFLATION).min(tag.len);
    pixels.reserve_exact(usize::try_from(possible).unwrap_or(0));
    let mut image = [0; IMAGE];
    for _ in 0..count {
        variable.elements.fill(&mut image, "the pixels of `X`")?;
        for y in 0..SIDE {
            for x in 0..SIDE {
                let at = y + SIDE * x;
                pixels.extend([image[at], image[at + SIDE * SIDE], image[at + 2 * SIDE * SIDE]]);
            }
        }
    }
    Ok(())
}

/// Appends the labels of `y`, 10 as 0.
fn read_labels(variable: &mut Variable<'_>, path: &Path, labels: &mut Vec<u8>) -> Result<()> {
    for (sample, number) in variable.numbers(MAX_IMAGES)?.into_iter().enumerate() {
        if !(1.0..=10.0).contains(&number) || number.fract() != 0.0 {
            let found = format!("label {number} of sample {sample}");
            return Err(Error::format(
                path,
                "labels of 1 to 10, of which 10 is the digit 0",
                found,
            ));
        }
        labels.push(number as u8 % 10);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
