use std::fs;

use abn_pickle::Writer;

use super::*;
use crate::WeightsFile;

/// A pickle whose top is what `write` leaves there.
fn pickle_of(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.finish()
}

/// The archive with the field at `offset` of the second entry's central header changed; they are 46
/// bytes and the name long.
fn second_central(mut bytes: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    let headers: Vec<_> =
        (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02")).collect();
    let at = headers[1] + offset;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let f = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let good = pickled(&[GOOD]);
    let file = |storage: &[u8]| zipped(&[("a/data.pkl", &good), ("a/data/0", storage)]);
    let four = |names: [&str; 2]| {
        zipped(&[("a/data.pkl", &good), ("a/data/0", &f), (names[0], b"x"), (names[1], b"y")])
    };
    let nan = floats(&[1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0]);
    let infinite = floats(&[f32::NEG_INFINITY, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let doubles: Vec<u8> =
        [1.0, 1e300, 0.0, 0.0, 0.0, 0.0f64].iter().flat_map(|x| x.to_le_bytes()).collect();
    let double = pickled(&[Told { class: "DoubleStorage", ..GOOD }]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        // No file of weights at all.
        ("empty", vec![], "it is empty"),
        ("a page", b"<!DOCTYPE html><html>Not Found".to_vec(), "it begins with \"<!DOCTYPE html><"),
        (
            "a picture",
            b"\x89PNG\r\n\x1a\n".to_vec(),
            "neither a file of torch.save nor safetensors",
        ),
        (
            "another pickle",
            b"\x80\x02}.".to_vec(),
            "a pickle, but not torch.save's: it begins with a dict of 0",
        ),
        (
            "half a pickle",
            b"\x80\x02}".to_vec(),
            "its magic number (at byte 0): the pickle ends at byte 3",
        ),
        // Archives.
        (
            "another archive",
            zipped(&[("a/b.txt", b"text")]),
            "not torch.save's: there is no data.pkl",
        ),
        (
            "no storage",
            zipped(&[("a/data.pkl", &good)]),
            "tensor `w`: its storage data/0 is not in the archive",
        ),
        (
            "short storage",
            file(&f[..20]),
            "tensor `w`: its storage 0 has 20 bytes, expected 6 numbers of 4 bytes",
        ),
        ("long storage", file(&[&f[..], &f].concat()), "its storage 0 has 48 bytes"),
        (
            "byte order",
            zipped(&[("a/data.pkl", &good), ("a/byteorder", b"odd"), ("a/data/0", &f)]),
            "byteorder is neither",
        ),
        (
            "leads out",
            replaced(&four(["a/xx/yy", "a/z"]), b"a/xx/yy", b"a/../yy"),
            "\"a/../yy\" leads out of the archive",
        ),
        (
            "absolute",
            replaced(&four(["a/xx/yy", "a/z"]), b"a/xx/yy", b"/etc/pw"),
            "\"/etc/pw\" leads out",
        ),
        ("backslash", replaced(&four(["a/xx/yy", "a/z"]), b"a/xx/yy", b"..\\xx\\y"), "leads out"),
        (
            "same name",
            replaced(&four(["a/y", "a/z"]), b"a/y", b"a/z"),
            "two entries of the archive have the same name",
        ),
        ("compressed", second_central(file(&f), 10, &[8, 0]), "a/data/0 is compressed"),
        ("bomb", second_central(file(&f), 24, &[0xff, 0xff, 0xff, 0x7f]), "a/data/0 is compressed"),
        ("encrypted", second_central(file(&f), 8, &[1, 0]), "a/data/0 is encrypted"),
        (
            "checksum",
            replaced(&file(&f), &2f32.to_le_bytes(), &9f32.to_le_bytes()),
            "a/data/0 is damaged",
        ),
        ("overlap", second_central(file(&f), 42, &[0, 0, 0, 0]), "lie on top of each other"),
        (
            "beyond the end",
            second_central(file(&f), 42, &[0xff, 0xff, 0, 0]),
            "not a whole zip archive",
        ),
        // Tensors.
        (
            "shape",
            with(Told { dims: &[3, 3], ..GOOD }),
            "shape [3, 3] with strides [3, 1] from number 0 on reaches beyond its storage of 6 numbers",
        ),
        ("offset", with(Told { offset: 1, ..GOOD }), "reaches beyond"),
        ("negative offset", with(Told { offset: -1, ..GOOD }), "its offset is the integer -1"),
        (
            "overflow",
            with(Told { dims: &[1 << 40, 1 << 40], strides: &[1 << 40, 1], ..GOOD }),
            "reaches beyond",
        ),
        (
            "expansion",
            with(Told { dims: &[1 << 40, 1 << 40], strides: &[0, 0], ..GOOD }),
            "has more numbers than its storage, which has 6",
        ),
        (
            "negative strides",
            with(Told { strides: &[-3, 1], ..GOOD }),
            "its strides are not of numbers from 0 on",
        ),
        (
            "negative shape",
            with(Told { dims: &[-2, 3], ..GOOD }),
            "its shape is not of sizes from 0 on",
        ),
        ("strides", with(Told { strides: &[1], ..GOOD }), "it has 2 dimensions, but 1 strides"),
        (
            "class",
            with(Told { class: "QInt8Storage", ..GOOD }),
            "the class of a storage is torch.QInt8Storage",
        ),
        ("count", with(Told { count: -6, ..GOOD }), "the name of a storage is a tuple of 5"),
        (
            "huge count",
            with(Told { count: i64::MAX, ..GOOD }),
            "has 24 bytes, expected 9223372036854775807 numbers",
        ),
        (
            "integers",
            file_of(Told { class: "IntStorage", ..GOOD }, &f),
            "its numbers are int32; weights are floating-point",
        ),
        (
            "hostile call",
            with(Told { rebuild: ("os", "system"), ..GOOD }),
            "tensor `w`: expected a tensor, found an object of os.system",
        ),
        (
            "quantised",
            with(Told { rebuild: ("torch._utils", "_rebuild_qtensor"), ..GOOD }),
            "expected a tensor, found an object of torch._utils._rebuild_qtensor",
        ),
        ("same key", pth(&pickled(&[GOOD, GOOD])), "tensor `w` is there twice"),
        (
            "same key, prefixed",
            pth(&pickled(&[GOOD, Told { name: "module.w", ..GOOD }])),
            "tensor `w` is there twice",
        ),
        ("nan", file(&nan), "number 3 is NaN; weights must be finite"),
        ("infinite", file(&infinite), "number 0 is -inf"),
        (
            "too large",
            zipped(&[("a/data.pkl", &double), ("a/data/0", &doubles)]),
            "number 1 is inf",
        ),
        // What is pickled.
        (
            "no dict",
            pth(&pickle_of(|out| {
                out.mark().int(1).tuple();
            })),
            "it holds a tuple of 1, expected a dict of tensors",
        ),
        (
            "a network",
            pth(&pickle_of(|out| {
                out.global("my.nets", "Net").empty_tuple().reduce();
            })),
            "it holds an object of my.nets.Net, expected a dict of tensors; if that is a whole network",
        ),
        (
            "a network inside",
            pth(&pickle_of(|out| {
                out.empty_dict()
                    .mark()
                    .text("model")
                    .global("my.nets", "Net")
                    .empty_tuple()
                    .reduce()
                    .set_items();
            })),
            "its entry \"model\" holds an object of my.nets.Net",
        ),
        (
            "no tensors",
            pth(&pickle_of(|out| {
                out.empty_dict();
            })),
            "it holds no tensors",
        ),
        (
            "no tensor",
            pth(&pickle_of(|out| {
                out.empty_dict().mark().text("epoch").int(3).set_items();
            })),
            "tensor `epoch`: expected a tensor, found the integer 3",
        ),
        (
            "no name",
            pth(&pickle_of(|out| {
                out.empty_dict().mark().int(1).int(3).set_items();
            })),
            "the name of a tensor is the integer 1",
        ),
        ("deep", pth(&deep()), "it holds a list of 1"),
        (
            "shared",
            pth(&[&b"K\x01"[..], &b"2\x86".repeat(1000), b"."].concat()),
            "it holds a tuple of 2",
        ),
        (
            "endless",
            pth(&b"N0".repeat(1 << 21)),
            "data.pkl: the pickle has more than 4194304 instructions",
        ),
        ("torn pickle", pth(&good[..good.len() - 5]), "data.pkl: the pickle ends at byte"),
        (
            "unknown instruction",
            pth(b"\x80\x02\xfe."),
            "data.pkl: byte 2 of the pickle: 0xfe is no instruction",
        ),
        // safetensors.
        ("header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "not whole safetensors"),
        (
            "offsets",
            safetensors(r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,999]}}"#, &f),
            "not whole safetensors",
        ),
        (
            "sizes",
            safetensors(r#"{"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,24]}}"#, &f),
            "not whole safetensors",
        ),
        ("json", safetensors(r#"{"w":{"dtype":"F32","shape":"#, &f), "not whole safetensors"),
        (
            "safe nan",
            safetensors(
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &f32::NAN.to_le_bytes(),
            ),
            "number 0 is NaN",
        ),
        (
            "safe integers",
            safetensors(r#"{"w":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]),
            "its numbers are int32",
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    for (name, bytes, expected) in cases {
        let said = problem(&bytes);
        assert!(said.contains(expected), "{name}: {said}");
        // From a file, its name stands before that.
        let path = root.path().join(format!("{name}.pth"));
        fs::write(&path, &bytes).unwrap();
        let error = WeightsFile::read(&path).and_then(|file| file.tensor("w").map(drop));
        let error = error.expect_err(name).to_string();
        assert!(
            error.starts_with("cannot read weights from ")
                && error.contains(&format!("{name}.pth: ")),
            "{error}"
        );
        assert!(error.contains(expected) && error.len() < 500, "{error}");
    }
}

/// An archive with one tensor and its storage.
fn file_of(told: Told<'_>, storage: &[u8]) -> Vec<u8> {
    zipped(&[("a/data.pkl", &pickled(&[told])), ("a/data/0", storage)])
}

/// Half a million lists in each other.
fn deep() -> Vec<u8> {
    let mut bytes = b"](".repeat(500_000);
    bytes.extend(b"e".repeat(500_000));
    bytes.push(b'.');
    bytes
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn every_truncation_is_an_error() {
    for file in [ZIP, LEGACY, SAFETENSORS] {
        contents(file).unwrap();
        // Every place in the first pickles and headers, and then some in the storages.
        for end in (0..400).chain((400..file.len()).step_by(97)).chain([file.len() - 1]) {
            assert!(contents(&file[..end]).is_err(), "cut at {end} of {}", file.len());
        }
    }
}

/// Whatever a byte is changed to: weights or an error, but no panic.
#[test]
fn no_changed_byte_makes_it_panic() {
    for file in [ZIP, LEGACY, SAFETENSORS] {
        let mut changed = file.to_vec();
        let pickle = (0..3000).chain(file.len().saturating_sub(3000)..file.len());
        for position in pickle.step_by(7) {
            for value in [0x00, 0x2e, 0x80, 0xff] {
                changed[position] = value;
                if let Ok(contents) = contents(&changed) {
                    for tensor in contents.tensors.values() {
                        let _ = tensor.values(&changed);
                    }
                }
            }
            changed[position] = file[position];
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = WeightsFile::read(std::path::Path::new("gone.pth")).unwrap_err().to_string();
    assert!(said.contains("cannot read gone.pth"), "{said}");
}
