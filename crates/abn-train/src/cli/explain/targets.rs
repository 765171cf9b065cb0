//! Where what is written goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::images::Picture;

/// Panels of a sheet.
pub const ROWS: usize = 10;

/// The names of all files of a command.
pub struct Targets {
    out: PathBuf,
    /// One for each [`ROWS`] images, if there are several.
    pub sheets: Vec<PathBuf>,
}

impl Targets {
    /// Refuses names that two files would have, and names of the images themselves.
    pub fn new(
        out: &Path,
        pictures: &[Picture],
        methods: &[String],
        extensions: &[&str],
    ) -> Result<Self> {
        if out.exists() && !out.is_dir() {
            bail!("--out {} is no folder", out.display());
        }
        let count = if pictures.len() > 1 { pictures.len().div_ceil(ROWS) } else { 0 };
        let sheet = |number: usize| match count {
            1 => out.join("sheet.png"),
            _ => out.join(format!("sheet-{number}.png")),
        };
        let targets = Self { out: out.to_owned(), sheets: (1..=count).map(sheet).collect() };
        let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
        for picture in pictures {
            let of = |method: &String| {
                extensions
                    .iter()
                    .map(|extension| targets.file(picture, method, extension))
                    .collect()
            };
            let mut files: Vec<PathBuf> =
                methods.iter().flat_map(|m| -> Vec<_> { of(m) }).collect();
            files.push(targets.panel(picture));
            for file in files {
                if let Some(other) = taken.insert(file.clone(), &picture.path) {
                    bail!(
                        "{} and {} would both become {}; name the folder above class folders instead, or explain them one by one",
                        other.display(),
                        picture.path.display(),
                        file.display()
                    );
                }
            }
        }
        // Written by their true names: a folder may have several.
        let sources: Vec<_> =
            pictures.iter().filter_map(|p| fs::canonicalize(&p.path).ok()).collect();
        let sources: std::collections::BTreeSet<_> = sources.into_iter().collect();
        for file in taken.keys().chain(&targets.sheets) {
            if fs::canonicalize(file).is_ok_and(|file| sources.contains(&file)) {
                bail!(
                    "{} is one of the images, and would be written over; choose another --out",
                    file.display()
                );
            }
        }
        Ok(targets)
    }

    /// A method's picture, or its map.
    pub fn file(&self, picture: &Picture, method: &str, extension: &str) -> PathBuf {
        self.named(picture, &format!("-{method}.{extension}"))
    }

    /// All methods' pictures side by side.
    pub fn panel(&self, picture: &Picture) -> PathBuf {
        self.named(picture, "-panel.png")
    }

    fn named(&self, picture: &Picture, end: &str) -> PathBuf {
        let mut path = self.out.join(&picture.stem).into_os_string();
        path.push(end);
        path.into()
    }

    /// Makes the folders that these images' files go to.
    pub fn make_folders(&self, picture: &Picture) -> Result<()> {
        let panel = self.panel(picture);
        let folder = panel.parent().unwrap_or(&self.out);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
    }
}
