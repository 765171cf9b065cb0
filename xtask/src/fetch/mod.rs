//! `cargo xtask fetch …`: datasets from their publishers, verified.
//!
//! `datasets/NAME.toml` says what to download, how large it is and which hash it has; the files go to
//! `datasets/NAME/raw`. A file has its final name only once it is whole and verified, so a
//! cut connection, a kill or a wrong server leaves nothing that a reader would take for data.

mod hashes;
mod http;
mod manifest;
mod meter;
mod placed;
mod transfer;
mod unpack;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use hashes::hex;
pub use manifest::Manifest;

use http::Client;
use manifest::{Download, Register};
use meter::{Meter, size};
use transfer::{Part, Transfer};
use unpack::{Finding, examine, unpack};

/// Download datasets from their publishers, and verify and unpack them
///
/// Files go to datasets/NAME/raw. A download that was cut goes on where it stopped. For datasets
/// that need registration, says where to get them, and checks what you placed there.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Datasets, as --list names them
    #[arg(value_name = "DATASET", required_unless_present = "list")]
    datasets: Vec<String>,
    /// List the datasets: size, licence, and what is there
    #[arg(long)]
    list: bool,
    /// Download nothing; fail unless everything is there and right
    #[arg(long)]
    check: bool,
    /// Only files with this in their name, such as `train,test`
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<String>,
    /// Take the files from this address, such as a mirror of your own
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Folder for the files, if it is one dataset [default: datasets/DATASET/raw]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Replace files that are there, but wrong
    #[arg(long)]
    force: bool,
}

/// That Ctrl-C ended the command.
#[derive(Debug)]
pub struct Stopped;

impl std::error::Error for Stopped {}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped; the same command goes on from here")
    }
}

/// Runs the command.
///
/// # Errors
/// If a dataset is not known, cannot be downloaded, is not what its manifest says, or, with
/// `--check` or where it needs registration, is not there; [`Stopped`] after Ctrl-C.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        return list();
    }
    ensure!(args.to.is_none() || args.datasets.len() == 1, "--to takes one dataset");
    let manifests = args.datasets.iter().map(|name| Manifest::find(name));
    let manifests = manifests.collect::<Result<Vec<_>>>()?;
    let stop = crate::stop_on_ctrl_c("")?;
    let client = Client::new();
    for manifest in &manifests {
        let fetch = Fetch {
            raw: args.to.clone().unwrap_or_else(|| manifest.raw_folder()),
            check: args.check,
            only: &args.only,
            base_url: args.base_url.as_deref(),
            force: args.force,
            client: &client,
            pause: Duration::from_millis(500),
            quiet: false,
            stop: &stop,
        };
        fetch.dataset(manifest).with_context(|| manifest.name.clone())?;
    }
    Ok(())
}

fn list() -> Result<()> {
    for name in Manifest::names()? {
        let manifest = Manifest::find(&name)?;
        let raw = manifest.raw_folder();
        let how = match &manifest.register {
            Some(register) => format!("on registration at {}", register.url),
            None => format!("{} to download", size(manifest.bytes())),
        };
        let mut there = 0;
        for download in &manifest.downloads {
            there += usize::from(state(download, &raw, false)? == State::Done);
        }
        let there = match (&manifest.register, there) {
            (Some(_), _) if raw.is_dir() => "; `--check` looks at what was placed".into(),
            (Some(_), _) | (None, 0) => String::new(),
            (None, n) if n == manifest.downloads.len() => "; is there".into(),
            (None, n) => format!("; {n} of {} files are there", manifest.downloads.len()),
        };
        println!("{name}: {}\n    {how}{there}\n    licence: {}", manifest.title, manifest.licence);
    }
    Ok(())
}

/// How a dataset is fetched.
struct Fetch<'a> {
    raw: PathBuf,
    check: bool,
    only: &'a [String],
    base_url: Option<&'a str>,
    force: bool,
    client: &'a Client,
    pause: Duration,
    quiet: bool,
    stop: &'a AtomicBool,
}

/// What is there of a download's files.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Absent,
    Done,
    Wrong(String),
}

/// Looks at a download's files; at their hashes only if `hash` is set.
fn state(download: &Download, raw: &Path, hash: bool) -> Result<State> {
    let mut missing = Vec::new();
    let kept = download.kept();
    for file in &kept {
        match examine(file, raw, hash)? {
            Finding::Fine => {}
            Finding::Missing => missing.push(&file.path),
            Finding::Wrong(problem) => return Ok(State::Wrong(problem)),
        }
    }
    let top = raw.join(download.top());
    Ok(match missing.first() {
        None => State::Done,
        Some(_) if !top.exists() => State::Absent,
        Some(path) => State::Wrong(format!("{} is there, but not {path}", top.display())),
    })
}

impl Fetch<'_> {
    /// Brings a dataset's files, or checks what the user placed.
    fn dataset(&self, manifest: &Manifest) -> Result<()> {
        self.say(&format!("{}\n  licence: {}", manifest.title, manifest.licence));
        self.say(&format!("  homepage: {}", manifest.homepage));
        self.say(&format!("  folder: {}", self.raw.display()));
        if let Some(register) = &manifest.register {
            return self.placed(manifest, register);
        }
        let wanted = |download: &&Download| {
            self.only.is_empty() || self.only.iter().any(|part| download.name().contains(part))
        };
        let downloads: Vec<_> = manifest.downloads.iter().filter(wanted).collect();
        ensure!(!downloads.is_empty(), "no file's name has {:?} in it", self.only.join(","));
        // Everything is looked at before anything is downloaded.
        let mut todo = Vec::new();
        for download in downloads {
            match state(download, &self.raw, true)? {
                State::Done => self.say(&format!("{} is there, as it should be", download.top())),
                State::Absent if self.check => bail!("{} is not there", download.top()),
                State::Wrong(problem) if self.check => bail!("{problem}"),
                State::Wrong(problem) if !self.force => {
                    bail!("{problem}; move it away, or let --force replace it")
                }
                State::Absent | State::Wrong(_) => todo.push(download),
            }
        }
        if todo.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for download in todo {
            self.download(download).with_context(|| download.name().to_owned())?;
        }
        Ok(())
    }

    /// Downloads a file, and puts what comes out of it in its place.
    fn download(&self, download: &Download) -> Result<()> {
        let name = download.name();
        let urls = match self.base_url {
            Some(base) => vec![format!("{}/{name}", base.trim_end_matches('/'))],
            None => download.urls.clone(),
        };
        let hashes = download.hashes()?;
        let transfer = Transfer {
            client: self.client,
            urls: &urls,
            bytes: download.bytes,
            hashes: &hashes,
            part: Part::of(&self.raw, name),
            pause: self.pause,
            stop: self.stop,
        };
        let mut meter = Meter::new(name, download.bytes, self.quiet);
        meter.say(&format!("{} from {}", size(download.bytes), urls[0]));
        let done = transfer.run(&mut meter);
        meter.done();
        done?;

        let part = transfer.part;
        let top = self.raw.join(download.top());
        if let Some(packing) = download.unpack {
            let staging = self.raw.join(format!(".{name}.unpacking"));
            clear(&staging)?;
            let unpacked = unpack(download, packing, part.path(), &staging)
                .and_then(|()| replace(&staging.join(download.top()), &top));
            clear(&staging)?;
            unpacked?;
        } else {
            replace(part.path(), &top)?;
        }
        part.remove()?;
        self.say(&format!("{} is there, verified", top.display()));
        Ok(())
    }

    /// Makes the folder this process's to write to.
    fn lock(&self) -> Result<File> {
        let writing = || format!("cannot write to {}", self.raw.display());
        fs::create_dir_all(&self.raw).with_context(writing)?;
        let lock = File::create(self.raw.join(".lock")).with_context(writing)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => bail!("another process fetches into this folder"),
            Err(TryLockError::Error(error)) => Err(error).with_context(writing),
        }
    }

    fn placed(&self, manifest: &Manifest, register: &Register) -> Result<()> {
        let report = placed::check(register, &self.raw)?;
        report.fine.iter().for_each(|line| self.say(&format!("  {line}, as it should be")));
        report.absent.iter().for_each(|line| self.say(&format!("  {line}")));
        if report.problems.is_empty() {
            return Ok(());
        }
        bail!(
            "needs registration, and is not complete:\n  {}\n\nGet it at {} and put it into {}:\n  {}\n\n\
             Then `cargo xtask fetch {}` checks it. Layout: {}",
            report.problems.join("\n  "),
            register.url,
            self.raw.display(),
            register.how.trim().replace('\n', "\n  "),
            manifest.name,
            manifest.layout,
        )
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }
}

/// Moves a verified file or folder to its place; what was there is removed after that.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let moving = || format!("cannot move {} to {}", from.display(), to.display());
    let mut old = to.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    if to.exists() {
        clear(&old)?;
        fs::rename(to, &old).with_context(moving)?;
    }
    fs::rename(from, to).with_context(moving)?;
    clear(&old)
}

/// Removes a file or folder, which may be missing.
fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests;
