mod legacy;
mod malformed;

use std::io::{Cursor, Write};

use abn_pickle::Writer;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Contents, Found, contents};

/// A file that PyTorch wrote: a zip archive.
const ZIP: &[u8] = include_bytes!("../../../tests/fixtures/weights/zip.pth");
/// The same in the format before 1.6.
const LEGACY: &[u8] = include_bytes!("../../../tests/fixtures/weights/legacy-baseline.pth");
const SAFETENSORS: &[u8] = include_bytes!("../../../tests/fixtures/weights/plain.safetensors");

/// A tensor as a pickle tells it.
#[derive(Clone, Copy)]
struct Told<'a> {
    name: &'a str,
    rebuild: (&'a str, &'a str),
    class: &'a str,
    key: &'a str,
    count: i64,
    offset: i64,
    dims: &'a [i64],
    strides: &'a [i64],
}

/// Six numbers in two rows.
const GOOD: Told<'_> = Told {
    name: "w",
    rebuild: ("torch._utils", "_rebuild_tensor_v2"),
    class: "FloatStorage",
    key: "0",
    count: 6,
    offset: 0,
    dims: &[2, 3],
    strides: &[3, 1],
};

impl Told<'_> {
    fn write(&self, out: &mut Writer) {
        out.text(self.name).global(self.rebuild.0, self.rebuild.1).mark();
        out.mark().text("storage").global("torch", self.class).text(self.key).text("cpu");
        out.int(self.count).tuple().persistent().int(self.offset);
        for sizes in [self.dims, self.strides] {
            out.mark();
            for &size in sizes {
                out.int(size);
            }
            out.tuple();
        }
        out.bool(false).empty_dict().tuple().reduce();
    }
}

/// The pickle of a dict of these tensors.
fn pickled(tensors: &[Told<'_>]) -> Vec<u8> {
    let mut out = Writer::new();
    out.empty_dict().mark();
    for tensor in tensors {
        tensor.write(&mut out);
    }
    out.set_items();
    out.finish()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An archive of these entries.
fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An archive of a pickle and six numbers.
fn pth(pickle: &[u8]) -> Vec<u8> {
    let storage = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    zipped(&[("a/data.pkl", pickle), ("a/data/0", &storage)])
}

/// An archive with one tensor.
fn with(tensor: Told<'_>) -> Vec<u8> {
    pth(&pickled(&[tensor]))
}

/// The same bytes with each `from` become `to`, which is as long.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let places: Vec<_> =
        (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "nothing to replace");
    for at in places {
        out[at..at + to.len()].copy_from_slice(to);
    }
    out
}

/// The numbers of tensor `w`.
fn numbers(bytes: &[u8]) -> Found<Vec<f32>> {
    let contents: Contents = contents(bytes)?;
    contents.tensors.get("w").expect("the file has a tensor w").values(bytes)
}

/// What is wrong with a file, or with its tensor `w`.
fn problem(bytes: &[u8]) -> String {
    numbers(bytes).expect_err("no error")
}

#[test]
fn views_of_a_storage_have_their_numbers() {
    for (told, expected) in [
        (GOOD, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]),
        (Told { dims: &[3, 2], strides: &[1, 3], ..GOOD }, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        (Told { offset: 1, dims: &[2], strides: &[4], ..GOOD }, &[2.0, 6.0]),
        (Told { dims: &[2, 1, 2], strides: &[0, 99, 1], ..GOOD }, &[1.0, 2.0, 1.0, 2.0]),
        (Told { dims: &[], strides: &[], offset: 5, ..GOOD }, &[6.0]),
        (Told { dims: &[3, 0], strides: &[1, 1], offset: 6, ..GOOD }, &[]),
        (
            Told { rebuild: ("torch._utils", "_rebuild_tensor"), ..GOOD },
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        ),
    ] {
        assert_eq!(numbers(&with(told)).unwrap(), expected);
    }
}

#[test]
fn the_writers_byte_order_is_the_files() {
    let storage: Vec<u8> = [1f32, -2.5].iter().flat_map(|value| value.to_be_bytes()).collect();
    let pickle = pickled(&[Told { count: 2, dims: &[2], strides: &[1], ..GOOD }]);
    let entries = [("a/data.pkl", &pickle[..]), ("a/byteorder", b"big"), ("a/data/0", &storage)];
    assert_eq!(numbers(&zipped(&entries)).unwrap(), [1.0, -2.5]);
}

#[test]
fn names_lose_what_pytorch_puts_around_them() {
    let counter = Told { name: "bn.num_batches_tracked", class: "LongStorage", count: 3, ..GOOD };
    let bytes = pth(&pickled(&[Told { name: "module.w", ..GOOD }, counter]));
    assert_eq!(contents(&bytes).unwrap().tensors.keys().collect::<Vec<_>>(), ["w"]);

    // torchvision's released DenseNets; a name of another network stays.
    let old = "features.denseblock1.denselayer2.norm.1.weight";
    let other = "features.norm.1.weight";
    let bytes = pth(&pickled(&[Told { name: old, ..GOOD }, Told { name: other, ..GOOD }]));
    let new = "features.denseblock1.denselayer2.norm1.weight";
    assert_eq!(contents(&bytes).unwrap().tensors.keys().collect::<Vec<_>>(), [new, other]);
}
