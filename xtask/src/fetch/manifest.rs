//! What `datasets/NAME.toml` says of a dataset.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::hashes::Hashes;

/// The folder of the manifests; a dataset's own files go to `NAME/raw` in it.
fn datasets() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).join("datasets")
}

/// A dataset: what it is, and either what to download or where to register.
///
/// A manifest may say more than this reads, for people and for other commands.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The name that `fetch` takes, also the manifest's file name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// The publisher's page.
    pub homepage: String,
    /// Under which terms, and who says so.
    pub licence: String,
    /// What lies where once it is there.
    pub layout: String,
    /// The publisher's files.
    #[serde(default, rename = "download")]
    pub downloads: Vec<Download>,
    /// For a dataset that nobody may download without asking.
    pub register: Option<Register>,
}

/// A file of the publisher's, and what comes out of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The official address, then mirrors; all end in the file's name.
    pub urls: Vec<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// MD5, where the publisher gives it.
    md5: Option<String>,
    /// SHA-256.
    sha256: Option<String>,
    /// How it is packed; without it, the file is kept as it is.
    pub unpack: Option<Packing>,
    /// What is unpacked from it; nothing else is.
    #[serde(default)]
    files: Vec<Kept>,
}

/// How a download is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Packing {
    /// One file, gzipped.
    #[serde(rename = "gzip")]
    Gzip,
    /// A gzipped tar archive of one folder.
    #[serde(rename = "tar.gz")]
    TarGz,
}

/// A file that stays.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Where, inside `raw`.
    pub path: String,
    /// Size in bytes, if it is known; otherwise it is small.
    pub bytes: Option<u64>,
    md5: Option<String>,
    sha256: Option<String>,
}

/// Where a dataset that needs registration comes from, and what must be there then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where to register.
    pub url: String,
    /// What to do.
    pub how: String,
    /// Single files.
    #[serde(default)]
    pub files: Vec<PlacedFile>,
    /// Folders of many files.
    #[serde(default)]
    pub folders: Vec<PlacedFolder>,
    /// Lists of files.
    #[serde(default)]
    pub lists: Vec<PlacedList>,
}

/// A file that the user places.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedFile {
    /// Where, inside `raw`.
    pub path: String,
    /// Size in bytes, if it is known.
    pub bytes: Option<u64>,
    /// Number of lines, if it is a text.
    pub lines: Option<usize>,
    /// Why it may be missing, if it may.
    pub optional: Option<String>,
    md5: Option<String>,
    sha256: Option<String>,
}

/// A folder that the user places.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedFolder {
    /// Where, inside `raw`.
    pub path: String,
    /// End of the names that count, in this spelling.
    pub suffix: String,
    /// How many, in the folder and its subfolders together.
    pub files: usize,
    /// How many subfolders there may be: 0 for none.
    pub subfolders: Vec<usize>,
}

/// A text file each of whose lines names a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedList {
    /// Where, inside `raw`.
    pub path: String,
    /// Number of lines.
    pub lines: usize,
    /// The folder, inside `raw`, below which the files lie.
    pub below: String,
}

impl Manifest {
    /// The manifest of a dataset in the repository.
    ///
    /// # Errors
    /// If there is none of that name (lists those there are), or it cannot be used.
    pub fn find(name: &str) -> Result<Self> {
        let names = Self::names()?;
        ensure!(
            names.iter().any(|known| known == name),
            "no manifest for the dataset {name:?}; there are {}",
            names.join(", ")
        );
        Self::load(&datasets().join(format!("{name}.toml")))
    }

    /// The names of all manifests in the repository, in alphabetical order.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn names() -> Result<Vec<String>> {
        let folder = datasets();
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// If the file cannot be read or says what cannot be: names the file.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest = Self::parse(&text).with_context(|| path.display().to_string())?;
        let stem = path.file_stem().unwrap_or_default();
        ensure!(stem == manifest.name.as_str(), "{} is named {:?}", path.display(), manifest.name);
        Ok(manifest)
    }

    /// Checks a manifest given as text.
    ///
    /// # Errors
    /// If it says what cannot be.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        ensure!(
            manifest.downloads.is_empty() == manifest.register.is_some(),
            "needs either [[download]] or [register]"
        );
        let mut paths = Vec::new();
        for download in &manifest.downloads {
            let what = || format!("download {:?}", download.urls);
            download.check().with_context(what)?;
            paths.extend(download.kept().into_iter().map(|kept| kept.path));
            paths.push(download.name().to_owned());
        }
        if let Some(register) = &manifest.register {
            for file in &register.files {
                file.hashes().with_context(|| file.path.clone())?;
                paths.push(file.path.clone());
            }
            paths.extend(register.folders.iter().map(|folder| folder.path.clone()));
            paths.extend(register.lists.iter().flat_map(|l| [l.path.clone(), l.below.clone()]));
        }
        for path in &paths {
            ensure!(is_plain(Path::new(path)), "path {path:?} may not leave the dataset's folder");
        }
        Ok(manifest)
    }

    /// Where the dataset's files go unless the user says otherwise.
    pub fn raw_folder(&self) -> PathBuf {
        datasets().join(&self.name).join("raw")
    }

    /// Bytes to download.
    pub fn bytes(&self) -> u64 {
        self.downloads.iter().map(|download| download.bytes).sum()
    }
}

impl Download {
    /// The file's name.
    pub fn name(&self) -> &str {
        let url = self.urls.first().map_or("", String::as_str);
        url.rsplit('/').next().unwrap_or_default()
    }

    /// The file's hashes.
    ///
    /// # Errors
    /// If one is no hash, which [`Manifest::parse`] has ruled out.
    pub fn hashes(&self) -> Result<Hashes> {
        Hashes::new(self.md5.as_deref(), self.sha256.as_deref())
    }

    /// What stays of it: the files unpacked from it, or itself.
    pub fn kept(&self) -> Vec<Kept> {
        if self.unpack.is_some() {
            return self.files.clone();
        }
        let (md5, sha256) = (self.md5.clone(), self.sha256.clone());
        vec![Kept { path: self.name().to_owned(), bytes: Some(self.bytes), md5, sha256 }]
    }

    /// What appears in the dataset's folder at once, by a rename: a file, or an archive's folder.
    pub fn top(&self) -> String {
        let kept = self.kept();
        let first = kept.first().map_or("", |kept| kept.path.as_str());
        match self.unpack {
            Some(Packing::TarGz) => first.split('/').next().unwrap_or_default().to_owned(),
            _ => first.to_owned(),
        }
    }

    fn check(&self) -> Result<()> {
        let name = self.name();
        ensure!(!name.is_empty(), "needs `urls` that end in a file's name");
        ensure!(
            self.urls.iter().all(|url| url.rsplit('/').next() == Some(name)),
            "the urls end in different names"
        );
        ensure!(!self.hashes()?.is_empty(), "needs `md5` or `sha256`");
        for kept in &self.files {
            kept.hashes().with_context(|| kept.path.clone())?;
        }
        match self.unpack {
            None => ensure!(self.files.is_empty(), "has `files`, but is not unpacked"),
            Some(Packing::Gzip) => ensure!(
                self.files.len() == 1 && self.files[0].bytes.is_some(),
                "a gzipped file unpacks to one of `files`, with its `bytes`"
            ),
            Some(Packing::TarGz) => {
                let top = self.top();
                let inside = |kept: &Kept| {
                    Path::new(&kept.path).starts_with(&top) && kept.path.contains('/')
                };
                if self.files.is_empty() || !self.files.iter().all(inside) {
                    bail!("an archive needs `files`, all in one folder");
                }
            }
        }
        Ok(())
    }
}

impl Kept {
    /// The file's hashes; none if nobody publishes them.
    ///
    /// # Errors
    /// As [`Download::hashes`].
    pub fn hashes(&self) -> Result<Hashes> {
        Hashes::new(self.md5.as_deref(), self.sha256.as_deref())
    }
}

impl PlacedFile {
    /// The file's hashes; none if nobody publishes them.
    ///
    /// # Errors
    /// As [`Download::hashes`].
    pub fn hashes(&self) -> Result<Hashes> {
        Hashes::new(self.md5.as_deref(), self.sha256.as_deref())
    }
}

/// Whether a path stays inside the folder it is joined to.
pub fn is_plain(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}
