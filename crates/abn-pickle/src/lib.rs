//! Python pickles as plain data: nothing in them is ever executed.
//!
//! A pickle is a program for a small stack machine, and two of its instructions call any Python
//! function by name. [`load()`] runs the machine (protocols 0 to 5) but not the calls: a function
//! stays a [`Value::Global`], a call an [`Object`] with its arguments, its state and what was put
//! into it, and a reference to data outside the pickle (PyTorch's storages) a
//! [`Value::Persistent`]. Whoever reads decides what an object means; [`Array`] does so for
//! numpy's arrays.
//!
//! ```
//! // pickle.dumps({"labels": [6, 9]}, protocol=2)
//! let bytes = b"\x80\x02}q\x00X\x06\x00\x00\x00labelsq\x01]q\x02(K\x06K\x09es.";
//! let (pickle, consumed) = abn_pickle::load(bytes, &abn_pickle::Limits::default())?;
//! assert_eq!(consumed, bytes.len());
//! let labels = pickle.root().get("labels").and_then(|labels| labels.sequence()).unwrap();
//! assert_eq!(labels.iter().map(|label| label.int()).collect::<Vec<_>>(), [Some(6), Some(9)]);
//! # Ok::<(), abn_pickle::Error>(())
//! ```
//!
//! # Memory
//!
//! All objects of a pickle lie in one list and name each other by position; strings borrow from
//! the input. Each instruction adds a constant amount, and their number is [limited](Limits), so
//! no pickle takes more memory than its length and the limit allow: an object that is used a
//! thousand times is there once, and nothing here recurses, however deep objects nest or if they
//! contain themselves. A reader that follows *every* path through shared objects can still take
//! forever; follow those you know.
//!
//! # Why not another crate
//!
//! `serde-pickle` has no persistent ids, without which no PyTorch file can be read, and expands
//! shared objects; `candle_core::pickle` copies an object each time it is used, keeps no Python 2
//! strings and reads what PyTorch writes only; `pytorch-reader` bounds its copies, but turns
//! what it does not know, numpy's arrays among them, into a name, and cannot read CIFAR's batches.

mod arena;
mod error;
mod input;
mod machine;
mod numpy;
mod opcode;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use arena::Pickle;
pub use error::{Error, Result};
pub use machine::{Limits, load};
pub use numpy::{Array, ElementType};
pub use value::{Entries, Object, Reference, Sequence, Value};
pub use write::Writer;
