//! A MAT file (version 5) with cell arrays of strings, as MATLAB's `save -v6` writes them.

const MATRIX: u32 = 14;
const CELLS: u32 = 1;
const TEXT: u32 = 4;
const DOUBLES: u32 = 6;

/// Columns of strings, by name.
pub fn cells(variables: &[(&str, &[&str])]) -> Vec<u8> {
    let mut file = b"MATLAB 5.0 MAT-file, drawn by cargo xtask synthesize".to_vec();
    file.resize(124, b' ');
    file.extend(b"\x00\x01IM");
    for (name, strings) in variables {
        let body: Vec<u8> = strings.iter().flat_map(|string| text(string)).collect();
        file.extend(array(CELLS, [strings.len() as u32, 1], name, &body));
    }
    file
}

/// A row of characters; an empty string is an empty matrix, as in CompCars.
fn text(string: &str) -> Vec<u8> {
    let units: Vec<u8> = string.encode_utf16().flat_map(u16::to_le_bytes).collect();
    match string.is_empty() {
        true => array(DOUBLES, [0, 0], "", &element(9, &[])),
        false => array(TEXT, [1, units.len() as u32 / 2], "", &element(4, &units)),
    }
}

/// Flags, dimensions, name, and what the array holds.
fn array(class: u32, dims: [u32; 2], name: &str, values: &[u8]) -> Vec<u8> {
    let words = |words: [u32; 2]| words.map(u32::to_le_bytes).concat();
    let head =
        [element(6, &words([class, 0])), element(5, &words(dims)), element(1, name.as_bytes())];
    element(MATRIX, &[&head.concat(), values].concat())
}

/// Type, length and data, padded to 8 bytes.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut element = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    element.extend(data);
    element.resize(element.len().next_multiple_of(8), 0);
    element
}
