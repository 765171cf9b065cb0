//! What stands behind an instruction: lengths, numbers and names.

use std::borrow::Cow;

use super::Machine;
use crate::Result;
use crate::arena::{Name, Node};
use crate::opcode::*;

impl<'a> Machine<'a> {
    /// The length that stands before a string.
    pub(super) fn length(&mut self, opcode: u8) -> Result<u64> {
        const WHAT: &str = "a string's length";
        match opcode {
            SHORT_BINSTRING | SHORT_BINBYTES | SHORT_BINUNICODE => {
                self.input.byte(WHAT).map(u64::from)
            }
            BINSTRING => {
                let length = i32::from_le_bytes(self.input.array(WHAT)?);
                u64::try_from(length)
                    .or_else(|_| self.malformed(format!("a string of {length} bytes")))
            }
            BINBYTES | BINUNICODE => self.input.array(WHAT).map(|b| u32::from_le_bytes(b).into()),
            _ => self.input.array(WHAT).map(u64::from_le_bytes),
        }
    }

    /// The position of a remembered object.
    pub(super) fn index(&mut self, opcode: u8) -> Result<u64> {
        const WHAT: &str = "a remembered object's number";
        match opcode {
            BINGET | BINPUT => self.input.byte(WHAT).map(u64::from),
            LONG_BINGET | LONG_BINPUT => {
                self.input.array(WHAT).map(|bytes| u32::from_le_bytes(bytes).into())
            }
            _ => {
                let line = self.input.line(WHAT)?;
                let index =
                    std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
                index.map_or_else(|| self.malformed("a remembered object's number is none"), Ok)
            }
        }
    }

    pub(super) fn long(&mut self, length: u64) -> Result<()> {
        let bytes = self.input.take(length, "the rest of an integer")?;
        if bytes.len() > size_of::<i64>() {
            return self.push(Node::Long(Cow::Borrowed(bytes)));
        }
        let negative = bytes.last().is_some_and(|&byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; size_of::<i64>()];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    /// `INT`, `LONG` and `FLOAT`: decimal digits and a line feed.
    pub(super) fn number_in_words(&mut self, opcode: u8) -> Result<()> {
        let line = self.input.line("a number and a line feed")?;
        let digits = std::str::from_utf8(line).unwrap_or_default().trim();
        let node = match opcode {
            INT if digits == "01" => Some(Node::Bool(true)),
            INT if digits == "00" => Some(Node::Bool(false)),
            FLOAT => digits.parse().ok().map(Node::Float),
            _ => {
                let value = digits.strip_suffix('L').unwrap_or(digits).parse::<i128>();
                value.ok().map(|value| match i64::try_from(value) {
                    Ok(value) => Node::Int(value),
                    Err(_) => Node::Long(Cow::Owned(value.to_le_bytes().to_vec())),
                })
            }
        };
        match node {
            Some(node) => self.push(node),
            None => self.malformed("a number that is none, or has more than 128 bits"),
        }
    }

    /// A global whose module and name are the next two lines.
    pub(super) fn global_in_words(&mut self) -> Result<Node<'a>> {
        let mut line = || -> Result<_> {
            Ok(std::str::from_utf8(self.input.line("a global's module and name")?).ok())
        };
        match (line()?, line()?) {
            (Some(module), Some(name)) => {
                let name = Name { module: Cow::Borrowed(module), name: Cow::Borrowed(name) };
                Ok(Node::Global(Box::new(name)))
            }
            _ => self.malformed("the name of a global is not UTF-8"),
        }
    }
}
