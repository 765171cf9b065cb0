//! Archives, good and evil: unpacked whole and where they should be, or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::server::{Server, good};
use super::{fetch, manifest, message, names};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An entry with any path, which `tar` itself would refuse to write.
fn entry(path: &str, kind: EntryType, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    entry(path, EntryType::Regular, "", content)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    gzip(&bytes)
}

/// The files that every archive here should have.
const FILES: &str = r#"unpack = "tar.gz"
files = [{ path = "data/a.bin", bytes = 1000 }, { path = "data/b.txt" }]
"#;

fn good_files() -> Vec<Vec<u8>> {
    vec![
        entry("./data/", EntryType::Directory, "", b""),
        file("./data/a.bin", &[1; 1000]),
        file("data/b.txt", b"words"),
    ]
}

/// Serves an archive, and fetches it into `raw`.
fn fetch_archive(content: Vec<u8>, more: &str, raw: &Path) -> Result<()> {
    let served = content.clone();
    let server = Server::new(move |_, request| good(&served, request));
    fetch(&manifest(&[format!("{}/made.gz", server.url())], &content, more), raw)
}

#[test]
fn listed_files_are_unpacked_and_nothing_else() {
    let mut entries = good_files();
    entries.push(file("data/readme.html", b"not listed"));
    entries.push(file("elsewhere/b.txt", b"not listed"));
    let raw = tempfile::tempdir().unwrap();
    fetch_archive(archive(&entries), FILES, raw.path()).unwrap();
    assert_eq!(names(raw.path()), ["data"]);
    assert_eq!(names(&raw.path().join("data")), ["a.bin", "b.txt"]);
    assert_eq!(fs::read(raw.path().join("data/a.bin")).unwrap(), [1; 1000]);
    assert_eq!(fs::read_to_string(raw.path().join("data/b.txt")).unwrap(), "words");
}

#[test]
fn a_gzipped_file_is_unpacked() {
    let content = gzip(b"five.");
    let raw = tempfile::tempdir().unwrap();
    let more = "unpack = \"gzip\"\nfiles = [{ path = \"made\", bytes = 5 }]";
    fetch_archive(content, more, raw.path()).unwrap();
    assert_eq!(names(raw.path()), ["made"]);
    assert_eq!(fs::read_to_string(raw.path().join("made")).unwrap(), "five.");
}

#[test]
fn evil_and_broken_archives_leave_nothing_unpacked() {
    let with = |extra: Vec<u8>| {
        let mut entries = good_files();
        entries.push(extra);
        archive(&entries)
    };
    let link = |kind, target| with(entry("data/c", kind, target, b""));
    let mut swapped = archive(&good_files());
    let checksum = swapped.len() - 8;
    swapped[checksum] ^= 1;
    let mut torn = archive(&good_files());
    torn.truncate(torn.len() / 2);
    let huge = entry("data/huge", EntryType::Regular, "", &vec![0; 6 << 20]);
    for (what, archive, expected) in [
        ("parent", with(file("../evil", b"x")), "\"../evil\" would lie outside"),
        ("inner parent", with(file("data/../../evil", b"x")), "would lie outside"),
        ("absolute", with(file("/tmp/abn-evil", b"x")), "\"/tmp/abn-evil\" would lie outside"),
        ("symlink", link(EntryType::Symlink, "/etc/passwd"), "data/c is neither file nor folder"),
        ("hard link", link(EntryType::Link, "data/a.bin"), "data/c is neither file nor folder"),
        ("device", link(EntryType::Char, ""), "data/c is neither file nor folder"),
        (
            "symlink in place of a file",
            archive(&[
                entry("data", EntryType::Symlink, "..", b""),
                file("data/a.bin", &[1; 1000]),
            ]),
            "data is neither file nor folder",
        ),
        ("missing file", archive(&good_files()[..2]), "has no data/b.txt"),
        (
            "other size",
            archive(&[file("data/a.bin", &[1; 999]), file("data/b.txt", b"words")]),
            "data/a.bin has 999 bytes, expected 1000",
        ),
        (
            "large where small is expected",
            archive(&[file("data/a.bin", &[1; 1000]), file("data/b.txt", &vec![0; 2 << 20])]),
            "data/b.txt has 2097152 bytes, expected few",
        ),
        ("twice", with(file("data/a.bin", &[2; 1000])), "data/a.bin"),
        ("bomb", with(huge), "unpacks to more than the manifest says"),
        ("torn", torn, "cannot unpack"),
        ("wrong checksum", swapped, "cannot unpack"),
        ("no archive", b"hello, world".to_vec(), "cannot unpack"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("a/raw");
        let said = message(fetch_archive(archive, FILES, &raw));
        assert!(said.contains(expected) && said.contains("made.gz"), "{what}: {said}");
        assert_eq!(names(&raw), ["made.gz.part", "made.gz.part.json"], "{what}");
        assert_eq!(names(folder.path()), ["a"], "{what}");
        assert_eq!(names(&folder.path().join("a")), ["raw"], "{what}");
        assert!(!Path::new("/tmp/abn-evil").exists(), "{what}");
    }
}

#[test]
fn gzip_bombs_and_torn_gzip_files_leave_nothing() {
    let more = "unpack = \"gzip\"\nfiles = [{ path = \"made\", bytes = 1000 }]";
    let mut torn = gzip(&[7; 1000]);
    torn.truncate(torn.len() - 6);
    for (what, content, expected) in [
        ("bomb", gzip(&vec![0; 50 << 20]), "unpacks to more than the manifest says"),
        ("short", gzip(&[0; 999]), "made has 999 bytes, expected 1000"),
        ("torn", torn, "cannot unpack"),
    ] {
        let raw = tempfile::tempdir().unwrap();
        let said = message(fetch_archive(content, more, raw.path()));
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(names(raw.path()), ["made.gz.part", "made.gz.part.json"], "{what}");
    }
}

#[test]
fn a_folder_that_is_there_is_replaced_only_if_asked() {
    let raw = tempfile::tempdir().unwrap();
    fs::create_dir(raw.path().join("data")).unwrap();
    fs::write(raw.path().join("data/mine"), "mine").unwrap();
    let said = message(fetch_archive(archive(&good_files()), FILES, raw.path()));
    assert!(said.contains("is there, but not data/a.bin"), "{said}");
    assert_eq!(names(&raw.path().join("data")), ["mine"]);

    let content = archive(&good_files());
    let served = content.clone();
    let server = Server::new(move |_, request| good(&served, request));
    let manifest = manifest(&[format!("{}/made.gz", server.url())], &content, FILES);
    super::fetch_with(&manifest, raw.path(), |fetch| fetch.force = true).unwrap();
    assert_eq!(names(&raw.path().join("data")), ["a.bin", "b.txt"]);
    assert_eq!(names(raw.path()), ["data"]);
}
