//! The stack machine that a pickle is a program for.

mod operands;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::arena::{Arena, Construction, Id, Name, Node};
use crate::input::{Input, quoted, raw_unicode_escape};
use crate::opcode::*;
use crate::{Error, Pickle, Result};

/// The newest protocol there is.
const NEWEST_PROTOCOL: u8 = 5;

/// How much of a pickle to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most instructions. One takes some 150 bytes of memory at worst, its strings aside.
    pub opcodes: usize,
}

impl Default for Limits {
    /// Four million instructions: a large network's weights take a hundred thousand.
    fn default() -> Self {
        Self { opcodes: 1 << 22 }
    }
}

/// Reads the pickle that `bytes` begin with, and says how many bytes it has: others may follow.
///
/// # Errors
/// If the bytes are no pickle, or not all of one; if it needs the extension registry or
/// out-of-band buffers, which only the program that wrote it has; [`Error::TooLong`] beyond the
/// limits.
pub fn load<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Pickle<'a>, usize)> {
    let mut machine = Machine {
        input: Input::new(bytes),
        arena: Arena::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        start: 0,
    };
    for _ in 0..limits.opcodes {
        machine.start = machine.input.at;
        let opcode = machine.input.byte("another instruction or the end mark")?;
        if opcode == STOP {
            let root = machine.pop()?;
            return Ok((machine.arena.finish(root), machine.input.at));
        }
        machine.step(opcode)?;
    }
    Err(Error::TooLong { opcodes: limits.opcodes })
}

struct Machine<'a> {
    input: Input<'a>,
    arena: Arena<'a>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    /// Objects to use again. Never iterated.
    memo: HashMap<u64, Id>,
    /// Where the current instruction begins.
    start: usize,
}

impl<'a> Machine<'a> {
    fn malformed<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(Error::Malformed { offset: self.start, problem: problem.into() })
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            PROTO => match self.input.byte("the protocol")? {
                0..=NEWEST_PROTOCOL => Ok(()),
                protocol => self.malformed(format!(
                    "protocol {protocol} is not known, only 0 to {NEWEST_PROTOCOL}"
                )),
            },
            FRAME => self.input.array::<8>("a frame's length").map(drop),

            NONE => self.push(Node::None),
            NEWTRUE => self.push(Node::Bool(true)),
            NEWFALSE => self.push(Node::Bool(false)),
            INT | LONG | FLOAT => self.number_in_words(opcode),
            BININT => {
                let value = i32::from_le_bytes(self.input.array("an integer")?);
                self.push(Node::Int(value.into()))
            }
            BININT1 => {
                let value = self.input.byte("an integer")?;
                self.push(Node::Int(value.into()))
            }
            BININT2 => {
                let value = u16::from_le_bytes(self.input.array("an integer")?);
                self.push(Node::Int(value.into()))
            }
            LONG1 => {
                let length = self.input.byte("an integer's length")?;
                self.long(length.into())
            }
            LONG4 => {
                let length = i32::from_le_bytes(self.input.array("an integer's length")?);
                match u64::try_from(length) {
                    Ok(length) => self.long(length),
                    Err(_) => self.malformed(format!("an integer of {length} bytes")),
                }
            }
            BINFLOAT => {
                let value = f64::from_be_bytes(self.input.array("a number")?);
                self.push(Node::Float(value))
            }

            STRING => {
                let line = self.input.line("a string and a line feed")?;
                match quoted(line) {
                    Some(bytes) => self.push(Node::Bytes(bytes)),
                    None => self.malformed("a string without its quotes, or with a broken escape"),
                }
            }
            UNICODE => {
                let line = self.input.line("a text and a line feed")?;
                match raw_unicode_escape(line) {
                    Some(text) => self.push(Node::Text(text)),
                    None => self.malformed("a text with an escape that is no character"),
                }
            }
            SHORT_BINSTRING | SHORT_BINBYTES | BINSTRING | BINBYTES | BINBYTES8 | BYTEARRAY8 => {
                let length = self.length(opcode)?;
                let bytes = self.input.take(length, "the rest of a string")?;
                self.push(Node::Bytes(Cow::Borrowed(bytes)))
            }
            SHORT_BINUNICODE | BINUNICODE | BINUNICODE8 => {
                let length = self.length(opcode)?;
                let bytes = self.input.take(length, "the rest of a text")?;
                match std::str::from_utf8(bytes) {
                    Ok(text) => self.push(Node::Text(Cow::Borrowed(text))),
                    Err(_) => self.malformed("a text that is not UTF-8"),
                }
            }

            MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            POP if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            POP => self.pop().map(drop),
            POP_MARK => self.pop_to_mark().map(drop),
            DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }

            GET | BINGET | LONG_BINGET => {
                let index = self.index(opcode)?;
                match self.memo.get(&index) {
                    Some(&id) => {
                        self.stack.push(id);
                        Ok(())
                    }
                    None => self.malformed(format!("object {index} is used, but not remembered")),
                }
            }
            PUT | BINPUT | LONG_BINPUT => {
                let index = self.index(opcode)?;
                self.remember(index)
            }
            MEMOIZE => self.remember(self.memo.len() as u64),

            EMPTY_TUPLE => self.push(Node::Tuple(Vec::new())),
            TUPLE1 => self.tuple(1),
            TUPLE2 => self.tuple(2),
            TUPLE3 => self.tuple(3),
            TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))
            }
            EMPTY_LIST => self.push(Node::List(Vec::new())),
            LIST => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items))
            }
            EMPTY_SET => self.push(Node::Set(Vec::new())),
            FROZENSET => {
                let items = self.pop_to_mark()?;
                self.push(Node::Set(items))
            }
            EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            DICT => {
                let items = self.pop_to_mark()?;
                let pairs = self.pairs(items)?;
                self.push(Node::Dict(pairs))
            }
            APPEND => {
                let item = self.pop()?;
                self.extend(vec![item])
            }
            APPENDS | ADDITEMS => {
                let items = self.pop_to_mark()?;
                self.extend(items)
            }
            SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![key, value])
            }
            SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set(items)
            }

            GLOBAL => {
                let name = self.global_in_words()?;
                self.push(name)
            }
            STACK_GLOBAL => self.global_from_stack(),
            PERSID => {
                let line = self.input.line("a name and a line feed")?;
                let Ok(name) = std::str::from_utf8(line) else {
                    return self.malformed("the name of an outside object is not UTF-8");
                };
                let name = self.add(Node::Text(Cow::Borrowed(name)))?;
                self.push(Node::Persistent(name))
            }
            BINPERSID => {
                let name = self.pop()?;
                self.push(Node::Persistent(name))
            }
            REDUCE | NEWOBJ => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.construct(callable, arguments, None)
            }
            NEWOBJ_EX => {
                let keywords = self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.construct(callable, arguments, Some(keywords))
            }
            INST => {
                let name = self.global_in_words()?;
                let callable = self.add(name)?;
                let arguments = self.pop_to_mark()?;
                let arguments = self.add(Node::Tuple(arguments))?;
                self.construct(callable, arguments, None)
            }
            OBJ => {
                let mut arguments = self.pop_to_mark()?;
                if arguments.is_empty() {
                    return self.malformed("an object without a class");
                }
                let callable = arguments.remove(0);
                let arguments = self.add(Node::Tuple(arguments))?;
                self.construct(callable, arguments, None)
            }
            BUILD => self.build(),

            EXT1 | EXT2 | EXT4 => self.malformed("needs the extension registry of its writer"),
            NEXT_BUFFER | READONLY_BUFFER => {
                self.malformed("needs a buffer that its writer kept outside of the pickle")
            }
            _ => self.malformed(format!("{opcode:#04x} is no instruction of a pickle")),
        }
    }

    fn add(&mut self, node: Node<'a>) -> Result<Id> {
        match self.arena.push(node) {
            Some(id) => Ok(id),
            None => self.malformed("more objects than can be counted"),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// The height below which an instruction may not reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => self.malformed("an instruction takes more from the stack than is there"),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.malformed("an instruction needs a mark, and there is none"),
        }
    }

    fn remember(&mut self, index: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= self.floor() => {
                let items = self.stack.split_off(height);
                self.push(Node::Tuple(items))
            }
            _ => self.malformed("a tuple of more than is on the stack"),
        }
    }

    fn pairs(&self, items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return self.malformed("a key without a value");
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    /// Puts items into the list, set or object on the top.
    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match self.arena.get_mut(top) {
            Node::List(list) | Node::Set(list) => list.extend(items),
            Node::Object(object) => object.items.extend(items),
            _ => return self.malformed("items are put into what takes none"),
        }
        Ok(())
    }

    /// Puts keys and values into the dict or object on the top.
    fn set(&mut self, items: Vec<Id>) -> Result<()> {
        let new = self.pairs(items)?;
        let top = self.top()?;
        match self.arena.get_mut(top) {
            Node::Dict(pairs) => pairs.extend(new),
            Node::Object(object) => object.entries.extend(new),
            _ => return self.malformed("keys are set in what takes none"),
        }
        Ok(())
    }

    fn global_from_stack(&mut self) -> Result<()> {
        let name = self.pop()?;
        let module = self.pop()?;
        let text = |id| match self.arena.get(id) {
            Node::Text(Cow::Borrowed(text)) => Some(Cow::Borrowed(*text)),
            Node::Text(Cow::Owned(text)) if text.len() <= LONGEST_NAME => Some(text.clone().into()),
            _ => None,
        };
        match (text(module), text(name)) {
            (Some(module), Some(name)) => self.push(Node::Global(Box::new(Name { module, name }))),
            _ => self.malformed("the name of a global is no text, or a very long one"),
        }
    }

    fn construct(&mut self, callable: Id, arguments: Id, keywords: Option<Id>) -> Result<()> {
        if !matches!(self.arena.get(arguments), Node::Tuple(_)) {
            return self.malformed("a call's arguments are no tuple");
        }
        self.push(Node::Object(Box::new(Construction {
            callable,
            arguments,
            keywords,
            state: None,
            items: Vec::new(),
            entries: Vec::new(),
        })))
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let top = self.top()?;
        match self.arena.get_mut(top) {
            Node::Object(object) => object.state = Some(state),
            _ => return self.malformed("a state is set on what has none"),
        }
        Ok(())
    }
}

/// Names that are copied, because their text had escapes, are kept short: each use copies.
const LONGEST_NAME: usize = 256;
