//! Arrays of structures, tables whose fields have names, and of cells, lists of anything.

use std::io::Read;

use super::{
    Elements, MI_INT8, MI_MATRIX, MI_UINT8, MI_UINT16, MI_UTF8, Variable, damaged, padding,
};
use crate::error::{Error, Result};

const CHAR_CLASS: u8 = 4;
/// Classes of numbers, double to uint64.
const NUMBER_CLASSES: std::ops::RangeInclusive<u8> = 6..=15;

/// At most this many fields, structures, and bytes of a field that is asked for.
const MAX_FIELDS: usize = 64;
const MAX_ROWS: usize = 1 << 16;
const MAX_VALUE: u64 = 1 << 12;

/// The value of one field of one structure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    /// An array of numbers, columns first.
    Numbers(Vec<f64>),
    /// A string.
    Text(String),
    /// Anything else.
    Other,
}

/// The values of these fields in each structure of an array; other fields are skipped.
pub(crate) fn table<const N: usize>(
    variable: &mut Variable<'_>,
    wanted: [&str; N],
) -> Result<Vec<[Field; N]>> {
    let path = variable.elements.path;
    let what = format!("the fields of `{}`", variable.name);
    let names = field_names(&mut variable.elements, &what)?;
    let columns: Vec<Option<usize>> =
        names.iter().map(|name| wanted.iter().position(|wanted| wanted == name)).collect();
    if let Some(missing) = wanted.iter().find(|wanted| !names.iter().any(|name| name == *wanted)) {
        return Err(Error::format(path, format!("a field {missing}"), names.join(", ")));
    }
    let rows = variable.len().filter(|&rows| rows <= MAX_ROWS).ok_or_else(|| {
        let expected = format!("`{}` of at most {MAX_ROWS} structures", variable.name);
        Error::format(path, expected, variable.shape())
    })?;
    let mut table = Vec::new();
    for _ in 0..rows {
        let mut row = [const { Field::Other }; N];
        for &column in &columns {
            let value = field(&mut variable.elements, &what, column.is_some())?;
            if let Some(column) = column {
                row[column] = value;
            }
        }
        table.push(row);
    }
    Ok(table)
}

/// The values of a cell array, columns first.
pub(crate) fn cells(variable: &mut Variable<'_>) -> Result<Vec<Field>> {
    let what = format!("the cells of `{}`", variable.name);
    let count = variable.len().filter(|&count| count <= MAX_ROWS).ok_or_else(|| {
        let expected = format!("`{}` of at most {MAX_ROWS} cells", variable.name);
        Error::format(variable.elements.path, expected, variable.shape())
    })?;
    (0..count).map(|_| field(&mut variable.elements, &what, true)).collect()
}

fn field_names(elements: &mut Elements<'_>, what: &str) -> Result<Vec<String>> {
    let (kind, bytes) = elements.data(what, 8)?;
    let width = match elements.numbers(kind, &bytes)?[..] {
        [width] if (1.0..=64.0).contains(&width) => width as usize,
        _ => return Err(Error::format(elements.path, what, "names of an odd length")),
    };
    let (_, bytes) = elements.data(what, (MAX_FIELDS * width) as u64)?;
    // Each is zero-padded to the longest.
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Ok(bytes.chunks(width).map(name).collect())
}

/// The next element, which is a matrix; read only if it is wanted.
fn field(elements: &mut Elements<'_>, what: &str, wanted: bool) -> Result<Field> {
    let (path, swap) = (elements.path, elements.swap);
    let tag = elements.tag(what)?;
    if tag.kind != MI_MATRIX || tag.small.is_some() || tag.len > elements.stream.limit() {
        let found = format!("{} bytes of type {}", tag.len, tag.kind);
        return Err(Error::format(path, what, found));
    }
    let stream = (&mut elements.stream as &mut dyn Read).take(tag.len);
    let mut inner = Elements { stream, path, swap, pad: 0 };
    let mut value = Field::Other;
    if wanted && tag.len > 0 {
        let mut variable = Variable::read(inner)?;
        value = read(&mut variable)?;
        inner = variable.elements;
    }
    let rest = inner.stream.limit();
    let skipped = std::io::copy(&mut inner.stream, &mut std::io::sink());
    if skipped.map_err(|error| damaged(error, path))? != rest {
        return Err(Error::format(path, what, "a truncated file"));
    }
    elements.pad = padding(tag.len);
    Ok(value)
}

fn read(variable: &mut Variable<'_>) -> Result<Field> {
    if NUMBER_CLASSES.contains(&variable.class) {
        return variable.numbers(MAX_VALUE as usize / 8).map(Field::Numbers);
    }
    if variable.class != CHAR_CLASS {
        return Ok(Field::Other);
    }
    let elements = &mut variable.elements;
    let (kind, bytes) = elements.data("a string", MAX_VALUE)?;
    match kind {
        MI_INT8 | MI_UINT8 | MI_UTF8 => {
            Ok(Field::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        MI_UINT16 => {
            let units: Vec<u16> =
                elements.numbers(kind, &bytes)?.into_iter().map(|unit| unit as u16).collect();
            Ok(Field::Text(String::from_utf16_lossy(&units)))
        }
        _ => Err(Error::format(elements.path, "a string", format!("elements of type {kind}"))),
    }
}
