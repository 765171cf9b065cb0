use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::weights::{from_bytes, to_bytes};
use crate::{Error, ParamStore, layers};

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn tensors_and_metadata_come_back() {
    let a = Tensor::new(&[[1f32, -2.5], [3.0, f32::MIN_POSITIVE]], &Device::Cpu).unwrap();
    let b = Tensor::new(0.1f64, &Device::Cpu).unwrap();
    let transposed = a.t().unwrap();
    let tensors = BTreeMap::from([("a".into(), a), ("b".into(), b), ("t".into(), transposed)]);
    let metadata = strings(&[("model", "resnet20"), ("quote\"", "line\nbreak é")]);
    let bytes = to_bytes(&tensors, &metadata).unwrap();
    let read = from_bytes(&bytes, &Device::Cpu).unwrap();
    assert_eq!(read.metadata, metadata);
    assert!(read.tensors.keys().eq(tensors.keys()));
    for (name, tensor) in &tensors {
        let both = [tensor, &read.tensors[name]].map(|t| {
            assert_eq!(t.dtype(), tensor.dtype());
            let wide = t.to_dtype(DType::F64).unwrap();
            (wide.dims().to_vec(), wide.flatten_all().unwrap().to_vec1::<f64>().unwrap())
        });
        assert_eq!(both[0], both[1], "{name}");
    }
}

#[test]
fn the_same_values_give_the_same_bytes() {
    let make = || {
        let store = ParamStore::new(5, DType::F32, Device::Cpu);
        layers::conv3x3(3, 4, 1, store.var_builder().pp("conv")).unwrap();
        let metadata: Vec<_> = (0..20).map(|i| (i.to_string(), "x".to_owned())).collect();
        store.to_bytes(&metadata.into_iter().collect()).unwrap()
    };
    assert_eq!(make(), make());
}

#[test]
fn a_file_without_tensors_can_have_metadata() {
    let metadata = strings(&[("only", "this")]);
    let bytes = to_bytes(&BTreeMap::new(), &metadata).unwrap();
    assert_eq!(from_bytes(&bytes, &Device::Cpu).unwrap().metadata, metadata);
}

#[test]
fn what_is_no_safetensors_file_is_an_error() {
    let tensors = BTreeMap::from([("a".into(), Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap())]);
    let bytes = to_bytes(&tensors, &BTreeMap::new()).unwrap();
    for broken in [&bytes[..bytes.len() - 1], &bytes[..20], b"not one at all", b""] {
        assert!(matches!(from_bytes(broken, &Device::Cpu), Err(Error::Safetensors(_))));
    }
}

#[test]
fn only_floats_can_be_saved() {
    let tensors = BTreeMap::from([("n".into(), Tensor::new(&[1u32], &Device::Cpu).unwrap())]);
    let error = to_bytes(&tensors, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("`n`") && error.contains("U32"), "{error}");
}
