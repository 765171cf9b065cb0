use super::{PROTOCOLS, PYTHON2, load, problem};
use crate::{Error, Limits, Value};

#[test]
fn every_truncation_is_an_error() {
    for bytes in PROTOCOLS.into_iter().chain([PYTHON2]) {
        for end in 0..bytes.len() {
            let error = crate::load(&bytes[..end], &Limits::default()).err();
            let truncated = matches!(error, Some(Error::Truncated { .. }));
            assert!(truncated, "cut at {end}: {error:?}");
        }
    }
}

/// Whatever a byte is changed to: a value or an error, but no panic.
#[test]
fn no_changed_byte_makes_it_panic() {
    for bytes in PROTOCOLS.into_iter().chain([PYTHON2]) {
        let mut changed = bytes.to_vec();
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff, bytes[position] ^ b'.'] {
                changed[position] = bytes[position] ^ change;
                if let Ok((pickle, _)) = crate::load(&changed, &Limits { opcodes: 1 << 16 }) {
                    let root = pickle.root();
                    for (_, value) in root.entries().unwrap_or_default() {
                        let _ = (value.array(), value.bytes(), value.entries(), value.describe());
                    }
                }
            }
            changed[position] = bytes[position];
        }
    }
}

#[test]
fn what_is_no_pickle_is_said_to_be_none() {
    for (bytes, expected) in [
        (&b""[..], "ends at byte 0"),
        (b"<!DOCTYPE html>\n<html>404</html>", "byte 0 of the pickle: 0x3c is no instruction"),
        (b"PK\x03\x04", "ends at byte 4"),
        (b"\x80\x06N.", "protocol 6 is not known"),
        (b"\xff", "0xff is no instruction"),
        (b".", "more from the stack than is there"),
        (b"(.", "more from the stack than is there"),
        (b"(K\x01(.", "more from the stack than is there"),
        (b"0.", "more from the stack than is there"),
        (b"K\x01(0t.", "needs a mark"),
        (b"K\x01(\x85.", "a tuple of more than is on the stack"),
        (b"\x87.", "a tuple of more than is on the stack"),
        (b"t.", "needs a mark"),
        (b"K\x01h\x00.", "object 0 is used, but not remembered"),
        (b"gx\n.", "number is none"),
        (b"Iten\n.", "a number that is none"),
        (b"L99999999999999999999999999999999999999999999L\n.", "more than 128 bits"),
        (b"Sno quotes\n.", "without its quotes"),
        (b"S'\\xzz'\n.", "broken escape"),
        (b"V\\ud800\n.", "no character"),
        (b"\x8c\x01\xff.", "not UTF-8"),
        (b"T\xff\xff\xff\xff.", "a string of -1 bytes"),
        (b"\x8b\xff\xff\xff\xff.", "an integer of -1 bytes"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "the rest of a string was expected"),
        (b"}(U\x01au.", "a key without a value"),
        (b"K\x01K\x02a.", "put into what takes none"),
        (b"K\x01K\x02K\x03s.", "set in what takes none"),
        (b"K\x01K\x02b.", "a state is set on what has none"),
        (b"cos\nsystem\nK\x01R.", "arguments are no tuple"),
        (b"K\x01K\x02\x93.", "the name of a global is no text"),
        (b"(o.", "an object without a class"),
        (b"\x82\x01.", "extension registry"),
        (b"\x97.", "outside of the pickle"),
    ] {
        let said = problem(bytes);
        assert!(said.contains(expected), "{:?}: {said}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn deep_nesting_takes_no_stack() {
    // A million lists inside each other, then as many tuples.
    for (open, close) in [(b"](", "e"), (b"((", "tt")] {
        let mut bytes = open.repeat(400_000);
        bytes.extend(close.repeat(400_000).into_bytes());
        bytes.push(b'.');
        let pickle = load(&bytes);
        let mut depth = 0;
        let mut value = pickle.root();
        while let Some(inner) = value.sequence().and_then(|items| items.get(0)) {
            value = inner;
            depth += 1;
        }
        assert!(depth >= 399_999, "{depth}");
    }
}

#[test]
fn a_bomb_of_shared_objects_stays_small() {
    // Each tuple holds the one before it twice: 2^1000 paths, 1000 objects.
    let mut bytes = b"K\x01".to_vec();
    bytes.extend(b"2\x86".repeat(1000));
    bytes.push(b'.');
    let pickle = load(&bytes);
    assert_eq!(pickle.root().sequence().unwrap().len(), 2);
    // And a large string that is used often is there once: it is the input's.
    let mut bytes = b"(B\x00\x00\x10\x00".to_vec();
    bytes.extend(vec![7; 1 << 20]);
    bytes.extend(b"q\x00");
    bytes.extend(b"h\x00".repeat(100_000));
    bytes.extend(b"t.");
    let pickle = load(&bytes);
    let items = pickle.root().sequence().unwrap();
    let Some(Value::Bytes(last)) = items.get(100_000) else { panic!() };
    assert!(bytes.as_ptr_range().contains(&last.as_ptr()));
}

#[test]
fn a_list_may_contain_itself() {
    let pickle = load(b"]q\x00h\x00a.");
    let inner = pickle.root().sequence().unwrap().get(0).unwrap();
    assert_eq!(inner.sequence().unwrap().get(0).unwrap().describe(), "a list of 1");
}

#[test]
fn the_number_of_instructions_is_limited() {
    let mut bytes = b"N0".repeat(50);
    bytes.extend(b"N.");
    let limits = Limits { opcodes: 102 };
    assert!(crate::load(&bytes, &limits).is_ok());
    let error = crate::load(&bytes, &Limits { opcodes: 101 }).err();
    assert_eq!(error, Some(Error::TooLong { opcodes: 101 }));
}

#[test]
fn arrays_whose_parts_contradict_each_other_are_refused() {
    let array = |shape: &str, dtype: &str, data: &str| {
        format!(
            "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n{shape}\
             cnumpy\ndtype\n(S'{dtype}'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n{data}tb."
        )
    };
    let good = array("(I2\nI3\nt", "u1", "S'abcdef'\n");
    assert_eq!(load(good.as_bytes()).root().array().unwrap().as_u8().unwrap(), b"abcdef");
    for (bytes, expected) in [
        (array("(I2\nI3\nt", "u1", "S'abcde'\n"), "shape [2, 3] and 1 bytes each, found 5 bytes"),
        (array("(I2\nI3\nt", "u2", "S'abcdef'\n"), "shape [2, 3] and 2 bytes each"),
        (array("(I-2\nI-3\nt", "u1", "S'abcdef'\n"), "expected an array's shape"),
        (array("(I4294967296\nI4294967296\nt", "u1", "S'abcdef'\n"), "found 6 bytes"),
        (array("I6\n", "u1", "S'abcdef'\n"), "expected an array's shape"),
        (array("(I6\nt", "O8", "(lI1\na"), "expected a numpy number type, found the string \"O8\""),
        (
            array("(I6\nt", "u1", "(lI1\na"),
            "expected an array's numbers as bytes, found a list of 1",
        ),
        ("cos\nsystem\n)R.".into(), "expected a numpy array, found an object of os.system"),
        ("I5\n.".into(), "expected a numpy array, found the integer 5"),
    ] {
        let pickle = load(bytes.as_bytes());
        let said = pickle.root().array().expect_err(expected).to_string();
        assert!(said.contains(expected), "{said}");
    }
}
