//! Writing pickles, as far as PyTorch's restricted reader understands them.

use std::collections::BTreeMap;

use crate::opcode::*;

/// Writes a pickle of protocol 2, one part at a time, like the machine that will read it: parts
/// go on a stack, and calls and containers take theirs from it.
///
/// ```
/// use abn_pickle::Writer;
///
/// let mut out = Writer::new();
/// out.empty_dict().mark().text("epoch").int(3).set_items();
/// let bytes = out.finish();
/// let (pickle, _) = abn_pickle::load(&bytes, &Default::default())?;
/// assert_eq!(pickle.root().get("epoch").and_then(|epoch| epoch.int()), Some(3));
/// # Ok::<(), abn_pickle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// Where globals and texts were remembered: what is used again is not written again.
    globals: BTreeMap<(String, String), u32>,
    texts: BTreeMap<String, u32>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty pickle.
    pub fn new() -> Self {
        Self { out: vec![PROTO, 2], globals: BTreeMap::new(), texts: BTreeMap::new() }
    }

    fn opcode(&mut self, opcode: u8) -> &mut Self {
        self.out.push(opcode);
        self
    }

    fn get(&mut self, index: u32) -> &mut Self {
        self.numbered(BINGET, LONG_BINGET, index)
    }

    /// Remembers the top of the stack under the next number, which it gives.
    fn put(&mut self) -> u32 {
        let index = (self.globals.len() + self.texts.len()) as u32;
        self.numbered(BINPUT, LONG_BINPUT, index);
        index
    }

    fn numbered(&mut self, short: u8, long: u8, index: u32) -> &mut Self {
        match u8::try_from(index) {
            Ok(index) => self.out.extend([short, index]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(index.to_le_bytes());
            }
        }
        self
    }

    /// Pushes a mark: what comes after it is one tuple's, or one dict's.
    pub fn mark(&mut self) -> &mut Self {
        self.opcode(MARK)
    }

    /// Pushes an integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend([BININT1, value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.out.push(BININT2);
            self.out.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.out.push(BININT);
            self.out.extend(value.to_le_bytes());
        } else {
            self.out.extend([LONG1, size_of::<i64>() as u8]);
            self.out.extend(value.to_le_bytes());
        }
        self
    }

    /// Pushes `True` or `False`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.opcode(if value { NEWTRUE } else { NEWFALSE })
    }

    /// Pushes text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        if let Some(&index) = self.texts.get(text) {
            return self.get(index);
        }
        match u32::try_from(text.len()) {
            Ok(length) => {
                self.out.push(BINUNICODE);
                self.out.extend(length.to_le_bytes());
            }
            Err(_) => {
                self.out.push(BINUNICODE8);
                self.out.extend((text.len() as u64).to_le_bytes());
            }
        }
        self.out.extend(text.as_bytes());
        let index = self.put();
        self.texts.insert(text.to_owned(), index);
        self
    }

    /// Pushes a function or class. Line feeds in its names are left out.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        let key = (module.replace('\n', ""), name.replace('\n', ""));
        if let Some(&index) = self.globals.get(&key) {
            return self.get(index);
        }
        self.out.push(GLOBAL);
        for part in [&key.0, &key.1] {
            self.out.extend(part.as_bytes());
            self.out.push(b'\n');
        }
        let index = self.put();
        self.globals.insert(key, index);
        self
    }

    /// Pushes `()`.
    pub fn empty_tuple(&mut self) -> &mut Self {
        self.opcode(EMPTY_TUPLE)
    }

    /// Pushes `{}`.
    pub fn empty_dict(&mut self) -> &mut Self {
        self.opcode(EMPTY_DICT)
    }

    /// Makes a tuple of what came after the last mark.
    pub fn tuple(&mut self) -> &mut Self {
        self.opcode(TUPLE)
    }

    /// Puts what came after the last mark, key, value, key, value, into the dict below it.
    pub fn set_items(&mut self) -> &mut Self {
        self.opcode(SETITEMS)
    }

    /// Calls the global below the tuple on top with the tuple.
    pub fn reduce(&mut self) -> &mut Self {
        self.opcode(REDUCE)
    }

    /// Makes the top the name of something outside the pickle.
    pub fn persistent(&mut self) -> &mut Self {
        self.opcode(BINPERSID)
    }

    /// The pickle of what is on top.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(STOP);
        self.out
    }
}
