//! Fetching from a server on loopback, good and bad.

mod archives;
mod manifests;
mod placed;
mod server;
mod transfers;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::http::Client;
use super::{Fetch, Manifest, hex};

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The manifest of one download of this content; `more` adds keys to it.
pub fn manifest(urls: &[String], content: &[u8], more: &str) -> Manifest {
    let text = format!(
        "name = \"made\"\ntitle = \"made by a test\"\nhomepage = \"\"\nlicence = \"\"\nlayout = \"\"\n\
         [[download]]\nurls = {urls:?}\nbytes = {}\nsha256 = \"{}\"\n{more}",
        content.len(),
        sha256(content)
    );
    Manifest::parse(&text).unwrap()
}

/// Fetches a dataset into a folder.
pub fn fetch(manifest: &Manifest, raw: &Path) -> Result<()> {
    fetch_with(manifest, raw, |_| {})
}

/// Fetches a dataset with other settings.
pub fn fetch_with<'a>(
    manifest: &Manifest,
    raw: &Path,
    change: impl FnOnce(&mut Fetch<'a>),
) -> Result<()> {
    static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);
    static NEVER: AtomicBool = AtomicBool::new(false);
    let mut fetch = Fetch {
        raw: raw.to_owned(),
        check: false,
        only: &[],
        base_url: None,
        force: false,
        client: &CLIENT,
        pause: Duration::from_millis(1),
        quiet: true,
        stop: &NEVER,
    };
    change(&mut fetch);
    fetch.dataset(manifest)
}

/// The whole chain of an error's causes, in a line.
pub fn message(result: Result<()>) -> String {
    format!("{:#}", result.expect_err("this must fail"))
}

/// The names in a folder, sorted, without the lock.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}
