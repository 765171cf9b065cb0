//! Where a pickle's objects lie: one list, in which they name each other by position.

use std::borrow::Cow;

use crate::{Reference, Value};

/// The position of an object in its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// One object; what it contains is elsewhere in the list.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Long(Cow<'a, [u8]>),
    Float(f64),
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Box<Name<'a>>),
    Object(Box<Construction>),
    Persistent(Id),
}

/// The name of a function or class.
#[derive(Debug)]
pub(crate) struct Name<'a> {
    pub module: Cow<'a, str>,
    pub name: Cow<'a, str>,
}

/// How an object would come to be.
#[derive(Debug)]
pub(crate) struct Construction {
    pub callable: Id,
    pub arguments: Id,
    pub keywords: Option<Id>,
    pub state: Option<Id>,
    pub items: Vec<Id>,
    pub entries: Vec<(Id, Id)>,
}

/// Everything in a pickle; borrows its strings from the bytes it was read from.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl Pickle<'_> {
    /// What was pickled.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    /// Every reference to something outside the pickle, wherever it stands, in the order of
    /// writing.
    pub fn references(&self) -> impl Iterator<Item = Reference<'_>> {
        self.nodes.iter().filter_map(|node| match Value::of(self, node) {
            Value::Persistent(reference) => Some(reference),
            _ => None,
        })
    }

    pub(crate) fn value(&self, id: Id) -> Value<'_> {
        Value::of(self, self.node(id))
    }

    pub(crate) fn node(&self, id: Id) -> &Node<'_> {
        &self.nodes[id.0 as usize]
    }
}

/// A pickle in the making.
#[derive(Default)]
pub(crate) struct Arena<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Arena<'a> {
    /// `None` if there are more objects than positions.
    pub fn push(&mut self, node: Node<'a>) -> Option<Id> {
        let id = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        Some(Id(id))
    }

    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Node<'a> {
        &mut self.nodes[id.0 as usize]
    }

    pub fn finish(self, root: Id) -> Pickle<'a> {
        Pickle { nodes: self.nodes, root }
    }
}
