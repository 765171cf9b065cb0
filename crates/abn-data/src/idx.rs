//! The idx format of MNIST and its descendants, plain or gzipped.
//!
//! A file is a magic number (two zero bytes, 0x08 for bytes, the number of dimensions), the
//! dimensions as big-endian 32-bit numbers, and the bytes.

use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// No file may hold more than this, however small it is gzipped: all of EMNIST is 0.6 GB.
const MAX_BYTES: u64 = 1 << 30;

/// Grey images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Number of images.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// `count · rows · columns` bytes.
    pub pixels: Vec<u8>,
}

/// Reads a file of images (`…-images-idx3-ubyte`, `.gz` or not).
///
/// # Errors
/// If the file cannot be read, has another magic number, is shorter or longer than its
/// dimensions say, or holds no image; the error names the file.
pub fn read_images(path: &Path) -> Result<Images> {
    parse_images(&read(path)?, path)
}

/// Reads a file of labels (`…-labels-idx1-ubyte`, `.gz` or not), each of which must be below `classes`.
///
/// # Errors
/// As [`read_images`], and if a label is not below `classes`.
pub fn read_labels(path: &Path, classes: usize) -> Result<Vec<u8>> {
    parse_labels(&read(path)?, path, classes)
}

/// [`read_images`] of a file's bytes; `path` is only for messages.
///
/// # Errors
/// As [`read_images`].
pub fn parse_images(bytes: &[u8], path: &Path) -> Result<Images> {
    let ([count, rows, columns], pixels) = parse(bytes, path, "images")?;
    if count * rows * columns == 0 {
        return Err(Error::format(
            path,
            "at least one image",
            format!("{count} of {rows}×{columns} pixels"),
        ));
    }
    Ok(Images { count, rows, columns, pixels })
}

/// [`read_labels`] of a file's bytes; `path` is only for messages.
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(bytes: &[u8], path: &Path, classes: usize) -> Result<Vec<u8>> {
    let ([_], labels) = parse(bytes, path, "labels")?;
    match labels.iter().position(|&l| usize::from(l) >= classes) {
        None => Ok(labels),
        Some(sample) => {
            let label = labels[sample].into();
            Err(Error::Label { path: path.into(), sample, label, classes })
        }
    }
}

/// The bytes of an idx file with these dimensions.
///
/// # Errors
/// If a dimension does not fit 32 bits, there are more than 255, or their product is not `data.len()`.
pub fn encode(dimensions: &[usize], data: &[u8]) -> Result<Vec<u8>> {
    let wrong = || {
        Error::Config(format!("an idx file of dimensions {dimensions:?} and {} bytes", data.len()))
    };
    let rank = u8::try_from(dimensions.len()).map_err(|_| wrong())?;
    if dimensions.iter().product::<usize>() != data.len() {
        return Err(wrong());
    }
    let mut bytes = vec![0, 0, 0x08, rank];
    for &dimension in dimensions {
        let dimension = u32::try_from(dimension).map_err(|_| wrong())?;
        bytes.extend(dimension.to_be_bytes());
    }
    bytes.extend(data);
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    // A file is never much longer than what it holds.
    if size > MAX_BYTES + MAX_BYTES / 8 {
        let expected = format!("an idx file of at most {MAX_BYTES} bytes");
        return Err(Error::format(path, expected, format!("{size} bytes")));
    }
    std::fs::read(path).map_err(Error::io(path))
}

/// The dimensions and bytes of an idx file of rank `N`; `what` is what it should hold.
fn parse<const N: usize>(bytes: &[u8], path: &Path, what: &str) -> Result<([usize; N], Vec<u8>)> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return parse_stream(bytes, path, what);
    }
    let mut decoder = GzDecoder::new(bytes);
    let parsed = parse_stream(&mut decoder, path, what)?;
    match decoder.into_inner().len() {
        0 => Ok(parsed),
        rest => Err(Error::format(
            path,
            "the end of the file after the gzip stream",
            format!("{rest} more bytes"),
        )),
    }
}

fn parse_stream<const N: usize>(
    mut stream: impl Read,
    path: &Path,
    what: &str,
) -> Result<([usize; N], Vec<u8>)> {
    let magic = word(&mut stream, path, "an idx header")?;
    let expected = 0x0800 + N as u32;
    if magic != expected {
        return Err(Error::format(
            path,
            format!("magic number {expected:#010x} (idx {what})"),
            format!("{magic:#010x}"),
        ));
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = word(&mut stream, path, "an idx header")? as usize;
    }
    let shape = || dimensions.map(|d| d.to_string()).join("×");
    let size = dimensions.iter().try_fold(1_usize, |size, &d| size.checked_mul(d));
    let size = size.and_then(|size| u64::try_from(size).ok()).filter(|&size| size <= MAX_BYTES);
    let size = size.ok_or_else(|| {
        let expected = format!("dimensions of at most {MAX_BYTES} bytes");
        Error::format(path, expected, format!("{what} of {}", shape()))
    })?;

    // One byte more than promised: so that trailing bytes show, and gzip checks its checksum.
    let mut data = Vec::new();
    stream.take(size + 1).read_to_end(&mut data).map_err(|e| gzip(e, path))?;
    let found = data.len() as u64;
    if found == size {
        return Ok((dimensions, data));
    }
    let found = if found > size { "more".to_owned() } else { format!("only {found}") };
    Err(Error::format(path, format!("{size} bytes of {what} ({})", shape()), found))
}

/// A big-endian 32-bit number.
fn word(stream: &mut impl Read, path: &Path, expected: &str) -> Result<u32> {
    let mut bytes = [0; 4];
    match stream.read_exact(&mut bytes) {
        Ok(()) => Ok(u32::from_be_bytes(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::format(path, expected, "a truncated file"))
        }
        Err(e) => Err(gzip(e, path)),
    }
}

fn gzip(error: std::io::Error, path: &Path) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::format(path, "a whole gzip stream", "a truncated file");
    }
    Error::format(path, "a gzip stream", format!("a damaged one ({error})"))
}

#[cfg(test)]
mod tests;
