//! Explanations against the `grad-cam` package: `cargo test -p abn-tests --test explain`.
//!
//! `-- --nocapture` prints each deviation. tests/reference/make_explain_fixtures.py makes the fixtures.

use std::collections::BTreeMap;
use std::path::Path;

use abn_backbones::{BuildOptions, Variant, find};
use abn_core::{Classifier, Mode, ParamStore};
use abn_explain::{Branch, ClassActivation, Explain, GradCam, GuidedBackprop, Weighting};
use abn_ops::{Tracked, no_grad};
use abn_tests::fixture::{hash_defined, images};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

/// What a fixture says of itself.
#[derive(Deserialize)]
struct Facts {
    name: String,
    model: String,
    /// A baseline, where nothing is said.
    kind: Option<String>,
    /// `attention`, or the one that answers.
    branch: Option<String>,
    image_size: usize,
    num_classes: usize,
    classes: Vec<u32>,
    layers: Vec<String>,
}

/// The fixture's model: hash-defined weights, and the statistics of the images.
fn build(facts: &Facts, image: &Tensor, dtype: DType) -> Box<dyn Classifier> {
    let store = ParamStore::new(0, dtype, Device::Cpu);
    let options = BuildOptions {
        bn_momentum: 1.0,
        dropout: Some(0.0),
        ..BuildOptions::new(facts.num_classes)
    };
    let spec = find(&facts.model).unwrap();
    let variant = facts.kind.as_deref().unwrap_or("baseline").parse().unwrap();
    let model = spec.build(variant, &options, store.var_builder()).unwrap();
    let shapes = |tensors: Vec<(String, candle_core::Var)>| -> BTreeMap<String, Vec<usize>> {
        tensors.into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect()
    };
    let weights = hash_defined(&shapes(store.parameters()), &shapes(store.buffers())).unwrap();
    store.load(weights, true).unwrap();
    let image = Tracked::constant(image.clone());
    no_grad(|| model.forward(&image, Mode::Train { seed: 0 })).unwrap();
    model
}

/// Largest difference, relative to the largest expected value.
fn deviation(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let flat = |t: &Tensor| -> Vec<f64> {
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (found, expected) = (flat(found), flat(expected));
    let scale = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(scale > 0.0, "an empty map proves nothing");
    found.iter().zip(&expected).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale
}

#[test]
fn maps_are_those_of_the_grad_cam_package() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/explain");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 5, "three plain networks, and both branches of an ABN: {paths:?}");
    for path in paths {
        let fixture = abn_core::weights::read(&path, &Device::Cpu).unwrap();
        let facts: Facts = serde_json::from_str(&fixture.metadata["explain"]).unwrap();
        let branch = match facts.branch.as_deref() {
            Some("attention") => Branch::Attention,
            _ => Branch::Perception,
        };
        for (dtype, bound) in [(DType::F64, 1e-6), (DType::F32, 1e-4)] {
            let image = images(facts.classes.len(), facts.image_size).unwrap();
            let image = image.to_dtype(dtype).unwrap();
            let model = build(&facts, &image, dtype);
            let check = |name: String, found: Tensor| {
                let deviation = deviation(&found, &fixture.tensors[&name]);
                println!("{} {name} {dtype:?}: {deviation:.1e} (≤ {bound:.0e})", facts.name);
                assert!(deviation <= bound, "{} {name} {dtype:?}: {deviation:e}", facts.name);
            };
            for layer in &facts.layers {
                // Grad-CAM++ divides by 2G² + ΣA·G³, which is positive where A is, after a ReLU.
                // Before it the sum crosses zero, and single precision decides what comes out.
                let before_relu =
                    ["layer2.0.conv1", "features.20", "features.40", "layer4.0.conv2"];
                let singular = dtype == DType::F32 && before_relu.contains(&layer.as_str());
                for (name, weighting) in [
                    ("grad-cam", Weighting::GradCam),
                    ("grad-cam++", Weighting::GradCamPlusPlus),
                    ("layer-cam", Weighting::LayerCam),
                ] {
                    if singular && weighting == Weighting::GradCamPlusPlus {
                        continue;
                    }
                    let method = GradCam::new(weighting).at(layer).of(branch);
                    let maps = method.maps(&*model, &image, &facts.classes).unwrap();
                    check(format!("{name}@{layer}"), maps);
                }
            }
            let guided = GuidedBackprop { branch };
            let gradients = guided.gradients(&*model, &image, &facts.classes).unwrap();
            check("guided-backprop".into(), gradients);
        }
    }
}

/// Zhou et al., equation 2: M_c(x, y) = Σ_k w_k^c · f_k(x, y), summed here one product at a time in
/// double precision, with the linear layer's weights from the file of parameters.
#[test]
fn class_activation_maps_are_their_definition() {
    for (name, size) in [("resnet20", 32), ("vgg16-bn", 64), ("resnet18", 96)] {
        let store = ParamStore::new(0, DType::F32, Device::Cpu);
        let options = BuildOptions::new(10);
        let spec = find(name).unwrap();
        let model = spec.build(Variant::Cam, &options, store.var_builder()).unwrap();
        let shapes = |tensors: Vec<(String, candle_core::Var)>| -> BTreeMap<String, Vec<usize>> {
            tensors.into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect()
        };
        let weights = hash_defined(&shapes(store.parameters()), &shapes(store.buffers())).unwrap();
        store.load(weights, true).unwrap();
        let (image, classes) = (images(2, size).unwrap().to_dtype(DType::F32).unwrap(), [7, 2]);
        let tracked = Tracked::constant(image.clone());
        let features = no_grad(|| model.features(&tracked, Mode::Eval)).unwrap();
        let (n, h, w, channels) = features.last.value().dims4().unwrap();
        let flat = features.last.value().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let weights = store.tensors()["cam_fc.weight"].to_vec2::<f32>().unwrap();
        let pixel = |place: usize| -> f64 {
            let weights = &weights[classes[place / (h * w)] as usize];
            let values = &flat[place * channels..(place + 1) * channels];
            values.iter().zip(weights).map(|(f, w)| f64::from(*f) * f64::from(*w)).sum()
        };
        let expected: Vec<_> = (0..n * h * w).map(pixel).collect();
        let expected = Tensor::from_vec(expected, (n, h, w), &Device::Cpu).unwrap();
        let found = ClassActivation.maps(&*model, &image, &classes).unwrap();
        let deviation = deviation(&found, &expected);
        println!("{name} cam F32: {deviation:.1e} (≤ 1e-4)");
        assert!(deviation <= 1e-4, "{name}: {deviation:e}");
    }
}
