//! A download that survives cut connections, kills and wrong servers.
//!
//! The bytes go to `NAME.part`, with where they came from in `NAME.part.json`. A later attempt,
//! in this process or another, asks for the rest. Only what has the right size and hash is ever
//! handed on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Stopped;
use super::hashes::Hashes;
use super::http::{Answer, Client, Failure, Origin};
use super::meter::Meter;

/// Attempts in a row that bring nothing new, before a server is given up.
const ATTEMPTS: u32 = 5;

/// What to download, and how.
pub struct Transfer<'a> {
    /// Sends the requests.
    pub client: &'a Client,
    /// Addresses of the same file, in the order to try them.
    pub urls: &'a [String],
    /// The file's size.
    pub bytes: u64,
    /// The file's hashes.
    pub hashes: &'a Hashes,
    /// Where its bytes go.
    pub part: Part,
    /// Pause after the first attempt that brought nothing; it doubles with each further one.
    pub pause: Duration,
    /// Ends the download, which can be resumed, when set.
    pub stop: &'a AtomicBool,
}

/// The file that a download goes to until it is whole.
pub struct Part {
    path: PathBuf,
    origin: PathBuf,
}

/// How an attempt ended that did not fail.
enum Attempt {
    /// Every byte is there.
    Whole,
    /// Something is missing; says why.
    Cut(String),
}

impl Part {
    /// The part of a file of this name.
    pub fn of(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.part"));
        Self { path, origin: folder.join(format!("{name}.part.json")) }
    }

    /// The part itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |data| data.len())
    }

    /// Removes it.
    ///
    /// # Errors
    /// If there is one, and it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for path in [&self.path, &self.origin] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where it came from; nothing known if that was not written or makes no sense.
    fn origin(&self) -> Origin {
        let read = fs::read(&self.origin).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Opens it to go on after the first `from` bytes.
    fn open(&self, from: u64, origin: &Origin) -> Result<File> {
        let writing = || format!("cannot write {}", self.path.display());
        // First shortened, then said to be another's: a kill between the two costs bytes only.
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        let mut file = options.open(&self.path).with_context(writing)?;
        file.set_len(from).with_context(writing)?;
        file.seek(SeekFrom::End(0)).with_context(writing)?;
        fs::write(&self.origin, serde_json::to_vec(origin)?)
            .with_context(|| format!("cannot write {}", self.origin.display()))?;
        Ok(file)
    }
}

impl Transfer<'_> {
    /// Brings the file to [`Part::path`], whole and verified.
    ///
    /// # Errors
    /// If no server gives it: says for each why. What was downloaded stays, to be gone on with,
    /// unless it is known to be wrong. [`Stopped`] if asked to stop.
    pub fn run(&self, meter: &mut Meter) -> Result<()> {
        let mut reasons = Vec::new();
        for url in self.urls {
            match self.ask_server(url, meter)? {
                None => return Ok(()),
                Some(reason) => {
                    meter.say(&format!("{url}: {reason}"));
                    reasons.push(format!("{url}: {reason}"));
                }
            }
        }
        bail!("cannot download it: {}", reasons.join("; "))
    }

    /// Brings the file from one server; or else says why it does not.
    fn ask_server(&self, url: &str, meter: &mut Meter) -> Result<Option<String>> {
        // Bytes that were there before may be what is wrong; then it is worth one fresh start.
        let mut inherited = self.part.bytes() > 0;
        loop {
            let mut joined = inherited;
            if let Some(reason) = self.complete(url, &mut joined, meter)? {
                return Ok(Some(reason));
            }
            let Some(mismatch) = self.hashes.mismatch(self.part.path())? else { return Ok(None) };
            self.part.remove()?;
            if !joined {
                return Ok(Some(format!("gave a file that {mismatch}; it was deleted")));
            }
            meter.say(&format!("what was put together {mismatch}; starting from the beginning"));
            inherited = false;
        }
    }

    /// Requests until every byte is there, or else says why it gives up. `joined` becomes
    /// whether the bytes stem from more than one answer.
    fn complete(&self, url: &str, joined: &mut bool, meter: &mut Meter) -> Result<Option<String>> {
        let (mut most, mut fruitless) = (self.part.bytes(), 0);
        loop {
            let reason = match self.attempt(url, joined, meter)? {
                Ok(Attempt::Whole) => return Ok(None),
                Ok(Attempt::Cut(reason)) | Err(Failure::Passing(reason)) => reason,
                Err(Failure::Final(reason)) => return Ok(Some(reason)),
            };
            // A server that starts anew each time, and is cut at the same place, brings nothing.
            fruitless = if self.part.bytes() > most { 0 } else { fruitless + 1 };
            most = most.max(self.part.bytes());
            if fruitless >= ATTEMPTS {
                return Ok(Some(format!(
                    "{reason} ({ATTEMPTS} attempts in a row brought nothing)"
                )));
            }
            let wait = self.pause * 2u32.pow(fruitless.saturating_sub(1));
            meter.say(&format!("{reason}; trying again"));
            self.sleep(wait)?;
        }
    }

    /// One request, and the bytes it brings.
    fn attempt(
        &self,
        url: &str,
        joined: &mut bool,
        meter: &mut Meter,
    ) -> Result<Result<Attempt, Failure>> {
        let have = self.part.bytes();
        if have == self.bytes {
            return Ok(Ok(Attempt::Whole));
        }
        if have > self.bytes {
            self.part.remove()?;
        }
        let have = self.part.bytes();
        let (from, origin, mut body) =
            match self.client.ask(url, self.bytes, have, &self.part.origin()) {
                Ok(Answer::Bytes { from, origin, body }) => (from, origin, body),
                Ok(Answer::NothingThere) => {
                    self.part.remove()?;
                    return Ok(Ok(Attempt::Cut("has no bytes where the part ends".into())));
                }
                Err(failure) => return Ok(Err(failure)),
            };
        *joined = from > 0;
        let mut file = self.part.open(from, &origin)?;
        meter.start(from);
        let (mut at, mut block) = (from, vec![0; 1 << 16]);
        loop {
            self.check_stop()?;
            let n = match body.read(&mut block) {
                Ok(0) => return Ok(Ok(self.ended(at))),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Ok(Attempt::Cut(format!("cut the connection: {error}")))),
            };
            at += n as u64;
            if at > self.bytes {
                drop(file);
                self.part.remove()?;
                let reason = format!("sends more than the {} bytes of the manifest", self.bytes);
                return Ok(Err(Failure::Final(reason)));
            }
            file.write_all(&block[..n])
                .with_context(|| format!("cannot write {}", self.part.path.display()))?;
            meter.at(at);
        }
    }

    fn ended(&self, at: u64) -> Attempt {
        if at == self.bytes {
            return Attempt::Whole;
        }
        Attempt::Cut(format!("ended after {at} of {} bytes", self.bytes))
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            self.check_stop()?;
            let slice = left.min(SLICE);
            std::thread::sleep(slice);
            left -= slice;
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Stopped.into()) } else { Ok(()) }
    }
}
