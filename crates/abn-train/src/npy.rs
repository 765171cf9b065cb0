//! numpy's `.npy`: an array of two dimensions, as numpy.lib.format describes it. Written by candle;
//! read here, since candle believes a header's size before it has seen the data.

use std::path::Path;

use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// More than any map has: what is longer is not read.
const LARGEST: u64 = 64 << 20;

/// An array of two dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// First dimension.
    pub rows: usize,
    /// Second dimension.
    pub columns: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Reads an array of two dimensions of float32 or float64, in C order.
///
/// # Errors
/// If the file cannot be read, or holds something else; the error names it.
pub fn read_npy(path: &Path) -> Result<Array> {
    let length = std::fs::metadata(path).map_err(Error::io("cannot read", path))?.len();
    let wrong = |problem: String| Error::Array { path: path.to_owned(), problem };
    if length > LARGEST {
        return Err(wrong(format!("{length} bytes, expected at most {LARGEST}")));
    }
    let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
    parse(&bytes).map_err(wrong)
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is no .npy file")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err("its version is not 1, 2 or 3".into()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or("it ends within its header")?;
    let header = String::from_utf8_lossy(header);
    let value = |key: &str| {
        let (_, after) = header.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    let size = match value("descr") {
        Some(descr) if descr.starts_with("'<f4'") => 4,
        Some(descr) if descr.starts_with("'<f8'") => 8,
        _ => return Err(format!("expected float32 or float64 in {}", header.trim())),
    };
    if !value("fortran_order").is_some_and(|order| order.starts_with("False")) {
        return Err("expected an array in C order (numpy.ascontiguousarray)".into());
    }
    let shape = value("shape").and_then(|s| s.strip_prefix('(')?.split_once(')'));
    let shape = shape.ok_or("its header has no shape")?.0;
    let dims: Option<Vec<usize>> =
        shape.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().ok()).collect();
    let Some(&[rows, columns]) = dims.as_deref() else {
        return Err(format!("expected an array of two dimensions, found ({shape})"));
    };
    let wanted = rows.checked_mul(columns).and_then(|cells| cells.checked_mul(size));
    if wanted != Some(data.len()) {
        return Err(format!("{} bytes of data for an array of ({shape})", data.len()));
    }
    let values = match size {
        4 => data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        _ => data.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
    };
    Ok(Array { rows, columns, values })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn written(tensor: &Tensor) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        tensor.write_npy(file.path()).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    /// `numpy.save` of `numpy.array([[1, 2.5, -3], [0, 7, 1e9]], "<f4")`, numpy 2.
    fn numpys() -> Vec<u8> {
        let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_owned();
        header.push_str(&" ".repeat(128 - 10 - 1 - header.len()));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([1.0f32, 2.5, -3.0, 0.0, 7.0, 1e9].iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    #[test]
    fn what_numpy_and_candle_write_is_read() {
        let expected = Array { rows: 2, columns: 3, values: vec![1.0, 2.5, -3.0, 0.0, 7.0, 1e9] };
        assert_eq!(parse(&numpys()).unwrap(), expected);
        let tensor = Tensor::new(&[[1f32, 2.5, -3.0], [0.0, 7.0, 1e9]], &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F64] {
            let bytes = written(&tensor.to_dtype(dtype).unwrap());
            assert_eq!(parse(&bytes).unwrap(), expected, "{dtype:?}");
            // numpy wants the data aligned: to 16 bytes in version 1.
            let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
            assert_eq!((&bytes[..8], (10 + header) % 16), (&b"\x93NUMPY\x01\x00"[..], 0));
            assert_eq!(bytes[10 + header - 1], b'\n');
        }
    }

    #[test]
    fn what_is_no_array_of_two_dimensions_is_refused() {
        let good = numpys();
        let text = |from: &str, to: &str| {
            let header = String::from_utf8_lossy(&good[10..128]).replace(from, to);
            [&good[..10], &header.as_bytes()[..118], &good[128..]].concat()
        };
        for (bytes, part) in [
            (b"PNG".to_vec(), "no .npy"),
            (good[..50].to_vec(), "within its header"),
            (good[..good.len() - 1].to_vec(), "23 bytes"),
            (text("<f4", "<i4"), "float32"),
            (text("False", "True "), "C order"),
            (text("(2, 3)", "(6,)  "), "two dimensions"),
            (text("(2, 3), }", "(2, 99999999999999999999), }"), "two dimensions"),
            (text("(2, 3), }", "(4294967296, 4294967296), }"), "24 bytes"),
            (text("shape", "shade"), "no shape"),
        ] {
            let said = parse(&bytes).unwrap_err();
            assert!(said.contains(part), "{part} in {said}");
        }
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err());
        }
    }
}
