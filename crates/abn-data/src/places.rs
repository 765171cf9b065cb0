//! Where a dataset's files are looked for.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folders that may hold a dataset's files, and what to say if they do not.
#[derive(Debug)]
pub(crate) struct Places {
    dataset: String,
    folders: Vec<PathBuf>,
    help: &'static str,
}

impl Places {
    /// The user's folder, or else the usual ones.
    pub fn new(
        dataset: &str,
        folder: Option<&Path>,
        defaults: &[&str],
        help: &'static str,
    ) -> Self {
        let folders = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => defaults.iter().map(PathBuf::from).collect(),
        };
        Self { dataset: dataset.to_owned(), folders, help }
    }

    /// Looks into these folders of each folder too, before the folder itself.
    pub fn with_folders(mut self, names: &[&str]) -> Self {
        let within = |folder: PathBuf| {
            let mut folders: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
            folders.push(folder);
            folders
        };
        self.folders = self.folders.into_iter().flat_map(within).collect();
        self
    }

    /// The first file that is there, by folder and then by name: names of the same file.
    pub fn find(&self, names: &[&str]) -> Result<PathBuf> {
        let paths = self.folders.iter().flat_map(|f| names.iter().map(move |name| f.join(name)));
        let found = paths.into_iter().find(|path| path.is_file());
        found.ok_or_else(|| self.missing(&names.join(" or ")))
    }

    /// The first of the folders that holds a folder of this name.
    pub fn find_folder(&self, name: &str) -> Result<PathBuf> {
        let found = self.folders.iter().find(|folder| folder.join(name).is_dir());
        found.cloned().ok_or_else(|| self.missing(&format!("{name}/")))
    }

    /// The file `name` or `name.gz`.
    pub fn find_idx(&self, name: &str) -> Result<PathBuf> {
        let zipped = format!("{name}.gz");
        self.find(&[name, &zipped]).map_err(|_| self.missing(&format!("{name}[.gz]")))
    }

    /// The error that says that `file` is in none of the folders.
    pub fn missing(&self, file: &str) -> Error {
        Error::Missing {
            dataset: self.dataset.clone(),
            file: file.to_owned(),
            looked_in: self.folders.clone(),
            help: self.help,
        }
    }
}
