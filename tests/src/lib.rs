//! What the cross-crate tests in `tests/tests` share.

pub mod fixture;
pub mod parity;
