//! What a pickle holds, seen by those who read it.

use std::borrow::Cow;
use std::fmt;

use crate::arena::{Construction, Id, Node};
use crate::{Array, Pickle, Result};

/// One object of a pickle: a view, cheap to copy.
#[derive(Clone, Copy)]
pub enum Value<'p> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that does not fit 64 bits: two's complement, lowest byte first.
    Long(&'p [u8]),
    /// A floating-point number.
    Float(f64),
    /// Bytes: `bytes`, `bytearray`, and `str` of Python 2.
    Bytes(&'p [u8]),
    /// Text: `str` of Python 3, `unicode` of Python 2.
    Text(&'p str),
    /// A tuple.
    Tuple(Sequence<'p>),
    /// A list.
    List(Sequence<'p>),
    /// A `set` or `frozenset`.
    Set(Sequence<'p>),
    /// A `dict`; [`Value::entries`] gives what is in it.
    Dict(Entries<'p>),
    /// A function or class, by name.
    Global {
        /// The module that has it.
        module: &'p str,
        /// Its name in the module.
        name: &'p str,
    },
    /// What a call would have given.
    Object(Object<'p>),
    /// The name of something outside the pickle.
    Persistent(Reference<'p>),
}

/// Objects in order.
#[derive(Clone, Copy)]
pub struct Sequence<'p> {
    pickle: &'p Pickle<'p>,
    ids: &'p [Id],
}

/// The keys and values of a `dict`.
#[derive(Clone, Copy)]
pub struct Entries<'p> {
    pickle: &'p Pickle<'p>,
    pairs: &'p [(Id, Id)],
}

/// The name of something outside the pickle.
#[derive(Clone, Copy)]
pub struct Reference<'p> {
    pickle: &'p Pickle<'p>,
    id: Id,
}

/// What a call would have given: the call, and what was done to its result.
#[derive(Clone, Copy)]
pub struct Object<'p> {
    pickle: &'p Pickle<'p>,
    made: &'p Construction,
}

impl<'p> Value<'p> {
    pub(crate) fn of(pickle: &'p Pickle<'p>, node: &'p Node<'p>) -> Self {
        let sequence = |ids| Sequence { pickle, ids };
        match node {
            Node::None => Self::None,
            Node::Bool(value) => Self::Bool(*value),
            Node::Int(value) => Self::Int(*value),
            Node::Long(bytes) => Self::Long(bytes),
            Node::Float(value) => Self::Float(*value),
            Node::Bytes(bytes) => Self::Bytes(bytes),
            Node::Text(text) => Self::Text(text),
            Node::Tuple(ids) => Self::Tuple(sequence(ids)),
            Node::List(ids) => Self::List(sequence(ids)),
            Node::Set(ids) => Self::Set(sequence(ids)),
            Node::Dict(pairs) => Self::Dict(Entries { pickle, pairs }),
            Node::Global(global) => Self::Global { module: &global.module, name: &global.name },
            Node::Object(made) => Self::Object(Object { pickle, made }),
            Node::Persistent(id) => Self::Persistent(Reference { pickle, id: *id }),
        }
    }

    /// An integer that fits 64 bits.
    pub fn int(self) -> Option<i64> {
        if let Self::Int(value) = self { Some(value) } else { None }
    }

    /// Text; of Python 2's strings, those that are UTF-8.
    pub fn text(self) -> Option<&'p str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes, and what stands for them where a protocol has none: `_codecs.encode(text, "latin1")`,
    /// `bytes()` and `bytearray(…)`.
    pub fn bytes(self) -> Option<Cow<'p, [u8]>> {
        // `bytearray` of such a call is the deepest there is.
        self.bytes_within(2)
    }

    fn bytes_within(self, calls: u32) -> Option<Cow<'p, [u8]>> {
        let object = match self {
            Self::Bytes(bytes) => return Some(Cow::Borrowed(bytes)),
            Self::Object(object) if calls > 0 => object,
            _ => return None,
        };
        let arguments = object.arguments();
        let latin1 = || {
            let encoding = arguments.get(1)?.text()?;
            let same = matches!(encoding, "latin1" | "latin-1" | "iso-8859-1");
            let text = arguments.get(0).and_then(Value::text).filter(|_| same)?;
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>()
        };
        match object.callable() {
            Self::Global { module: "_codecs", name: "encode" } => latin1().map(Cow::Owned),
            Self::Global { module: "builtins" | "__builtin__", name: "bytes" | "bytearray" } => {
                match arguments.len() {
                    0 => Some(Cow::Borrowed(&[])),
                    1 => arguments.get(0)?.bytes_within(calls - 1),
                    _ => latin1().map(Cow::Owned),
                }
            }
            _ => None,
        }
    }

    /// A tuple or a list.
    pub fn sequence(self) -> Option<Sequence<'p>> {
        match self {
            Self::Tuple(sequence) | Self::List(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// Keys and values, in order, of a `dict` or a `collections.OrderedDict`. Python keeps the
    /// last of equal keys; here all are given.
    pub fn entries(self) -> Option<Vec<(Value<'p>, Value<'p>)>> {
        match self {
            Self::Dict(entries) => Some(entries.iter().collect()),
            Self::Object(object) => object.ordered_dict(),
            _ => None,
        }
    }

    /// The value of a key of a `dict` or a `collections.OrderedDict`, whichever kind of string
    /// the key is.
    pub fn get(self, key: &str) -> Option<Value<'p>> {
        let found =
            |(name, value): (Value<'p>, Value<'p>)| (name.text() == Some(key)).then_some(value);
        match self {
            Self::Dict(entries) => entries.iter().filter_map(found).last(),
            _ => self.entries()?.into_iter().filter_map(found).next_back(),
        }
    }

    /// Whether this is that function or class.
    pub fn is_global(self, expected_module: &str, expected_name: &str) -> bool {
        matches!(self, Self::Global { module, name }
            if module == expected_module && name == expected_name)
    }

    /// An object, and no other value.
    pub fn object(self) -> Option<Object<'p>> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// A numpy array.
    ///
    /// # Errors
    /// [`Error::Unexpected`](crate::Error::Unexpected) if it is none, or its parts contradict each
    /// other.
    pub fn array(self) -> Result<Array<'p>> {
        Array::of(self)
    }

    /// What it is, in a few words, for messages.
    pub fn describe(self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Int(value) => format!("the integer {value}"),
            Self::Long(bytes) => format!("an integer of {} bytes", bytes.len()),
            Self::Float(value) => format!("the number {value}"),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                // Python 2's strings.
                Ok(text) if !text.contains(char::is_control) => {
                    format!("the string {:?}", shortened(text))
                }
                _ => format!("{} bytes", bytes.len()),
            },
            Self::Text(text) => format!("the text {:?}", shortened(text)),
            Self::Tuple(items) => format!("a tuple of {}", items.len()),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Set(items) => format!("a set of {}", items.len()),
            Self::Dict(entries) => format!("a dict of {}", entries.len()),
            Self::Global { module, name } => {
                format!("the global {}.{}", shortened(module), shortened(name))
            }
            Self::Object(object) => match object.callable() {
                Self::Global { module, name } => {
                    format!("an object of {}.{}", shortened(module), shortened(name))
                }
                _ => "an object of no named class".into(),
            },
            Self::Persistent(_) => "a reference to outside the pickle".into(),
        }
    }
}

/// The first characters: names in a hostile file may have any length.
fn shortened(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Shows one level: what is inside may be endless.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl<'p> Sequence<'p> {
    /// Number of items.
    pub fn len(self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.ids.is_empty()
    }

    /// The item at a position, from 0.
    pub fn get(self, index: usize) -> Option<Value<'p>> {
        self.ids.get(index).map(|&id| self.pickle.value(id))
    }

    /// The items in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Value<'p>> {
        self.ids.iter().map(move |&id| self.pickle.value(id))
    }
}

impl<'p> Entries<'p> {
    /// Number of keys, counting equal ones.
    pub fn len(self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.pairs.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (Value<'p>, Value<'p>)> {
        self.pairs
            .iter()
            .map(move |&(key, value)| (self.pickle.value(key), self.pickle.value(value)))
    }
}

impl<'p> Reference<'p> {
    /// The name: whatever the writer agreed on with the reader.
    pub fn id(self) -> Value<'p> {
        self.pickle.value(self.id)
    }
}

impl<'p> Object<'p> {
    /// What would have been called.
    pub fn callable(self) -> Value<'p> {
        self.pickle.value(self.made.callable)
    }

    /// With which arguments.
    pub fn arguments(self) -> Sequence<'p> {
        match self.pickle.value(self.made.arguments) {
            Value::Tuple(arguments) => arguments,
            // The machine takes nothing but tuples.
            _ => Sequence { pickle: self.pickle, ids: &[] },
        }
    }

    /// And keyword arguments.
    pub fn keywords(self) -> Option<Value<'p>> {
        self.made.keywords.map(|id| self.pickle.value(id))
    }

    /// The state that would have been set (`__setstate__`, or the attributes).
    pub fn state(self) -> Option<Value<'p>> {
        self.made.state.map(|id| self.pickle.value(id))
    }

    /// What would have been appended or added to it.
    pub fn items(self) -> Sequence<'p> {
        Sequence { pickle: self.pickle, ids: &self.made.items }
    }

    /// The keys that would have been set in it.
    pub fn entries(self) -> Entries<'p> {
        Entries { pickle: self.pickle, pairs: &self.made.entries }
    }

    /// The entries of a `collections.OrderedDict`: Python 3 sets them one by one, Python 2 gives
    /// them to the constructor as a list of pairs.
    fn ordered_dict(self) -> Option<Vec<(Value<'p>, Value<'p>)>> {
        if !self.callable().is_global("collections", "OrderedDict") {
            return None;
        }
        let mut entries = Vec::with_capacity(self.entries().len());
        if let Some(pairs) = self.arguments().get(0) {
            for pair in pairs.sequence()?.iter() {
                let pair = pair.sequence().filter(|pair| pair.len() == 2)?;
                entries.push((pair.get(0)?, pair.get(1)?));
            }
        }
        entries.extend(self.entries().iter());
        Some(entries)
    }
}
