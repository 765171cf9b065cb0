//! The bytes of a pickle, from front to back, and the text forms of protocol 0.

use std::borrow::Cow;

use crate::{Error, Result};

pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    /// Bytes read.
    pub at: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: u64, expected: &'static str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(count).ok().and_then(|count| rest.get(..count)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(Error::Truncated { offset: self.bytes.len(), expected }),
        }
    }

    pub fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, expected)?);
        Ok(array)
    }

    pub fn byte(&mut self, expected: &'static str) -> Result<u8> {
        self.array::<1>(expected).map(|[byte]| byte)
    }

    /// What stands up to the next line feed, which is skipped.
    pub fn line(&mut self, expected: &'static str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(Error::Truncated { offset: self.bytes.len(), expected });
        };
        self.at += length + 1;
        Ok(&rest[..length])
    }
}

/// A string as Python 2's `repr` wrote it, quotes included; `None` if it is none.
pub(crate) fn quoted(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    let line = line.trim_ascii_end();
    let (quote, rest) = line.split_first()?;
    let inner = rest.strip_suffix(&[*quote]).filter(|_| matches!(quote, b'\'' | b'"'))?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'a' => out.push(0x07),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0b),
            b'x' => {
                let digits = rest.get(..2)?;
                out.push(u8::try_from(hexadecimal(digits)?).ok()?);
                rest = &rest[2..];
            }
            b'0'..=b'7' => {
                let more = rest.iter().take(2).take_while(|b| matches!(b, b'0'..=b'7')).count();
                let value = rest[..more].iter().fold(u32::from(escape - b'0'), |value, digit| {
                    8 * value + u32::from(digit - b'0')
                });
                out.push(u8::try_from(value & 0xff).ok()?);
                rest = &rest[more..];
            }
            _ => out.extend([b'\\', escape]),
        }
    }
    Some(Cow::Owned(out))
}

/// Text in Python's encoding `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`; `None`
/// if an escape is no character.
pub(crate) fn raw_unicode_escape(line: &[u8]) -> Option<Cow<'_, str>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return std::str::from_utf8(line).ok().map(Cow::Borrowed);
    }
    // Python 2 wrote characters beyond U+FFFF as surrogate pairs: UTF-16 joins them.
    let mut units = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, rest.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            (b'\\', Some(&other)) => {
                // The two belong together: in `\\u` the `u` starts no escape.
                units.extend([u16::from(b'\\'), u16::from(other)]);
                rest = &rest[1..];
                continue;
            }
            _ => {
                units.push(u16::from(byte));
                continue;
            }
        };
        let value = hexadecimal(rest.get(1..1 + digits)?)?;
        rest = &rest[1 + digits..];
        match u16::try_from(value) {
            Ok(unit) => units.push(unit),
            Err(_) => units.extend_from_slice(char::from_u32(value)?.encode_utf16(&mut [0; 2])),
        }
    }
    String::from_utf16(&units).ok().map(Cow::Owned)
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, &digit| {
        Some(value.checked_mul(16)? + char::from(digit).to_digit(16)?)
    })
}
