//! What the cross-crate tests in `tests/tests` share.

pub mod fixture;
pub mod parity;

/// The README's example, compiled and run.
#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
pub struct Readme;
