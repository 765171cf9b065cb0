//! Checking what the user placed, of a dataset that may not be downloaded for them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::manifest::{PlacedFile, PlacedFolder, PlacedList, Register, is_plain};

/// How many of a list's missing files are named.
const NAMED: usize = 3;

/// What was found, a line each.
#[derive(Debug, Default)]
pub struct Report {
    /// What is as it should be.
    pub fine: Vec<String>,
    /// What is missing, but may be.
    pub absent: Vec<String>,
    /// What is missing or wrong.
    pub problems: Vec<String>,
}

/// Compares a folder with what should be in it.
///
/// # Errors
/// If something that is there cannot be read.
pub fn check(register: &Register, raw: &Path) -> Result<Report> {
    let mut report = Report::default();
    for folder in &register.folders {
        report.folder(folder, raw)?;
    }
    for list in &register.lists {
        report.list(list, raw)?;
    }
    for file in &register.files {
        report.file(file, raw)?;
    }
    Ok(report)
}

impl Report {
    fn file(&mut self, expected: &PlacedFile, raw: &Path) -> Result<()> {
        let path = raw.join(&expected.path);
        let Ok(data) = fs::metadata(&path) else {
            match &expected.optional {
                Some(why) => self.absent.push(format!("{} is not there: {why}", expected.path)),
                None => self.problems.push(format!("{} is missing", expected.path)),
            }
            return Ok(());
        };
        let size = data.len();
        if let Some(bytes) = expected.bytes.filter(|&bytes| bytes != size) {
            self.problems.push(format!("{} has {size} bytes, expected {bytes}", expected.path));
        } else if let Some(mismatch) = expected.hashes()?.mismatch(&path)? {
            self.problems.push(format!("{} {mismatch}", expected.path));
        } else if let Some(lines) = expected.lines {
            self.lines(&expected.path, text(&path)?.lines().count(), lines);
        } else {
            self.fine.push(format!("{}: {size} bytes", expected.path));
        }
        Ok(())
    }

    fn folder(&mut self, expected: &PlacedFolder, raw: &Path) -> Result<()> {
        let PlacedFolder { path, suffix, files, subfolders } = expected;
        let folder = raw.join(path);
        if !folder.is_dir() {
            self.problems.push(format!("{path}/ is missing"));
            return Ok(());
        }
        let mut found = (0, 0);
        for entry in entries(&folder)? {
            let entry = entry?;
            // `path().is_dir()` follows links, as readers do.
            if entry.path().is_dir() {
                found.1 += 1;
                for entry in entries(&entry.path())? {
                    found.0 += usize::from(entry?.file_name().to_string_lossy().ends_with(suffix));
                }
            } else {
                found.0 += usize::from(entry.file_name().to_string_lossy().ends_with(suffix));
            }
        }
        let what = format!("{path}/: {} *{suffix} files in {} subfolders", found.0, found.1);
        if found.0 == *files && subfolders.contains(&found.1) {
            self.fine.push(what);
        } else {
            let subfolders: Vec<_> = subfolders.iter().map(usize::to_string).collect();
            self.problems.push(format!("{what}, expected {files} in {}", subfolders.join(" or ")));
        }
        Ok(())
    }

    fn list(&mut self, expected: &PlacedList, raw: &Path) -> Result<()> {
        let path = raw.join(&expected.path);
        if !path.is_file() {
            self.problems.push(format!("{} is missing", expected.path));
            return Ok(());
        }
        let text = text(&path)?;
        let below = raw.join(&expected.below);
        let names = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let missing = |name: &&str| !is_plain(Path::new(name)) || !below.join(name).is_file();
        let missing: Vec<_> = names().filter(missing).collect();
        if missing.is_empty() {
            self.lines(&expected.path, names().count(), expected.lines);
        } else {
            let more = if missing.len() > NAMED { ", …" } else { "" };
            self.problems.push(format!(
                "{} names {} files that are not below {}/: {}{more}",
                expected.path,
                missing.len(),
                expected.below,
                missing[..missing.len().min(NAMED)].join(", ")
            ));
        }
        Ok(())
    }

    fn lines(&mut self, path: &str, found: usize, expected: usize) {
        if found == expected {
            self.fine.push(format!("{path}: {found} lines"));
        } else {
            self.problems.push(format!("{path} has {found} lines, expected {expected}"));
        }
    }
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn entries(folder: &Path) -> Result<fs::ReadDir> {
    fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))
}
