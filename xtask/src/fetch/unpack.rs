//! Unpacking what came from elsewhere: only the files that the manifest lists, only below one
//! folder, never more bytes than it says, and all of them or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::manifest::{Download, Kept, Packing};

/// Most bytes of a file whose size the manifest does not say.
const SMALL: u64 = 1 << 20;
/// Bytes that an archive may have beside the listed files: headers, and small files that are left out.
const BESIDE: u64 = 4 << 20;

/// Unpacks `archive` into an empty folder, and checks what came out.
///
/// # Errors
/// If the archive is damaged, lacks a listed file, has one of another size or hash, is larger
/// than the manifest says, or has an entry that is a link or would leave the folder.
pub fn unpack(download: &Download, packing: Packing, archive: &Path, into: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let kept = download.kept();
    match packing {
        Packing::Gzip => gunzip(file, &kept, into),
        Packing::TarGz => untar(file, &kept, into),
    }
    .with_context(|| format!("cannot unpack {}", archive.display()))?;
    for kept in &kept {
        if let Finding::Wrong(problem) = examine(kept, into, true)? {
            bail!("{problem}");
        }
        ensure!(into.join(&kept.path).is_file(), "{} has no {}", archive.display(), kept.path);
    }
    Ok(())
}

/// How a file that should stay is found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// There, and right as far as it is known.
    Fine,
    /// Not there.
    Missing,
    /// There, but another: says what differs.
    Wrong(String),
}

/// Compares a file in `folder` with what the manifest says; its hash only if `hash` is set.
///
/// # Errors
/// If the file cannot be read.
pub fn examine(kept: &Kept, folder: &Path, hash: bool) -> Result<Finding> {
    let path = folder.join(&kept.path);
    let Ok(data) = fs::metadata(&path) else { return Ok(Finding::Missing) };
    let wrong = |problem: String| Ok(Finding::Wrong(format!("{} {problem}", path.display())));
    if !data.is_file() {
        return wrong("is no file".into());
    }
    if let Some(bytes) = kept.bytes.filter(|&bytes| bytes != data.len()) {
        return wrong(format!("has {} bytes, expected {bytes}", data.len()));
    }
    let mismatch = if hash { kept.hashes()?.mismatch(&path)? } else { None };
    mismatch.map_or(Ok(Finding::Fine), wrong)
}

fn gunzip(archive: File, kept: &[Kept], into: &Path) -> Result<()> {
    let [Kept { path, bytes: Some(bytes), .. }] = kept else { bail!("the manifest lists no file") };
    let mut reader = Bounded { from: GzDecoder::new(archive), left: *bytes };
    write(&mut reader, &into.join(path))
}

fn untar(archive: File, kept: &[Kept], into: &Path) -> Result<()> {
    let listed: u64 = kept.iter().map(|kept| kept.bytes.unwrap_or(SMALL)).sum();
    let bounded = Bounded { from: GzDecoder::new(archive), left: listed + BESIDE };
    let mut archive = Archive::new(bounded);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = inside(&entry.path()?)?;
        match entry.header().entry_type() {
            EntryType::Regular => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            other => bail!("{} is neither file nor folder, but {other:?}", path.display()),
        }
        let Some(kept) = kept.iter().find(|kept| Path::new(&kept.path) == path) else { continue };
        let size = entry.size();
        match kept.bytes {
            Some(bytes) => {
                ensure!(size == bytes, "{} has {size} bytes, expected {bytes}", kept.path)
            }
            None => ensure!(size <= SMALL, "{} has {size} bytes, expected few", kept.path),
        }
        write(&mut entry, &into.join(path))?;
    }
    // The checksum of the whole stands at its end.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// An entry's path, without `.`; refuses one that leads elsewhere.
fn inside(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => bail!("{:?} would lie outside the folder", path),
        }
    }
    Ok(plain)
}

/// Writes a file that must not be there yet.
fn write(from: &mut impl Read, path: &Path) -> Result<()> {
    let folder = path.parent().ok_or_else(|| anyhow!("{} is no file", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    io::copy(from, &mut file).with_context(|| path.display().to_string())?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// A reader that fails when more comes out than may.
struct Bounded<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("unpacks to more than the manifest says"))?;
        Ok(n)
    }
}
