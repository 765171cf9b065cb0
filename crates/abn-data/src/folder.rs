//! A user's own images: `<class>/*.{png,jpg,jpeg}`.

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageReader;

use crate::dataset::{Dataset, Image, Normalisation, Sample, Splits};
use crate::error::{Error, Result};
use crate::transform::Fit;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Side of the images when the network does not say.
const IMAGE_SIZE: usize = 224;

/// One folder per class, in the order of their names; within it the images, likewise.
///
/// Images are decoded when they are asked for. Only the paths are held in memory.
#[derive(Clone, Debug)]
pub struct FolderDataset {
    class_names: Vec<String>,
    files: Vec<(PathBuf, u32)>,
}

impl FolderDataset {
    /// Lists `root/<class>/*.{png,jpg,jpeg}`. Files beside the class folders, files of other
    /// kinds and names that begin with a dot are passed over.
    ///
    /// # Errors
    /// If the folder cannot be read, holds no class folder, or a class folder holds no image.
    pub fn open(root: &Path) -> Result<Self> {
        let class_names = class_folders(root)?;
        Self::list(root, &class_names, class_names.clone())
    }

    /// As [`open`](Self::open), with the labels of `class_names` (those of the training split):
    /// a class may be absent here, but none may be new.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if there is a class folder that `class_names` lacks.
    pub fn open_with_classes(root: &Path, class_names: &[String]) -> Result<Self> {
        let found = class_folders(root)?;
        if let Some(new) = found.iter().find(|name| !class_names.contains(name)) {
            let known = class_names.join(", ");
            return Err(Error::layout(
                root.join(new),
                format!("class `{new}` has no training images; the training classes are {known}"),
            ));
        }
        Self::list(root, &found, class_names.to_vec())
    }

    /// The file of each sample, and its label.
    pub fn files(&self) -> &[(PathBuf, u32)] {
        &self.files
    }

    fn file(&self, index: usize) -> Result<&(PathBuf, u32)> {
        self.files.get(index).ok_or(Error::Index { index, len: self.files.len() })
    }

    fn list(root: &Path, folders: &[String], class_names: Vec<String>) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            let label = class_names.iter().position(|name| name == folder);
            let label = label.and_then(|label| u32::try_from(label).ok());
            let label =
                label.ok_or_else(|| Error::Config(format!("class `{folder}` has no label")))?;
            let images = images_in(&root.join(folder))?;
            files.extend(images.into_iter().map(|path| (path, label)));
        }
        Ok(Self { class_names, files })
    }
}

impl Dataset for FolderDataset {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (path, label) = self.file(index)?;
        Ok(Sample { image: read_image(path)?, label: *label })
    }

    fn label(&self, index: usize) -> Result<u32> {
        Ok(self.file(index)?.1)
    }
}

/// The splits `root/train` and `root/test` (or `root/val`).
pub(crate) fn splits(root: &Path) -> Result<Splits> {
    let expected = "expected train/<class>/ and test/<class>/ with png or jpg images";
    if !root.is_dir() {
        return Err(Error::layout(root, format!("no such folder; {expected}")));
    }
    let of = |names: &[&str]| {
        let found = names.iter().map(|name| root.join(name)).find(|folder| folder.is_dir());
        found.ok_or_else(|| Error::layout(root, format!("no folder `{}`; {expected}", names[0])))
    };
    let (train, test) = (of(&["train"])?, of(&["test", "val"])?);
    let train = FolderDataset::open(&train)?;
    let test = FolderDataset::open_with_classes(&test, &train.class_names)?;
    Ok(Splits {
        name: "folder".to_owned(),
        train: std::sync::Arc::new(train),
        test: std::sync::Arc::new(test),
        stats: Normalisation::IMAGENET,
        fit: Fit::Resize,
        image_size: IMAGE_SIZE,
    })
}

/// Decodes a file to red, green and blue. The format is told by its bytes, not by its name.
///
/// # Errors
/// If the file cannot be read or decoded; the error names it.
pub fn read_image(path: &Path) -> Result<Image> {
    let reader = ImageReader::open(path).map_err(Error::io(path))?;
    let reader = reader.with_guessed_format().map_err(Error::io(path))?;
    let decoded =
        reader.decode().map_err(|source| Error::Image { path: path.to_owned(), source })?;
    let decoded = decoded.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { width, height, channels: 3, data: decoded.into_raw() })
}

/// The folders in `root`, by name.
fn class_folders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(root)? {
        if path.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| Error::layout(&path, "the class's name is not UTF-8"))?;
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(Error::layout(root, "no class folders; expected <class>/*.{png,jpg,jpeg}"));
    }
    Ok(names)
}

/// The images in a class folder, by name.
fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e)) && path.is_file()
    };
    let mut images = entries(folder)?;
    images.retain(is_image);
    if images.is_empty() {
        return Err(Error::layout(folder, "no images; expected *.png, *.jpg or *.jpeg"));
    }
    Ok(images)
}

/// What is in a folder, sorted, without names that begin with a dot.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
