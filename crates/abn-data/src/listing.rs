//! Folders of class folders of images.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// The folders in `root`, by name.
///
/// # Errors
/// If there is none, or `root` cannot be read.
pub(crate) fn class_folders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(root)?.into_iter().filter(|entry| entry.is_folder) {
        let name = entry.name.to_str();
        let path = root.join(&entry.name);
        let name = name.ok_or_else(|| Error::layout(path, "the class's name is not UTF-8"))?;
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(Error::layout(root, "no class folders; expected <class>/*.{png,jpg,jpeg}"));
    }
    Ok(names)
}

/// The images in a class folder, by name.
///
/// # Errors
/// If there is none, or the folder cannot be read.
pub(crate) fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let images: Vec<PathBuf> = entries(folder)?
        .into_iter()
        .filter(|entry| !entry.is_folder && is_image(&entry.name))
        .map(|entry| folder.join(entry.name))
        .collect();
    if images.is_empty() {
        return Err(Error::layout(folder, "no images; expected *.png, *.jpg or *.jpeg"));
    }
    Ok(images)
}

/// Whether a file of this name is taken for an image.
pub(crate) fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Something in a folder.
pub(crate) struct Entry {
    pub name: std::ffi::OsString,
    pub is_folder: bool,
}

/// What is in a folder, by name, without names that begin with a dot.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // The listing itself says what an entry is, except where a link points: with a million
        // images, asking the file system again is slow.
        let kind = entry.file_type().map_err(Error::io(entry.path()))?;
        let is_folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
        found.push(Entry { name, is_folder });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
