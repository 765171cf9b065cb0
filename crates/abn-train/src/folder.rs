//! The folder of a run: what lies where, whose it is, and who may write to it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Recipe, Result, Summary, files};

/// Paths inside a run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

/// What a folder holds, seen from a recipe.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing of use: the run starts.
    Nothing,
    /// An unfinished run of the same recipe.
    Unfinished,
    /// A finished run of the same recipe.
    Finished(Box<Summary>),
}

/// The right to write to a run's folder, as long as it lives.
pub(crate) struct Claim {
    _lock: File,
}

impl RunFolder {
    /// The paths of a run in this folder, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `recipe.toml`: the resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// `metrics.jsonl`: a line per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `metrics.csv`: the same for spreadsheets.
    pub fn metrics_csv(&self) -> PathBuf {
        self.root.join("metrics.csv")
    }

    /// `events.out.tfevents.0.abn`: the same for TensorBoard, which knows its files by the middle
    /// of their names. One name for all runs: what follows it elsewhere (time, host) would differ
    /// between equal runs.
    pub fn events(&self) -> PathBuf {
        self.root.join("events.out.tfevents.0.abn")
    }

    /// `attributes.csv`, of several tasks: how well each is known, after the last epoch.
    pub fn attributes(&self) -> PathBuf {
        self.root.join("attributes.csv")
    }

    /// `confusion.csv`, of one task: how often each class was taken for each, after the last epoch.
    pub fn confusion(&self) -> PathBuf {
        self.root.join("confusion.csv")
    }

    /// `report.html`: the run so far, for people.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `summary.json`: there once the run is finished.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// `last/`: the checkpoint to resume from.
    pub fn last(&self) -> PathBuf {
        self.root.join("last")
    }

    /// `best/`: the weights after the epoch with the lowest test error.
    pub fn best(&self) -> PathBuf {
        self.root.join("best")
    }

    fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// What the folder holds; changes nothing.
    ///
    /// # Errors
    /// If it holds a run of another recipe, or files that are no run's, and `force` is not given.
    pub(crate) fn inspect(&self, recipe: &Recipe, force: bool) -> Result<Found> {
        if force {
            return Ok(Found::Nothing);
        }
        if !self.recipe().exists() {
            return match self.foreign_file()? {
                Some(found) => Err(Error::NotEmpty { path: self.root.clone(), found }),
                None => Ok(Found::Nothing),
            };
        }
        let differences = recipe.differences(&Recipe::load(&self.recipe())?);
        if !differences.is_empty() {
            return Err(Error::OtherRun { path: self.root.clone(), differences });
        }
        Ok(match Summary::read(&self.summary())? {
            Some(summary) => Found::Finished(Box::new(summary)),
            None => Found::Unfinished,
        })
    }

    /// The first name in the folder that no run writes.
    fn foreign_file(&self) -> Result<Option<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot read", &self.root)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("cannot read", &self.root))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != ".lock" && name != "recipe.toml.tmp");
        Ok(names.into_iter().min())
    }

    /// Makes the folder this process's to write to, ready to start or to resume.
    ///
    /// # Errors
    /// If another process trains there.
    pub(crate) fn claim(&self, recipe: &Recipe, header: &str, force: bool) -> Result<Claim> {
        fs::create_dir_all(&self.root).map_err(Error::io("cannot create", &self.root))?;
        let path = self.lock();
        let lock = File::create(&path).map_err(Error::io("cannot write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: self.root.clone() }),
            Err(TryLockError::Error(error)) => return Err(Error::io("cannot lock", &path)(error)),
        }
        if force {
            // The summary first: without it, no half-removed run passes for a finished one.
            for path in [
                self.summary(),
                self.last(),
                self.best(),
                self.metrics(),
                self.metrics_csv(),
                self.events(),
                self.confusion(),
                self.report(),
                self.recipe(),
            ] {
                files::recover_folder(&path)?;
                files::remove(&path)?;
            }
        }
        files::recover_folder(&self.last())?;
        files::recover_folder(&self.best())?;
        if !self.recipe().exists() {
            let text = format!("{header}\n{}", recipe.to_toml());
            files::replace_file(&self.recipe(), text.as_bytes())?;
        }
        Ok(Claim { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_runs_and_one_processes() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(&root.path().join("run"));
        let recipe = Recipe::default();
        assert!(matches!(folder.inspect(&recipe, false), Ok(Found::Nothing)));
        let claim = folder.claim(&recipe, "# made by a test", false).unwrap();
        assert!(matches!(folder.inspect(&recipe, false), Ok(Found::Unfinished)));
        let busy = folder.claim(&recipe, "", false).err().expect("the folder is claimed");
        assert!(matches!(busy, Error::Busy { .. }), "{busy}");
        drop(claim);
        folder.claim(&recipe, "", false).unwrap();
        let text = fs::read_to_string(folder.recipe()).unwrap();
        assert!(text.starts_with("# made by a test\n"), "{text}");

        let other = Recipe { seed: 3, ..Recipe::default() };
        let said = folder.inspect(&other, false).unwrap_err().to_string();
        assert!(said.contains("seed = 0 there, 3 asked for") && said.contains("--force"), "{said}");
        fs::create_dir(folder.last()).unwrap();
        assert!(matches!(folder.inspect(&other, true), Ok(Found::Nothing)));
        folder.claim(&other, "", true).unwrap();
        assert_eq!(Recipe::load(&folder.recipe()).unwrap(), other);
        assert!(!folder.last().exists());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "words").unwrap();
        let folder = RunFolder::new(root.path());
        let said = folder.inspect(&Recipe::default(), false).unwrap_err().to_string();
        assert!(said.contains("thesis.tex"), "{said}");
        folder.claim(&Recipe::default(), "", true).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("thesis.tex")).unwrap(), "words");
    }
}
