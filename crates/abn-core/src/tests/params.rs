use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::Init;

use crate::layers::{BatchNorm2d, BatchNormConfig, Linear, LinearInit, conv3x3};
use crate::{Error, LoadReport, ParamStore};

fn store(seed: u64) -> ParamStore {
    ParamStore::new(seed, DType::F32, Device::Cpu)
}

fn two_layers(store: &ParamStore) {
    let vb = store.var_builder();
    conv3x3(2, 4, 1, vb.pp("conv")).unwrap();
    BatchNorm2d::new(4, BatchNormConfig::default(), vb.pp("bn")).unwrap();
}

fn values(store: &ParamStore, name: &str) -> Vec<f32> {
    store.tensors()[name].flatten_all().unwrap().to_vec1().unwrap()
}

fn ones(shapes: &[(&str, &[usize])]) -> BTreeMap<String, Tensor> {
    let one = |shape: &[usize]| Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap();
    shapes.iter().map(|(name, shape)| (name.to_string(), one(shape))).collect()
}

const FITTING: [(&str, &[usize]); 5] = [
    ("bn.bias", &[4]),
    ("bn.running_mean", &[4]),
    ("bn.running_var", &[4]),
    ("bn.weight", &[4]),
    ("conv.weight", &[4, 2, 3, 3]),
];

#[test]
fn initial_values_depend_on_seed_and_name_only() {
    let make = |seed, names: &[&str]| {
        let store = store(seed);
        for name in names {
            let init = Init::Randn { mean: 0.0, stdev: 1.0 };
            store.var_builder().get_with_hints((3, 5), name, init).unwrap();
        }
        values(&store, "b")
    };
    let b = make(1, &["a", "b", "c"]);
    assert_eq!(b, make(1, &["c", "b", "a"]));
    assert_eq!(b, make(1, &["b"]));
    assert_ne!(b, make(2, &["b"]));
    let store = store(1);
    std::thread::scope(|scope| {
        for name in ["c", "b", "a", "b"] {
            let vb = store.var_builder();
            let init = Init::Randn { mean: 0.0, stdev: 1.0 };
            scope.spawn(move || vb.get_with_hints((3, 5), name, init).unwrap());
        }
    });
    assert_eq!(b, values(&store, "b"));
}

#[test]
fn initial_values_have_the_distribution_that_was_asked_for() {
    let store = store(7);
    let vb = store.var_builder();
    Linear::new(400, 300, LinearInit::Normal(0.01), vb.pp("normal")).unwrap();
    Linear::new(400, 300, LinearInit::Uniform, vb.pp("uniform")).unwrap();
    conv3x3(100, 200, 1, vb.pp("conv")).unwrap();
    let moments = |name| {
        let values = values(&store, name);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let var = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
        (mean, var.sqrt(), f64::from(largest))
    };
    let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.01;
    let (mean, std, largest) = moments("normal.weight");
    assert!(mean.abs() < 1e-4 && near(std, 0.01) && largest > 0.035, "{mean} {std} {largest}");
    let (_, std, largest) = moments("uniform.weight");
    assert!(near(std, 0.05 / 3f64.sqrt()) && near(largest, 0.05), "{std} {largest}");
    let (_, std, _) = moments("conv.weight");
    assert!(near(std, (2.0 / (9.0 * 200.0f64)).sqrt()), "{std}");
    assert!(values(&store, "normal.bias").iter().all(|v| *v == 0.0));
    assert!(values(&store, "uniform.bias").iter().all(|v| *v != 0.0));
}

#[test]
fn running_statistics_are_not_trained() {
    let store = store(0);
    two_layers(&store);
    let names = |list: Vec<(String, _)>| list.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(names(store.parameters()), ["bn.bias", "bn.weight", "conv.weight"]);
    assert_eq!(names(store.buffers()), ["bn.running_mean", "bn.running_var"]);
    assert_eq!(store.parameter_count(), 4 + 4 + 4 * 2 * 9);
}

#[test]
fn a_parameter_is_shared_by_those_who_name_it() {
    let store = store(0);
    two_layers(&store);
    let (_, var) = &store.parameters()[0];
    var.set(&Tensor::ones(4, DType::F32, &Device::Cpu).unwrap()).unwrap();
    let again = store.var_builder().pp("bn").get(4, "bias").unwrap();
    assert_eq!(again.to_vec1::<f32>().unwrap(), [1.0; 4]);
    assert_eq!(again.id(), var.as_tensor().id());
    let error = store.var_builder().pp("bn").get(5, "bias").unwrap_err().to_string();
    assert!(error.contains("`bn.bias`") && error.contains("[5]"), "{error}");
}

#[test]
fn loading_takes_what_pytorch_saves() {
    let store = store(0);
    two_layers(&store);
    let mut weights: BTreeMap<_, _> =
        ones(&FITTING).into_iter().map(|(name, t)| (format!("module.{name}"), t)).collect();
    let batches = Tensor::new(7i64, &Device::Cpu).unwrap();
    weights.insert("module.bn.num_batches_tracked".into(), batches);
    assert_eq!(store.load(weights, true).unwrap(), LoadReport::default());
    for (name, _) in FITTING {
        assert!(values(&store, name).iter().all(|v| *v == 1.0), "{name}");
    }
}

#[test]
fn loading_names_what_does_not_fit_and_then_changes_nothing() {
    let store = store(0);
    two_layers(&store);
    let before = values(&store, "conv.weight");

    let mut weights = ones(&FITTING);
    weights.remove("bn.weight");
    weights.extend(ones(&[("fc.weight", &[3])]));
    match store.load(weights.clone(), true) {
        Err(Error::Keys { missing, unexpected }) => {
            assert_eq!((missing, unexpected), (vec!["bn.weight".into()], vec!["fc.weight".into()]));
        }
        other => panic!("{other:?}"),
    }
    let text = store.load(weights.clone(), true).unwrap_err().to_string();
    assert!(text.contains("missing `bn.weight`; unexpected `fc.weight`"), "{text}");

    let mut reshaped = ones(&FITTING);
    reshaped.extend(ones(&[("bn.weight", &[5])]));
    let text = store.load(reshaped, false).unwrap_err().to_string();
    assert!(text.contains("`bn.weight`") && text.contains("[4]") && text.contains("[5]"), "{text}");
    assert_eq!(values(&store, "conv.weight"), before);

    let report = store.load(weights, false).unwrap();
    assert_eq!(report.missing, ["bn.weight"]);
    assert_eq!(report.unexpected, ["fc.weight"]);
    assert!(values(&store, "conv.weight").iter().all(|v| *v == 1.0));
}

#[test]
fn shapes_alone_take_no_memory() {
    let store = ParamStore::shapes_only();
    store.var_builder().get((1 << 20, 1 << 20), "huge").unwrap();
    assert_eq!(store.parameter_count(), 1 << 40);
    assert!(store.parameters().is_empty());
}
