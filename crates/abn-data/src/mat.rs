//! MATLAB's MAT format, version 5 (what `save -v6`, `save -v7` and `scipy.io.savemat` write).
//!
//! A file is a header of 128 bytes and a sequence of elements: a tag (type and number of bytes) and
//! the data. A variable is an element of type miMATRIX, or one of type miCOMPRESSED that holds it
//! as a zlib stream. Inside it come, again as elements: flags, dimensions, name, and the values,
//! columns first. Values may be stored in a smaller type than their class: a double 7 as a byte.
//!
//! Variables are streamed: nothing is held but what the visitor keeps, nothing is inflated beyond
//! the size that the variable's own tag gives, and variables nobody wants are skipped unread.

mod table;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Take};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use crate::error::{Error, Result};

pub(crate) use table::{Field, cells, table};

const HEADER: usize = 128;
/// A variable has at most this many dimensions here, and a name of at most this many bytes.
const MAX_DIMENSIONS: u64 = 32;
const MAX_NAME: u64 = 256;

const MI_INT8: u32 = 1;
pub(crate) const MI_UINT8: u32 = 2;
const MI_INT16: u32 = 3;
const MI_UINT16: u32 = 4;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_SINGLE: u32 = 7;
const MI_DOUBLE: u32 = 9;
const MI_INT64: u32 = 12;
const MI_UINT64: u32 = 13;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
const MI_UTF8: u32 = 16;

/// Class of a variable of bytes (mxUINT8_CLASS).
pub(crate) const UINT8_CLASS: u8 = 9;
/// Class of an array of arrays (mxCELL_CLASS).
pub(crate) const CELL_CLASS: u8 = 1;
/// Class of an array of structures (mxSTRUCT_CLASS).
pub(crate) const STRUCT_CLASS: u8 = 2;
/// Flag of a variable with an imaginary part.
const COMPLEX: u8 = 0x08;

/// Gives each variable of a file, in the file's order, to `visit`.
///
/// # Errors
/// If the file cannot be read, is no MAT file of version 5, is truncated or damaged, or `visit`
/// says so.
pub(crate) fn variables(
    path: &Path,
    mut visit: impl FnMut(&mut Variable<'_>) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut left = file.metadata().map_err(Error::io(path))?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let swap = header(&mut file, path)?;
    left = left.saturating_sub(HEADER as u64);
    while left > 0 {
        let mut elements =
            Elements { stream: (&mut file as &mut dyn Read).take(8), path, swap, pad: 0 };
        let tag = elements.tag("the tag of a variable")?;
        left = left.saturating_sub(8);
        if tag.small.is_some() {
            continue;
        }
        if tag.len > left {
            let found = format!("only {left}");
            return Err(Error::format(path, format!("{} bytes of a variable", tag.len), found));
        }
        let mut element = (&mut file).take(tag.len);
        match tag.kind {
            MI_COMPRESSED => compressed(&mut element, path, swap, &mut visit)?,
            MI_MATRIX => {
                let stream = (&mut element as &mut dyn Read).take(tag.len);
                variable(Elements { stream, path, swap, pad: 0 }, &mut visit)?;
            }
            _ => {} // opaque data of MATLAB's own
        }
        // What the visitor left, and the padding that only uncompressed elements have.
        let pad = if tag.kind == MI_COMPRESSED { 0 } else { padding(tag.len) };
        let rest = element.limit() + pad;
        std::io::copy(&mut (&mut file).take(rest), &mut std::io::sink())
            .map_err(Error::io(path))?;
        left = left.saturating_sub(tag.len + pad);
    }
    Ok(())
}

/// Reads the header; whether the file's numbers are big-endian.
fn header(file: &mut impl Read, path: &Path) -> Result<bool> {
    let wrong =
        |found: &str| Error::format(path, "a MAT file of version 5 (MATLAB: save -v7)", found);
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => wrong("a file shorter than its header"),
        _ => Error::io(path)(error),
    })?;
    if header.starts_with(b"\x89HDF") || header.starts_with(b"MATLAB 7.3") {
        return Err(wrong("one of version 7.3 (HDF5)"));
    }
    match &header[HEADER - 4..] {
        [0x00, 0x01, b'I', b'M'] => Ok(false),
        [0x01, 0x00, b'M', b'I'] => Ok(true),
        _ => Err(wrong("another header")),
    }
}

fn compressed(
    element: &mut impl BufRead,
    path: &Path,
    swap: bool,
    visit: &mut impl FnMut(&mut Variable<'_>) -> Result<()>,
) -> Result<()> {
    let mut inflated = ZlibDecoder::new(element);
    let tag = Elements { stream: (&mut inflated as &mut dyn Read).take(8), path, swap, pad: 0 }
        .tag("the tag of a compressed variable")?;
    if tag.kind != MI_MATRIX || tag.small.is_some() {
        let found = format!("an element of type {}", tag.kind);
        return Err(Error::format(path, "a compressed variable", found));
    }
    let stream = (&mut inflated as &mut dyn Read).take(tag.len);
    let whole = variable(Elements { stream, path, swap, pad: 0 }, visit)?;
    if whole {
        // The end of the stream: that is also when its checksum is looked at.
        match inflated.read(&mut [0]).map_err(|error| damaged(error, path))? {
            0 => {}
            _ => {
                let expected = format!("{} bytes in a compressed variable", tag.len);
                return Err(Error::format(path, expected, "more"));
            }
        }
    }
    Ok(())
}

/// Reads what comes before a variable's values and gives it to `visit`; whether all of it was read.
fn variable(
    elements: Elements<'_>,
    visit: &mut impl FnMut(&mut Variable<'_>) -> Result<()>,
) -> Result<bool> {
    let path = elements.path;
    let mut variable = Variable::read(elements)?;
    visit(&mut variable)?;
    let stream = &mut variable.elements.stream;
    if stream.limit() < 8 {
        // Nothing but the last element's padding.
        std::io::copy(stream, &mut std::io::sink()).map_err(|error| damaged(error, path))?;
    }
    Ok(stream.limit() == 0)
}

/// A variable whose values have not been read yet.
pub(crate) struct Variable<'r> {
    /// Its name; empty inside a structure.
    pub name: String,
    /// Number of its class: [`UINT8_CLASS`], ….
    pub class: u8,
    /// Rows, columns, …: at least two.
    pub dims: Vec<usize>,
    pub(crate) elements: Elements<'r>,
}

impl<'r> Variable<'r> {
    pub(crate) fn read(mut elements: Elements<'r>) -> Result<Self> {
        let path = elements.path;
        let (kind, flags) = elements.data("a variable's flags", 8)?;
        if kind != MI_UINT32 || flags.len() != 8 {
            let found = format!("{} bytes of type {kind}", flags.len());
            return Err(Error::format(path, "a variable's flags", found));
        }
        let flags = elements.word([flags[0], flags[1], flags[2], flags[3]]);
        if (flags >> 8) as u8 & COMPLEX != 0 {
            return Err(Error::format(path, "real numbers", "a complex variable"));
        }
        let (kind, bytes) = elements.data("a variable's dimensions", 4 * MAX_DIMENSIONS)?;
        let dims = elements.numbers(kind, &bytes)?;
        if dims.len() < 2
            || dims.iter().any(|&d| d < 0.0 || d.fract() != 0.0 || d > f64::from(i32::MAX))
        {
            return Err(Error::format(path, "a variable's dimensions", format!("{dims:?}")));
        }
        let dims = dims.into_iter().map(|d| d as usize).collect();
        let (_, name) = elements.data("a variable's name", MAX_NAME)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(Self { name, class: flags as u8, dims, elements })
    }

    /// Number of values; `None` if that is no number.
    pub fn len(&self) -> Option<usize> {
        self.dims.iter().try_fold(1_usize, |len, &dim| len.checked_mul(dim))
    }

    /// `32×32×3×26032`.
    pub fn shape(&self) -> String {
        self.dims.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
    }

    /// The values as numbers, at most `limit`, whatever type they are stored in.
    pub fn numbers(&mut self, limit: usize) -> Result<Vec<f64>> {
        let what = format!("the {} values of `{}`", self.shape(), self.name);
        let (kind, bytes) = self.elements.data(&what, 8 * limit as u64)?;
        let numbers = self.elements.numbers(kind, &bytes)?;
        if self.len() != Some(numbers.len()) {
            return Err(Error::format(self.elements.path, what, numbers.len().to_string()));
        }
        Ok(numbers)
    }
}

/// A sequence of elements, each aligned to 8 bytes.
pub(crate) struct Elements<'r> {
    pub stream: Take<&'r mut dyn Read>,
    pub path: &'r Path,
    /// Whether numbers are big-endian.
    pub swap: bool,
    /// Bytes between the last element's data and the next tag.
    pub pad: u64,
}

/// An element's type and length, and its data if they are in the tag itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub kind: u32,
    pub len: u64,
    pub small: Option<[u8; 4]>,
}

impl Elements<'_> {
    /// The next element's tag; `what` it should be is for messages.
    pub fn tag(&mut self, what: &str) -> Result<Tag> {
        let pad = std::mem::take(&mut self.pad);
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..pad as usize + 8];
        self.fill(bytes, what)?;
        let bytes = &bytes[pad as usize..];
        let first = self.word([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let second = [bytes[4], bytes[5], bytes[6], bytes[7]];
        match first >> 16 {
            0 => Ok(Tag { kind: first, len: self.word(second).into(), small: None }),
            len @ 1..=4 => Ok(Tag { kind: first & 0xffff, len: len.into(), small: Some(second) }),
            _ => Err(Error::format(self.path, what, format!("the tag {first:#010x}"))),
        }
    }

    /// The next element's type and data, of at most `limit` bytes.
    pub fn data(&mut self, what: &str, limit: u64) -> Result<(u32, Vec<u8>)> {
        let tag = self.tag(what)?;
        if let Some(small) = tag.small {
            return Ok((tag.kind, small[..tag.len as usize].to_vec()));
        }
        if tag.len > limit.min(self.stream.limit()) {
            let room = limit.min(self.stream.limit());
            let found = format!("{} bytes where there is room for {room}", tag.len);
            return Err(Error::format(self.path, what, found));
        }
        let mut data = Vec::new();
        let path = self.path;
        (&mut self.stream).take(tag.len).read_to_end(&mut data).map_err(|e| damaged(e, path))?;
        if data.len() as u64 != tag.len {
            let found = format!("{} bytes, then the file's end", data.len());
            return Err(Error::format(path, format!("{} bytes of {what}", tag.len), found));
        }
        self.pad = padding(tag.len);
        Ok((tag.kind, data))
    }

    /// Fills `bytes` with what comes next.
    pub fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        self.stream.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::format(self.path, what, "a truncated file"),
            _ => damaged(error, self.path),
        })
    }

    fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.swap { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Bytes of a numeric type as numbers.
    pub fn numbers(&self, kind: u32, bytes: &[u8]) -> Result<Vec<f64>> {
        let width = match kind {
            MI_INT8 | MI_UINT8 | MI_UTF8 => 1,
            MI_INT16 | MI_UINT16 => 2,
            MI_INT32 | MI_UINT32 | MI_SINGLE => 4,
            MI_DOUBLE | MI_INT64 | MI_UINT64 => 8,
            _ => {
                let found = format!("elements of type {kind}");
                return Err(Error::format(self.path, "numbers", found));
            }
        };
        if !bytes.len().is_multiple_of(width) {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::format(self.path, format!("numbers of {width} bytes"), found));
        }
        Ok(bytes.chunks_exact(width).map(|bytes| self.number(kind, bytes)).collect())
    }

    fn number(&self, kind: u32, bytes: &[u8]) -> f64 {
        // The low bytes first, whatever the file's order.
        let mut low = [0; 8];
        for (i, &byte) in bytes.iter().enumerate() {
            low[if self.swap { bytes.len() - 1 - i } else { i }] = byte;
        }
        let bits = u64::from_le_bytes(low);
        match kind {
            MI_INT8 => f64::from(bits as i8),
            MI_INT16 => f64::from(bits as i16),
            MI_INT32 => f64::from(bits as i32),
            MI_INT64 => bits as i64 as f64,
            MI_SINGLE => f32::from_bits(bits as u32).into(),
            MI_DOUBLE => f64::from_bits(bits),
            _ => bits as f64,
        }
    }
}

/// Bytes between the end of an element and the next multiple of 8.
fn padding(len: u64) -> u64 {
    len.wrapping_neg() % 8
}

/// What an error in the middle of a stream means.
pub(crate) fn damaged(error: std::io::Error, path: &Path) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::format(path, "a whole zlib stream", "a truncated one"),
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::Other => {
            Error::format(path, "a zlib stream", format!("a damaged one ({error})"))
        }
        _ => Error::io(path)(error),
    }
}

#[cfg(test)]
mod tests;
