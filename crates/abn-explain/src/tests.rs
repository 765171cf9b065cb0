//! Methods against their definitions, written out with candle's operations.

use abn_backbones::{BuildOptions, Variant, find};
use abn_core::{Classifier, EXTRACTOR, LAST, Mode, ParamStore, TRUNK};
use abn_ops::{Tracked, no_grad};
use candle_core::{D, DType, Device, Tensor};

use crate::*;

fn model(name: &str, variant: Variant) -> (ParamStore, Box<dyn Classifier>) {
    let params = ParamStore::new(7, DType::F64, Device::Cpu);
    let options = BuildOptions::new(5);
    let model = find(name).unwrap().build(variant, &options, params.var_builder()).unwrap();
    (params, model)
}

fn images(count: usize) -> Tensor {
    let values = (0..count * 3 * 32 * 32).map(|i| (i as f64 * 0.7123).sin() * 1.5);
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((count, 3, 32, 32)).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest expected value.
fn deviation(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let scale = flat(expected).iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(scale > 0.0, "nothing to compare");
    let differences = flat(found).into_iter().zip(flat(expected)).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max) / scale
}

/// With a linear layer after the mean, the gradient of a score is the class's weights over the
/// number of pixels: Grad-CAM is the positive part of CAM, scaled.
#[test]
fn grad_cam_of_the_last_map_is_the_positive_part_of_cam() {
    let (_params, model) = model("resnet8", Variant::Baseline);
    let (images, classes) = (images(3), [4, 0, 2]);
    let cam = ClassActivation.maps(&*model, &images, &classes).unwrap();
    let expected = (cam.relu().unwrap() / 64.0).unwrap();
    let found = GradCam::default().maps(&*model, &images, &classes).unwrap();
    assert!(deviation(&found, &expected) < 1e-12);
    // LayerCAM: every pixel has the positive part of that same weight.
    let weights = model.class_weights().unwrap();
    let last = no_grad(|| model.features(&Tracked::constant(images.clone()), Mode::Eval)).unwrap();
    let rows = weights.index_select(&Tensor::new(&classes, &Device::Cpu).unwrap(), 0).unwrap();
    let rows = rows.relu().unwrap().reshape((3, 1, 1, ())).unwrap();
    let products = last.last.value().broadcast_mul(&rows).unwrap();
    let expected = (products.sum(D::Minus1).unwrap() / 64.0).unwrap();
    let found = GradCam::new(Weighting::LayerCam).maps(&*model, &images, &classes).unwrap();
    assert!(deviation(&found, &expected) < 1e-12);
}

/// The mean of a map's pixels is the score but for the bias.
#[test]
fn cam_adds_up_to_the_score() {
    let (_params, model) = model("resnet8", Variant::Cam);
    let images = images(2);
    let output = no_grad(|| model.forward(&Tracked::constant(images.clone()), Mode::Eval)).unwrap();
    let scores = |class: u32| {
        let maps = ClassActivation.maps(&*model, &images, &[class; 2]).unwrap();
        flat(&maps.mean((1, 2)).unwrap())
    };
    let logits = output.logits.value().to_vec2::<f64>().unwrap();
    let (first, second) = (scores(1), scores(3));
    for image in 0..2 {
        // The bias is the same for both images.
        let of_class = |class: usize, mean: &[f64]| logits[image][class] - mean[image];
        let other = 1 - image;
        let there = |class: usize, mean: &[f64]| logits[other][class] - mean[other];
        assert!((of_class(1, &first) - there(1, &first)).abs() < 1e-12);
        assert!((of_class(3, &second) - there(3, &second)).abs() < 1e-12);
    }
}

#[test]
fn a_batch_is_its_images_one_by_one() {
    for variant in [Variant::Baseline, Variant::Abn] {
        let (_params, model) = model("resnet8", variant);
        let (batch, classes) = (images(3), [1, 4, 1]);
        for method in Method::ALL {
            if method == Method::Attention && variant == Variant::Baseline {
                continue;
            }
            let explainer = method.explainer();
            let together = explainer.maps(&*model, &batch, &classes).unwrap();
            for (i, &class) in classes.iter().enumerate() {
                let image = batch.narrow(0, i, 1).unwrap();
                let alone = explainer.maps(&*model, &image, &[class]).unwrap();
                let found = together.narrow(0, i, 1).unwrap();
                assert!(deviation(&found, &alone) < 1e-9, "{method} of {variant}, image {i}");
            }
        }
    }
}

#[test]
fn explaining_changes_neither_weights_nor_answers() {
    let (params, model) = model("resnet8", Variant::Abn);
    let images = images(2);
    let answer = || {
        let output = no_grad(|| model.forward(&Tracked::constant(images.clone()), Mode::Eval));
        flat(output.unwrap().logits.value())
    };
    let before: Vec<_> = params.tensors().values().map(flat).collect();
    let answered = answer();
    for method in Method::ALL {
        method.explainer().maps(&*model, &images, &[0, 1]).unwrap();
    }
    assert_eq!(answer(), answered);
    let after: Vec<_> = params.tensors().values().map(flat).collect();
    assert_eq!(before, after);
}

#[test]
fn every_layer_of_both_branches_can_be_looked_at() {
    let (_params, model) = model("resnet8", Variant::Abn);
    let images = images(1);
    let names = layers(&*model, &images).unwrap();
    for expected in ["conv1", EXTRACTOR, TRUNK, "layer3.0.conv2", "att_layer3.0.conv1", LAST] {
        assert!(names.iter().any(|name| name == expected), "{expected} in {names:?}");
    }
    for branch in [Branch::Perception, Branch::Attention] {
        for name in &names {
            let found = GradCam::default().of(branch).at(name).maps(&*model, &images, &[2]);
            // The attention branch does not see what comes after the attention.
            let later = name == "attended" || name == LAST || name.starts_with("layer3");
            match found {
                Ok(map) => assert!(!flat(&map).iter().any(|v| v.is_nan()), "{name}"),
                Err(error) => {
                    assert!(matches!(error, Error::Unconnected { .. }), "{name}: {error}");
                    // bn_att3 and what makes the map have no part in the branch's own scores.
                    let map_only = name == "att_conv3" || name == "att_conv2";
                    assert!(later && branch == Branch::Attention || map_only, "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_is_an_error() {
    let (_params, model) = model("resnet8", Variant::Baseline);
    let images = images(2);
    for method in Method::ALL {
        let said = method.explainer().maps(&*model, &images, &[0]).unwrap_err();
        assert!(matches!(said, Error::Targets { images: 2, classes: 1 }), "{method}: {said}");
    }
    let maps = |explainer: &dyn Explain, classes: [u32; 2]| {
        explainer.maps(&*model, &images, &classes).unwrap_err()
    };
    assert!(matches!(maps(&Attention, [0, 0]), Error::NoAttention));
    assert!(matches!(maps(&GradCam::default(), [0, 5]), Error::Class { class: 5, count: 5 }));
    let said = maps(&GradCam::default().at("layer9"), [0, 0]).to_string();
    assert!(said.contains("layer9") && said.contains("extractor"), "{said}");
    assert!(matches!(
        maps(&GradCam::default().of(Branch::Attention).at(LAST), [0, 0]),
        Error::NoAttention
    ));
    assert!("grad-camm".parse::<Method>().unwrap_err().to_string().contains("layer-cam"));
}

#[test]
fn names_read_back() {
    for method in Method::ALL {
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
    }
}

/// Selvaraju et al., section 3.3: the gradient of guided backprop, times Grad-CAM enlarged to the image.
#[test]
fn guided_grad_cam_is_the_product_of_both() {
    let (_params, model) = model("resnet8", Variant::Abn);
    let (images, classes) = (images(2), [3, 1]);
    for (branch, layer) in [
        (Branch::Perception, None),
        (Branch::Attention, None),
        (Branch::Perception, Some("layer1")),
    ] {
        let cam = Method::GradCam.explainer_of(branch, layer);
        let cam = cam.maps(&*model, &images, &classes).unwrap();
        let cam = resize::bilinear(&cam, 32, 32).unwrap().unsqueeze(1).unwrap();
        let guided = GuidedBackprop { branch }.gradients(&*model, &images, &classes).unwrap();
        let expected = guided.broadcast_mul(&cam).unwrap();
        let method = Method::GuidedGradCam.explainer_of(branch, layer);
        let found = method.explain(&*model, &images, &classes).unwrap();
        assert!(deviation(found.gradients.as_ref().unwrap(), &expected) < 1e-12);
        let largest = expected.abs().unwrap().max(1).unwrap();
        assert!(deviation(&found.maps, &largest) < 1e-12);
    }
}

/// `F.interpolate(torch.tensor([[[0., 1.], [2., 5.]]])[None], (3, 4), mode="bilinear")`
#[test]
fn maps_are_enlarged_as_pytorch_does() {
    let map = Tensor::new(&[[[0f64, 1.0], [2.0, 5.0]]], &Device::Cpu).unwrap();
    let found = flat(&resize::bilinear(&map, 3, 4).unwrap());
    let expected = [
        0.0, 0.25, 0.75, 1.0, //
        1.0, 1.5, 2.5, 3.0, //
        2.0, 2.75, 4.25, 5.0,
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }
}
