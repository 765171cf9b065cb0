mod malformed;
mod reading;
mod writing;

use crate::{Limits, Pickle};

/// What CPython's and numpy's picklers wrote (`tests/reference/make_pickle_fixtures.py`).
const PROTOCOLS: [&[u8]; 6] = [
    include_bytes!("fixtures/protocol0.pkl"),
    include_bytes!("fixtures/protocol1.pkl"),
    include_bytes!("fixtures/protocol2.pkl"),
    include_bytes!("fixtures/protocol3.pkl"),
    include_bytes!("fixtures/protocol4.pkl"),
    include_bytes!("fixtures/protocol5.pkl"),
];
const PYTHON2: &[u8] = include_bytes!("fixtures/python2.pkl");

/// The pickle that is all of these bytes.
#[track_caller]
fn load(bytes: &[u8]) -> Pickle<'_> {
    let (pickle, consumed) = crate::load(bytes, &Limits::default()).unwrap();
    assert_eq!(consumed, bytes.len());
    pickle
}

/// Why these bytes are no pickle.
#[track_caller]
fn problem(bytes: &[u8]) -> String {
    crate::load(bytes, &Limits::default()).expect_err("no error").to_string()
}
