//! Connections that are cut, bytes that are wrong, servers that misbehave.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::server::{Server, cut, good, reply, whole};
use super::{fetch, fetch_with, manifest, message, names};
use crate::fetch::Stopped;

/// Larger than any buffer on the way.
fn content() -> Vec<u8> {
    (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A file called `file.bin` on a server.
fn url(server: &Server) -> Vec<String> {
    vec![format!("{}/file.bin", server.url())]
}

#[test]
fn a_whole_answer_becomes_the_file() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let manifest = manifest(&url(&server), &content(), "");
    fetch(&manifest, raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
    assert_eq!(names(raw.path()), ["file.bin"]);
    fetch(&manifest, raw.path()).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "what is there is not downloaded again");
    assert_eq!((seen[0].path.as_str(), seen[0].from()), ("/file.bin", None));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let server = Server::new(|n, request| {
        let missing = [700_000, 123_456, 0][n];
        cut(good(&content(), request), missing)
    });
    let raw = tempfile::tempdir().unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
    let seen = server.seen();
    let from: Vec<_> = seen.iter().map(|request| request.from()).collect();
    assert_eq!(from, [None, Some(300_000), Some(876_544)]);
    assert_eq!(seen[1].header("if-range"), Some("\"v1\""), "the server is to compare versions");
}

#[test]
fn another_process_goes_on_with_the_part() {
    let stop = Arc::new(AtomicBool::new(false));
    let server = Server::new({
        let stop = stop.clone();
        move |n, request| {
            // As Ctrl-C in the middle of the first answer would.
            stop.store(n == 0, Ordering::SeqCst);
            good(&content(), request)
        }
    });
    let raw = tempfile::tempdir().unwrap();
    let manifest = manifest(&url(&server), &content(), "");
    fs::write(raw.path().join("file.bin.part"), &content()[..400_000]).unwrap();
    let stopped = fetch_with(&manifest, raw.path(), |fetch| fetch.stop = &stop).unwrap_err();
    assert!(stopped.is::<Stopped>(), "{stopped:#}");
    assert_eq!(names(raw.path()), ["file.bin.part", "file.bin.part.json"]);
    let have = fs::read(raw.path().join("file.bin.part")).unwrap();
    assert!(have.len() >= 400_000 && content().starts_with(&have), "{} bytes", have.len());

    fetch(&manifest, raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
    assert_eq!(server.seen()[1].from(), Some(have.len()));
    assert_eq!(names(raw.path()), ["file.bin"]);
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let server = Server::new(|n, _| cut(whole(&content()), [400_000, 0][n]));
    let raw = tempfile::tempdir().unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
    assert_eq!(server.seen()[1].from(), Some(600_000));
}

#[test]
fn a_server_that_always_cuts_at_the_same_place_is_given_up() {
    let server = Server::new(|_, _| cut(whole(&content()), 400_000));
    let raw = tempfile::tempdir().unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("5 attempts in a row brought nothing"), "{said}");
    assert_eq!(server.seen().len(), 6);
    assert_eq!(names(raw.path()), ["file.bin.part", "file.bin.part.json"]);
}

#[test]
fn corrupt_bytes_are_an_error_and_leave_nothing() {
    let server = Server::new(|_, request| {
        let mut wrong = content();
        wrong[500_000] ^= 1;
        good(&wrong, request)
    });
    let raw = tempfile::tempdir().unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("file.bin") && said.contains("has SHA-256"), "{said}");
    assert_eq!(names(raw.path()), Vec::<String>::new());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_part_that_is_wrong_is_thrown_away_once() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    fs::write(raw.path().join("file.bin.part"), vec![7; 1000]).unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
    let from: Vec<_> = server.seen().iter().map(|request| request.from()).collect();
    assert_eq!(from, [Some(1000), None]);
}

#[test]
fn a_file_that_changed_meanwhile_is_not_glued_to_the_old_beginning() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let origin = format!("{{\"url\":\"{}\",\"version\":\"\\\"v0\\\"\"}}", url(&server)[0]);
    fs::write(raw.path().join("file.bin.part"), vec![7; 1000]).unwrap();
    fs::write(raw.path().join("file.bin.part.json"), origin).unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "the server compared, and gave all of it");
    assert_eq!(seen[0].header("if-range"), Some("\"v0\""));
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
}

#[test]
fn other_sizes_are_refused_before_their_bytes() {
    for size in [999_999, 1_000_001] {
        let server = Server::new(move |_, _| whole(&vec![0; size]));
        let raw = tempfile::tempdir().unwrap();
        let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
        assert!(said.contains(&format!("offers {size} bytes")), "{said}");
        assert!(said.contains("manifest says 1000000"), "{said}");
        assert_eq!((server.seen().len(), names(raw.path()).len()), (1, 0));
    }
    // The rest of a file that is larger by now.
    let server = Server::new(|_, request| {
        let mut longer = content();
        longer.push(0);
        good(&longer, request)
    });
    let raw = tempfile::tempdir().unwrap();
    fs::write(raw.path().join("file.bin.part"), &content()[..10]).unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("offers 1000001 bytes"), "{said}");
    assert_eq!(fs::read(raw.path().join("file.bin.part")).unwrap(), &content()[..10]);
}

#[test]
fn a_body_without_end_is_stopped_at_the_manifests_size() {
    let server = Server::new(|_, _| reply("200 OK", "", &vec![0; 3_000_000]));
    let raw = tempfile::tempdir().unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("sends more than the 1000000 bytes"), "{said}");
    assert_eq!(names(raw.path()), Vec::<String>::new());
}

#[test]
fn parts_from_elsewhere_are_refused() {
    let server = Server::new(|_, _| {
        reply("206 Partial Content", "Content-Range: bytes 0-4/1000000\r\n", b"12345")
    });
    let raw = tempfile::tempdir().unwrap();
    fs::write(raw.path().join("file.bin.part"), &content()[..10]).unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("was asked for bytes 10-, and gave \"bytes 0-4/1000000\""), "{said}");
}

#[test]
fn a_range_that_cannot_be_is_asked_for_once() {
    let server = Server::new(|n, request| match n {
        0 => reply("416 Range Not Satisfiable", "Content-Length: 0\r\n", b""),
        _ => good(&content(), request),
    });
    let raw = tempfile::tempdir().unwrap();
    fs::write(raw.path().join("file.bin.part"), &content()[..10]).unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(server.seen()[1].from(), None);
}

#[test]
fn a_missing_file_is_one_error_or_the_mirrors_turn() {
    let missing = Server::new(|_, _| reply("404 Not Found", "Content-Length: 4\r\n", b"gone"));
    let raw = tempfile::tempdir().unwrap();
    let said = message(fetch(&manifest(&url(&missing), &content(), ""), raw.path()));
    assert!(said.contains("answered 404 Not Found"), "{said}");
    assert_eq!((missing.seen().len(), names(raw.path()).len()), (1, 0), "a 404 is not retried");

    let mirror = Server::new(|_, request| good(&content(), request));
    let urls = [url(&missing), url(&mirror)].concat();
    fetch(&manifest(&urls, &content(), ""), raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let server = Server::new(|n, request| match n {
        0 => reply("503 Service Unavailable", "Content-Length: 0\r\n", b""),
        1 => Vec::new(), // hangs up without a word
        _ => good(&content(), request),
    });
    let raw = tempfile::tempdir().unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let server = Server::new(|_, request| match request.path.as_str() {
        "/file.bin" => reply("302 Found", "Location: /there/it/is\r\nContent-Length: 0\r\n", b""),
        _ => good(&content(), request),
    });
    let raw = tempfile::tempdir().unwrap();
    fetch(&manifest(&url(&server), &content(), ""), raw.path()).unwrap();
    assert_eq!(fs::read(raw.path().join("file.bin")).unwrap(), content());

    let circle =
        Server::new(|_, _| reply("302 Found", "Location: /file.bin\r\nContent-Length: 0\r\n", b""));
    let raw = tempfile::tempdir().unwrap();
    let said = message(fetch(&manifest(&url(&circle), &content(), ""), raw.path()));
    assert!(said.contains("redirect"), "{said}");
    assert_eq!(names(raw.path()), Vec::<String>::new());
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let file = raw.path().join("file.bin");
    fs::write(&file, "the user's own").unwrap();
    let manifest = manifest(&url(&server), &content(), "");
    let said = message(fetch(&manifest, raw.path()));
    assert!(said.contains("has 14 bytes, expected 1000000") && said.contains("--force"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the user's own");
    assert_eq!(server.seen().len(), 0);
    fetch_with(&manifest, raw.path(), |fetch| fetch.force = true).unwrap();
    assert_eq!(fs::read(&file).unwrap(), content());
    assert_eq!(names(raw.path()), ["file.bin"]);
}

#[test]
fn check_never_asks_a_server() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let manifest = manifest(&url(&server), &content(), "");
    let check = || fetch_with(&manifest, raw.path(), |fetch| fetch.check = true);
    assert!(message(check()).contains("file.bin is not there"));
    let mut wrong = content();
    wrong[0] ^= 1;
    fs::write(raw.path().join("file.bin"), wrong).unwrap();
    assert!(message(check()).contains("has SHA-256"));
    fs::write(raw.path().join("file.bin"), content()).unwrap();
    check().unwrap();
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_mirror_of_ones_own_takes_the_place_of_the_publisher() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let nowhere = ["http://publisher.invalid/some/file.bin".to_owned()];
    let base = format!("{}/mine/", server.url());
    let manifest = manifest(&nowhere, &content(), "");
    fetch_with(&manifest, raw.path(), |fetch| fetch.base_url = Some(&base)).unwrap();
    assert_eq!(server.seen()[0].path, "/mine/file.bin");
}

#[test]
fn one_process_fetches_into_a_folder() {
    let server = Server::new(|_, request| good(&content(), request));
    let raw = tempfile::tempdir().unwrap();
    let lock = fs::File::create(raw.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let said = message(fetch(&manifest(&url(&server), &content(), ""), raw.path()));
    assert!(said.contains("another process"), "{said}");
    assert_eq!(server.seen().len(), 0);
}
