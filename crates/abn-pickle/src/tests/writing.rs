use super::load;
use crate::{Value, Writer};

#[test]
fn what_is_written_is_read() {
    let numbers = [0, 255, 256, 65535, 65536, -1, i64::from(i32::MIN), 1 << 40, i64::MIN];
    let mut out = Writer::new();
    out.mark().empty_dict().mark().text("weights").global("mod", "make").mark();
    for number in numbers {
        out.int(number);
    }
    out.tuple()
        .reduce()
        .text("outside")
        .mark()
        .text("storage")
        .text("weights")
        .tuple()
        .persistent();
    out.set_items().empty_tuple().bool(true).bool(false).global("mod", "make").tuple();
    let bytes = out.finish();
    let pickle = load(&bytes);
    let parts: Vec<_> = pickle.root().sequence().unwrap().iter().collect();
    let [dict, empty, Value::Bool(true), Value::Bool(false), global] = parts[..] else {
        panic!("{parts:?}")
    };
    assert!(global.is_global("mod", "make"));
    assert!(empty.sequence().unwrap().is_empty());
    let made = dict.get("weights").unwrap().object().unwrap();
    assert!(made.callable().is_global("mod", "make"));
    assert_eq!(made.arguments().iter().map(|n| n.int().unwrap()).collect::<Vec<_>>(), numbers);
    let Value::Persistent(outside) = dict.get("outside").unwrap() else { panic!("{dict:?}") };
    assert_eq!(outside.id().sequence().unwrap().get(1).unwrap().text(), Some("weights"));
}

#[test]
fn what_is_written_twice_is_there_once() {
    let name = "a long name that stands in many places";
    let mut out = Writer::new();
    out.mark();
    for index in 0..300 {
        out.text(name).text(&format!("text {index}")).global("a.module", "function");
    }
    out.tuple();
    let bytes = out.finish();
    for once in [name, "a.module\nfunction\n"] {
        let found = bytes.windows(once.len()).filter(|window| *window == once.as_bytes());
        assert_eq!(found.count(), 1, "{once}");
    }
    let pickle = load(&bytes);
    let items: Vec<_> = pickle.root().sequence().unwrap().iter().collect();
    assert_eq!(items.len(), 900);
    for (index, parts) in items.chunks(3).enumerate() {
        assert_eq!(parts[0].text(), Some(name));
        assert_eq!(parts[1].text(), Some(format!("text {index}").as_str()));
        assert!(parts[2].is_global("a.module", "function"));
    }
}
