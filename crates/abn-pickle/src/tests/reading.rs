use std::borrow::Cow;

use super::{PROTOCOLS, PYTHON2, load};
use crate::{ElementType, Limits, Value};

fn ints(value: Value<'_>) -> Vec<i64> {
    value.sequence().unwrap().iter().map(|item| item.int().unwrap()).collect()
}

#[test]
fn every_protocol_gives_the_same_object() {
    for (protocol, bytes) in PROTOCOLS.into_iter().enumerate() {
        let pickle = load(bytes);
        let get = |key: &str| pickle.root().get(key).unwrap_or_else(|| panic!("{protocol}: {key}"));
        assert!(matches!(get("none"), Value::None));
        let truth: Vec<_> = get("truth").sequence().unwrap().iter().collect();
        // Protocols 0 and 1 have no booleans of their own.
        assert!(
            matches!(truth[..], [Value::Bool(true), Value::Bool(false)]),
            "{protocol}: {truth:?}"
        );
        let expected = [0, 255, 256, 65535, 65536, -1, -(1 << 31), 1 << 31, i64::MAX, i64::MIN];
        assert_eq!(ints(get("ints")), expected);
        let Value::Long(long) = get("long") else { panic!("{protocol}: {:?}", get("long")) };
        let mut wide = [0; 16];
        wide[..long.len()].copy_from_slice(long);
        assert_eq!(i128::from_le_bytes(wide), 1 << 70);
        let floats = get("floats").sequence().unwrap();
        let floats: Vec<_> = floats
            .iter()
            .map(|float| if let Value::Float(value) = float { value } else { f64::NAN })
            .collect();
        assert_eq!(floats, [0.1, -1e300, f64::INFINITY], "{protocol}");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(get("bytes").bytes().as_deref(), Some(&all[..]), "{protocol}");
        assert_eq!(get("bytearray").bytes().as_deref(), Some(&[0, 255][..]), "{protocol}");
        assert_eq!(get("text").text(), Some("naïve 😀 \\u0041 \n'"), "{protocol}");
        let ordered: Vec<_> = get("ordered").entries().unwrap();
        let ordered: Vec<_> = ordered
            .iter()
            .map(|(key, value)| (key.text().unwrap(), value.int().unwrap()))
            .collect();
        assert_eq!(ordered, [("b", 1), ("a", 2)]);
        assert_eq!(get("ordered").get("a").and_then(Value::int), Some(2));
        let shared: Vec<_> = get("shared").sequence().unwrap().iter().map(ints).collect();
        assert_eq!(shared, [[1], [1]]);
        match get("set") {
            Value::Set(items) => assert_eq!(items.get(0).and_then(Value::int), Some(7)),
            // Before protocol 4 sets are calls.
            Value::Object(set) => assert_eq!(ints(set.arguments().get(0).unwrap()), [7]),
            other => panic!("{protocol}: {other:?}"),
        }
    }
}

#[test]
fn arrays_of_every_protocol_have_their_numbers() {
    for (protocol, bytes) in PROTOCOLS.into_iter().enumerate() {
        let pickle = load(bytes);
        let array = |key: &str| pickle.root().get(key).unwrap().array().unwrap();
        let plain = array("array");
        assert_eq!(plain.shape, [2, 3, 4], "protocol {protocol}");
        assert_eq!(plain.as_u8().unwrap(), (0..24).collect::<Vec<u8>>());
        let big = array("big");
        assert_eq!(big.element, ElementType { kind: 'f', size: 4, big_endian: true });
        assert_eq!(*big.bytes, [1.5f32.to_be_bytes(), (-2f32).to_be_bytes()].concat());
        assert!(big.as_u8().unwrap_err().to_string().contains("f4"));
        let fortran = array("fortran");
        assert_eq!((&fortran.shape[..], fortran.fortran_order), (&[2, 3][..], true));
        assert_eq!(*fortran.bytes, [0, 3, 1, 4, 2, 5]);
        assert!(fortran.as_u8().is_err());
    }
}

#[test]
fn a_cifar_batch_of_python_2_is_read_without_copies() {
    let pickle = load(PYTHON2);
    let batch = pickle.root();
    assert_eq!(batch.get("batch_label").and_then(Value::text), Some("training batch 1 of 5"));
    assert_eq!(ints(batch.get("labels").unwrap()), [6, 9, 1]);
    let names = batch.get("filenames").unwrap().sequence().unwrap();
    assert_eq!(
        names.iter().map(|name| name.text().unwrap()).collect::<Vec<_>>(),
        ["a.png", "b.png", "c.png"]
    );
    let data = batch.get("data").unwrap().array().unwrap();
    assert_eq!(data.shape, [3, 12]);
    assert!(matches!(data.bytes, Cow::Borrowed(_)));
    assert_eq!(data.as_u8().unwrap(), (0..36).map(|i| i * 7).collect::<Vec<u8>>());
}

#[test]
fn python_2s_ordered_dict_has_its_pairs_in_a_list() {
    let pickle = load(b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R.");
    let entries = pickle.root().entries().unwrap();
    let entries: Vec<_> =
        entries.iter().map(|(k, v)| (k.text().unwrap(), v.int().unwrap())).collect();
    assert_eq!(entries, [("a", 1), ("b", 2)]);
}

#[test]
fn text_strings_of_protocol_0_have_their_escapes() {
    let pickle =
        load(b"(S'it\\'s \\x41\\101\\n\\q\\\\'\nS\"plain\"\nVa\\\\u0041\\ud83d\\ude00\xe9\nt.");
    let items: Vec<_> = pickle.root().sequence().unwrap().iter().collect();
    assert_eq!(items[0].bytes().unwrap(), &b"it's AA\n\\q\\"[..]);
    assert_eq!(items[1].text(), Some("plain"));
    assert_eq!(items[2].text(), Some("a\\\\u0041😀é"));
}

#[test]
fn calls_stay_calls() {
    // What a hostile pickle would run.
    let pickle = load(b"cos\nsystem\n(S'rm -rf /'\ntR}S'k'\nK\x01sb.");
    let object = pickle.root().object().unwrap();
    assert!(object.callable().is_global("os", "system"));
    assert_eq!(object.arguments().get(0).and_then(Value::text), Some("rm -rf /"));
    assert_eq!(object.state().unwrap().get("k").and_then(Value::int), Some(1));
    assert_eq!(pickle.root().describe(), "an object of os.system");
    assert!(pickle.root().entries().is_none() && pickle.root().array().is_err());
}

#[test]
fn old_classes_and_keyword_arguments_are_objects_too() {
    let inst = load(b"(K\x01imod\nOld\n.");
    let old = inst.root().object().unwrap();
    assert!(old.callable().is_global("mod", "Old"));
    assert_eq!(old.arguments().get(0).and_then(Value::int), Some(1));
    let obj = load(b"(cmod\nOld\nK\x02o.");
    assert_eq!(obj.root().object().unwrap().arguments().get(0).and_then(Value::int), Some(2));
    let keywords = load(b"\x80\x04\x8c\x03mod\x8c\x03New\x93)}\x8c\x01aK\x03s\x92.");
    let new = keywords.root().object().unwrap();
    assert!(new.callable().is_global("mod", "New"));
    assert_eq!(new.keywords().unwrap().get("a").and_then(Value::int), Some(3));
}

#[test]
fn outside_objects_keep_their_names() {
    let pickle = load(b"\x80\x02(Pname\nU\x07storageK\x05\x86Qt.");
    let names: Vec<_> = pickle.root().sequence().unwrap().iter().collect();
    let Value::Persistent(first) = names[0] else { panic!("{names:?}") };
    assert_eq!(first.id().text(), Some("name"));
    let all: Vec<_> = pickle.references().map(|reference| reference.id().describe()).collect();
    assert_eq!(all, ["the text \"name\"", "a tuple of 2"]);
    let Value::Persistent(second) = names[1] else { panic!("{names:?}") };
    let second = second.id().sequence().unwrap();
    assert_eq!(
        (second.get(0).unwrap().text(), second.get(1).unwrap().int()),
        (Some("storage"), Some(5))
    );
}

#[test]
fn pickles_in_sequence_are_read_one_by_one() {
    let bytes = [b"K\x01.".as_slice(), b"\x80\x02K\x02.", b"rest"].concat();
    let (first, one) = crate::load(&bytes, &Limits::default()).unwrap();
    let (second, two) = crate::load(&bytes[one..], &Limits::default()).unwrap();
    assert_eq!((first.root().int(), second.root().int()), (Some(1), Some(2)));
    assert_eq!(&bytes[one + two..], b"rest");
}

#[test]
fn of_equal_keys_the_last_counts_and_all_are_seen() {
    let pickle = load(b"}(U\x01aK\x01U\x01aK\x02u.");
    assert_eq!(pickle.root().get("a").and_then(Value::int), Some(2));
    assert_eq!(pickle.root().entries().unwrap().len(), 2);
}
