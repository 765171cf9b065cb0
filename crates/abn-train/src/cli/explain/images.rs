//! The images that are asked for.

use std::fs;
use std::path::{Path, PathBuf};

use abn_data::Image;
use anyhow::{Context, Result, bail};

/// An image to explain.
pub struct Picture {
    pub path: PathBuf,
    /// What its pictures' names begin with, under the folder for them: the file's name, after the
    /// class folder's where a folder was asked for.
    pub stem: PathBuf,
    /// Its true class, by the folder that it lies in.
    pub truth: Option<usize>,
}

impl Picture {
    fn new(path: PathBuf, folder: &Path, classes: &[String]) -> Self {
        let stem = folder.join(path.file_stem().unwrap_or(path.as_os_str()));
        let around = fs::canonicalize(&path).ok();
        let around = around.as_ref().and_then(|path| path.parent()?.file_name()?.to_str());
        let truth = around.and_then(|name| classes.iter().position(|class| class == name));
        Self { path, stem, truth }
    }

    pub fn read(&self) -> Result<Image> {
        read(&self.path)
    }

    /// What it is called below its pictures: the file's name, after the class folder's as in `stem`.
    pub fn name(&self) -> String {
        let file = self.path.file_name().unwrap_or(self.path.as_os_str());
        self.stem.with_file_name(file).display().to_string()
    }
}

/// Decodes an image; the error names the file, and what was expected.
pub fn read(path: &Path) -> Result<Image> {
    match abn_data::read_image(path) {
        Err(error @ abn_data::Error::Image { .. }) => {
            bail!("{error}; expected a whole PNG or JPEG file")
        }
        read => Ok(read?),
    }
}

/// The files, and the folders' images in the order of their names: those in the folder itself, then
/// those in folders within it that are named like a class.
pub fn list(asked: &[PathBuf], classes: &[String]) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for path in asked {
        if !path.is_dir() {
            pictures.push(Picture::new(path.clone(), Path::new(""), classes));
            continue;
        }
        let before = pictures.len();
        let (files, folders) = entries(path)?;
        let none = Path::new("");
        pictures.extend(files.into_iter().map(|file| Picture::new(file, none, classes)));
        for folder in folders {
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if classes.iter().any(|class| class == name) {
                let files = entries(&folder)?.0;
                let within = Path::new(name);
                pictures.extend(files.into_iter().map(|file| Picture::new(file, within, classes)));
            }
        }
        if pictures.len() == before {
            bail!(
                "no images in {}; expected *.png, *.jpg or *.jpeg in it, or in folders named like the network's classes",
                path.display()
            );
        }
    }
    Ok(pictures)
}

/// The images and the folders in a folder, each by name. Names that begin with a dot are passed over.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let reading = || format!("cannot read {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let (folders, mut files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    files.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    Ok((files, folders))
}
