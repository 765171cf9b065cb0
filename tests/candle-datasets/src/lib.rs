//! Nothing but a test: `tests/same_pixels.rs`.
