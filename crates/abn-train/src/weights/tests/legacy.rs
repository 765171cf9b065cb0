use super::*;

const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";
const SYSTEM: &[u8] =
    b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88X\x10\x00\x00\x00protocol_versionM\xe9\x03u.";
/// `["0"]`
const KEYS: &[u8] = b"\x80\x02]X\x01\x00\x00\x000a.";

/// The number of elements, then these.
fn stored(count: i64, values: &[f32]) -> Vec<u8> {
    [&count.to_le_bytes()[..], &floats(values)].concat()
}

fn file(object: &[u8], keys: &[u8], storages: &[u8]) -> Vec<u8> {
    [MAGIC, VERSION, SYSTEM, object, keys, storages].concat()
}

#[test]
fn its_parts_are_found() {
    let storage = stored(6, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bytes = file(&pickled(&[GOOD]), KEYS, &storage);
    assert_eq!(numbers(&bytes).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn old_views_of_storages_count_from_their_own_start() {
    // ("storage", FloatStorage, "0", "cpu", 6, ("1", 2, 4)), shape (3,), offset 1.
    let mut out = Writer::new();
    out.empty_dict().mark().text("w").global("torch._utils", "_rebuild_tensor_v2").mark();
    out.mark().text("storage").global("torch.cuda", "FloatStorage").text("0").text("cuda:0").int(6);
    out.mark().text("1").int(2).int(4).tuple().tuple().persistent();
    out.int(1)
        .mark()
        .int(3)
        .tuple()
        .mark()
        .int(1)
        .tuple()
        .bool(false)
        .empty_dict()
        .tuple()
        .reduce();
    out.set_items();
    let storage = stored(6, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(numbers(&file(&out.finish(), KEYS, &storage)).unwrap(), [4.0, 5.0, 6.0]);
}

#[test]
fn the_first_pytorchs_parameters_and_sizes_are_understood() {
    // Parameter(_rebuild_tensor(storage, 0, Size((3, 2)), (1, 3)), True)
    for (module, name) in
        [("torch.nn.parameter", "Parameter"), ("torch.autograd.variable", "Variable")]
    {
        let mut out = Writer::new();
        out.empty_dict().mark().text("w").global(module, name).mark();
        out.global("torch._utils", "_rebuild_tensor").mark();
        out.mark().text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(6);
        out.tuple().persistent().int(0);
        out.global("torch", "Size").mark().mark().int(3).int(2).tuple().tuple().reduce();
        out.mark().int(1).int(3).tuple().tuple().reduce();
        out.bool(true).tuple().reduce().set_items();
        let storage = stored(6, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let bytes = file(&out.finish(), KEYS, &storage);
        assert_eq!(numbers(&bytes).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let (good, storage) = (pickled(&[GOOD]), stored(6, &six));
    let twice = b"\x80\x02](X\x01\x00\x00\x000X\x01\x00\x00\x000e.";
    let two_types = pickled(&[GOOD, Told { name: "v", class: "IntStorage", ..GOOD }]);
    let parts = [MAGIC, VERSION, SYSTEM, &good, KEYS, &storage];
    let without = |part: usize| {
        let kept = parts.iter().enumerate().filter(|(index, _)| *index != part);
        kept.flat_map(|(_, bytes)| bytes.to_vec()).collect::<Vec<u8>>()
    };
    for (bytes, expected) in [
        (without(0), "it begins with the integer 1001"),
        (without(1), "its format is a dict of 2, not 1001"),
        (without(3), "the storages' names (at byte "),
        (without(4), "the storages' names (at byte "),
        (without(5), "the file ends in storage 0 (at byte "),
        (
            replaced(&file(&good, KEYS, &storage), VERSION, b"\x80\x02M\xea\x03."),
            "its format is the integer 1002",
        ),
        (file(&good, b"N.", &storage), "the storages' names are no list"),
        (file(&good, b"]K\x01a.", &storage), "a storage's name is the integer 1"),
        (file(&good, b"].", &storage), "tensor `w`: its storage 0 is missing"),
        (file(&good, b"]X\x01\x00\x00\x001a.", &storage), "storage 1 is of no tensor"),
        (file(&good, twice, &[&storage[..], &storage].concat()), "storage 0 is there twice"),
        (
            file(&good, KEYS, &stored(5, &six)),
            "storage 0 has 5 elements, where its tensors expect 6",
        ),
        (file(&good, KEYS, &stored(-1, &six)), "storage 0 has -1 elements"),
        (file(&good, KEYS, &storage[..30]), "the file ends in storage 0"),
        (file(&two_types, KEYS, &storage), "storage 0 has two types or sizes"),
        (
            file(&pickled(&[Told { count: i64::MAX, ..GOOD }]), KEYS, &stored(i64::MAX, &six)),
            "the file ends in storage 0",
        ),
        (
            file(&pickled(&[Told { dims: &[7], strides: &[1], ..GOOD }]), KEYS, &storage),
            "reaches beyond its storage",
        ),
        (file(&good, KEYS, &stored(6, &[f32::INFINITY; 6])), "number 0 is inf"),
    ] {
        let said = problem(&bytes);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
