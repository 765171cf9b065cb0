//! Writing such that a kill at any moment leaves either the old or the new, whole.
//!
//! What is written goes to a temporary name, is synced, and takes its place by a rename. A folder
//! cannot be renamed over another that holds files, so a folder is moved aside first
//! (`last` → `last.old`), and whoever reads looks there if the folder itself is missing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// `path` with more at the end of its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes renames and new names inside a folder survive a power cut.
fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix opens folders as files; elsewhere the file system sees to it.
    if cfg!(unix) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("cannot sync", folder))?;
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Writes a file in place, and waits until it is on disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(Error::io("cannot write", path))
}

/// Replaces a file at once.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path, ".tmp");
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(Error::io("cannot write", path))?;
    sync_parent(path)
}

/// Replaces a folder at once by what `fill` writes into an empty one.
///
/// `fill` must sync what it writes.
pub(crate) fn replace_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    recover_folder(path)?;
    let temporary = beside(path, ".tmp");
    let old = beside(path, ".old");
    remove(&temporary)?;
    fs::create_dir_all(&temporary).map_err(Error::io("cannot create", &temporary))?;
    fill(&temporary)?;
    sync_folder(&temporary)?;
    if path.exists() {
        fs::rename(path, &old).map_err(Error::io("cannot move", path))?;
    }
    fs::rename(&temporary, path).map_err(Error::io("cannot write", path))?;
    sync_parent(path)?;
    remove(&old)
}

/// Where a folder's last whole state lies: itself, or where a kill inside [`replace_folder`]
/// left it.
pub(crate) fn whole_folder(path: &Path) -> PathBuf {
    let old = beside(path, ".old");
    if !path.exists() && old.exists() { old } else { path.to_owned() }
}

/// Puts a folder's last whole state back in its place, and clears away what a kill left.
pub(crate) fn recover_folder(path: &Path) -> Result<()> {
    let old = beside(path, ".old");
    if !path.exists() && old.exists() {
        fs::rename(&old, path).map_err(Error::io("cannot move", &old))?;
    }
    remove(&old)?;
    remove(&beside(path, ".tmp"))
}

/// Removes a file or a folder, which may be missing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(Error::io("cannot remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| write_synced(&folder.join("file"), text.as_bytes())
    }

    fn read(folder: &Path) -> String {
        fs::read_to_string(whole_folder(folder).join("file")).unwrap()
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let last = root.path().join("last");
        replace_folder(&last, fill("one")).unwrap();
        replace_folder(&last, fill("two")).unwrap();
        assert_eq!(read(&last), "two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_failed_fill_leaves_the_old_state() {
        let root = tempfile::tempdir().unwrap();
        let last = root.path().join("last");
        replace_folder(&last, fill("one")).unwrap();
        let failed = replace_folder(&last, |folder| {
            write_synced(&folder.join("file"), b"half")?;
            Err(Error::Setting { key: "lr", problem: "made to fail".into() })
        });
        assert!(failed.is_err());
        assert_eq!(read(&last), "one");
    }

    #[test]
    fn a_kill_between_the_renames_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let last = root.path().join("last");
        replace_folder(&last, fill("one")).unwrap();
        fs::rename(&last, root.path().join("last.old")).unwrap();
        assert_eq!(read(&last), "one", "readers find it without moving anything");
        recover_folder(&last).unwrap();
        assert_eq!(read(&last), "one");
        assert!(!root.path().join("last.old").exists());
        replace_folder(&last, fill("two")).unwrap();
        assert_eq!(read(&last), "two");
    }
}
