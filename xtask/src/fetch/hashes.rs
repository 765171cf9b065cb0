//! Checking a file's bytes against what its publisher says of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use md5::Md5;
use sha2::{Digest, Sha256};

/// What is known of a file's content: all of it must fit.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    md5: Option<String>,
    sha256: Option<String>,
}

impl Hashes {
    /// Hashes in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// If one has the wrong length or other characters.
    pub fn new(md5: Option<&str>, sha256: Option<&str>) -> Result<Self> {
        for (kind, digits, hash) in [("MD5", 32, md5), ("SHA-256", 64, sha256)] {
            let fine = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            if let Some(hash) = hash {
                ensure!(
                    hash.len() == digits && hash.bytes().all(fine),
                    "{hash:?} is no {kind}: expected {digits} lower-case hexadecimal digits"
                );
            }
        }
        Ok(Self { md5: md5.map(str::to_owned), sha256: sha256.map(str::to_owned) })
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.md5.is_none() && self.sha256.is_none()
    }

    /// Compares a file's content; `None` if it fits, otherwise what differs.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn mismatch(&self, path: &Path) -> Result<Option<String>> {
        if self.is_empty() {
            return Ok(None);
        }
        let reading = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(reading)?;
        let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
        let mut block = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut block).with_context(reading)?;
            if n == 0 {
                break;
            }
            if self.md5.is_some() {
                md5.update(&block[..n]);
            }
            if self.sha256.is_some() {
                sha256.update(&block[..n]);
            }
        }
        let found = [
            ("MD5", &self.md5, hex(&md5.finalize())),
            ("SHA-256", &self.sha256, hex(&sha256.finalize())),
        ];
        let wrong = found.into_iter().find(|(_, want, is)| want.as_ref().is_some_and(|w| w != is));
        Ok(wrong.map(|(kind, want, is)| {
            format!("has {kind} {is}, expected {}", want.as_deref().unwrap_or_default())
        }))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
