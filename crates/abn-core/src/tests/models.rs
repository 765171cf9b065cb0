use abn_ops::Tracked;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::layers::{Conv2d, Dropout, Linear, LinearInit, conv3x3};
use crate::{
    Abn, AttentionBranch, AttentionConfig, Backbone, Baseline, Cam, Classifier, Control, Error,
    MapHead, Mechanism, Mode, ParamStore, Preset, Result, TrunkNorm, class_activation_maps, loss,
    smoothed_loss,
};

/// One convolution for each of the three parts.
struct Tiny {
    stem: Conv2d,
    trunk: Option<Conv2d>,
    last: Conv2d,
    fc: Linear,
}

impl Tiny {
    fn new(attention: bool, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            stem: conv3x3(3, 4, 1, vb.pp("stem"))?,
            trunk: attention.then(|| conv3x3(4, 6, 1, vb.pp("trunk"))).transpose()?,
            last: conv3x3(4, 8, 2, vb.pp("last"))?,
            fc: Linear::new(8, 5, LinearInit::Uniform, vb.pp("fc"))?,
        })
    }
}

impl Backbone for Tiny {
    fn extract(&self, image: &Tracked, _: Mode) -> Result<Tracked> {
        self.stem.forward(&abn_ops::to_channels_last(image)?)
    }

    fn attention_trunk(&self, feature: &Tracked, _: Mode) -> Result<Tracked> {
        self.trunk.as_ref().ok_or(Error::NoTrunk)?.forward(feature)
    }

    fn deepen(&self, feature: &Tracked, _: Mode) -> Result<Tracked> {
        self.last.forward(feature)
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.fc.forward(&abn_ops::global_avg_pool(last)?)
    }

    fn trunk_channels(&self) -> Option<usize> {
        self.trunk.as_ref().map(|_| 6)
    }

    fn last_channels(&self) -> usize {
        8
    }

    fn class_weights(&self) -> Option<&Tensor> {
        Some(self.fc.weight())
    }
}

const TRAIN: Mode = Mode::Train { seed: 1 };

fn store() -> ParamStore {
    ParamStore::new(3, DType::F64, Device::Cpu)
}

fn image() -> Tracked {
    let values: Vec<f64> = (0..2 * 3 * 6 * 7).map(|i| (i as f64 * 0.7).sin()).collect();
    Tracked::constant(Tensor::from_vec(values, (2, 3, 6, 7), &Device::Cpu).unwrap())
}

fn abn(store: &ParamStore, mechanism: Mechanism) -> Abn<Tiny> {
    let vb = store.var_builder();
    let backbone = Tiny::new(true, vb.clone()).unwrap();
    Abn::new(backbone, 5, mechanism, AttentionConfig::default(), vb).unwrap()
}

fn elements(tensor: &Tracked) -> Vec<f64> {
    tensor.value().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_mechanism_weights_every_channel_by_the_map() {
    let feature = Tensor::from_vec(vec![1.0, -2.0, 3.0, 4.0], (1, 1, 2, 2), &Device::Cpu).unwrap();
    let map = Tensor::from_vec(vec![0.25, 0.5], (1, 1, 2, 1), &Device::Cpu).unwrap();
    let (feature, map) = (Tracked::constant(feature), Tracked::constant(map));
    let apply = |mechanism: Mechanism| elements(&mechanism.apply(&feature, &map).unwrap());
    assert_eq!(apply(Mechanism::Multiply), [0.25, -0.5, 1.5, 2.0]);
    assert_eq!(apply(Mechanism::Residual), [1.25, -2.5, 4.5, 6.0]);
}

#[test]
fn mechanisms_are_told_by_name() {
    for mechanism in [Mechanism::Multiply, Mechanism::Residual] {
        assert_eq!(mechanism.to_string().parse::<Mechanism>().unwrap(), mechanism);
    }
    let error = "softmax".parse::<Mechanism>().unwrap_err().to_string();
    assert!(error.contains("`softmax`") && error.contains("`residual`"), "{error}");
}

#[test]
fn the_perception_branch_sees_the_attended_features() {
    let store = store();
    let output = abn(&store, Mechanism::Residual).forward(&image(), Mode::Eval).unwrap();
    let map = output.attention.unwrap().map.value().permute((0, 2, 3, 1)).unwrap();
    let map = Tracked::constant(map.contiguous().unwrap());
    let backbone = Tiny::new(true, store.var_builder()).unwrap();
    let feature = backbone.extract(&image(), Mode::Eval).unwrap();
    for (mechanism, same) in [(Mechanism::Residual, true), (Mechanism::Multiply, false)] {
        let attended = mechanism.apply(&feature, &map).unwrap();
        let last = backbone.deepen(&attended, Mode::Eval).unwrap();
        let logits = backbone.classify(&last, Mode::Eval).unwrap();
        assert_eq!(elements(&logits) == elements(&output.logits), same, "{mechanism}");
    }
}

#[test]
fn the_map_has_the_features_size_and_lies_between_0_and_1() {
    for mode in [TRAIN, Mode::Eval] {
        let output = abn(&store(), Mechanism::Residual).forward(&image(), mode).unwrap();
        let attention = output.attention.unwrap();
        assert_eq!(output.logits.dims(), [2, 5]);
        assert_eq!(attention.logits.dims(), [2, 5]);
        assert_eq!(attention.map.dims(), [2, 1, 6, 7]);
        let map = elements(&attention.map);
        assert!(map.iter().all(|m| (0.0..=1.0).contains(m)), "{map:?}");
        assert!(map.iter().any(|m| *m != map[0]), "the map is flat");
    }
}

#[test]
fn a_map_of_ones_own_takes_the_place_of_the_models() {
    for mechanism in [Mechanism::Residual, Mechanism::Multiply] {
        let store = store();
        let abn = abn(&store, mechanism);
        let own = abn.forward(&image(), Mode::Eval).unwrap();
        let map = own.attention.unwrap().map;
        // The model's own map gives the model's answer, to the last bit.
        let feature = abn.backbone().extract(&image(), Mode::Eval).unwrap();
        let same = abn.perceive_with(&feature, &map, Mode::Eval).unwrap();
        assert_eq!(elements(&same), elements(&own.logits), "{mechanism}");
        let features = abn.features_with(&image(), &map, Mode::Eval).unwrap();
        assert!(features.attention.is_none());
        let same = abn.classify(&features.last, Mode::Eval).unwrap();
        assert_eq!(elements(&same), elements(&own.logits), "{mechanism}");

        // Another map gives another answer, whose gradient is that of finite differences.
        let values: Vec<f64> = (0..2 * 6 * 7).map(|i| 0.5 + 0.4 * (i as f64).cos()).collect();
        let other =
            |values: &[f64]| Tensor::from_slice(values, (2, 1, 6, 7), &Device::Cpu).unwrap();
        let leaf = Tracked::leaf(other(&values));
        let answer = abn.perceive_with(&feature, &leaf, Mode::Eval).unwrap();
        assert_ne!(elements(&answer), elements(&own.logits), "{mechanism}");
        let ones = answer.value().ones_like().unwrap();
        let gradients = answer.backward_from(ones).unwrap();
        let gradient = elements(&Tracked::constant(gradients.get(leaf.value()).unwrap().clone()));
        let sum = |values: &[f64]| {
            let map = Tracked::constant(other(values));
            elements(&abn.perceive_with(&feature, &map, Mode::Eval).unwrap()).iter().sum::<f64>()
        };
        for i in 0..values.len() {
            let step = 1e-5;
            let (mut above, mut below) = (values.clone(), values.clone());
            above[i] += step;
            below[i] -= step;
            let expected = (sum(&above) - sum(&below)) / (2.0 * step);
            let found = gradient[i];
            assert!((found - expected).abs() < 1e-7, "{mechanism}, cell {i}: {found} {expected}");
        }
    }
}

#[test]
fn a_map_that_does_not_fit_is_refused() {
    let store = store();
    let abn = abn(&store, Mechanism::Residual);
    let map = |shape: &[usize]| {
        Tracked::constant(Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap())
    };
    for shape in [&[2, 1, 7, 6][..], &[1, 1, 6, 7], &[2, 6, 7, 1], &[2, 6, 7]] {
        let said = abn.features_with(&image(), &map(shape), Mode::Eval).err().unwrap().to_string();
        assert!(said.contains("[2, 1, 6, 7]"), "{shape:?}: {said}");
    }
    let vb = store.var_builder();
    let baseline = Baseline::new(Tiny::new(false, vb).unwrap());
    let said = baseline.features_with(&image(), &map(&[2, 1, 6, 7]), Mode::Eval);
    assert!(matches!(said, Err(Error::NoAttention)));
}

#[test]
fn the_loss_is_the_sum_of_both_branches_cross_entropy() {
    let labels = Tensor::new(&[4u32, 1], &Device::Cpu).unwrap();
    let output = abn(&store(), Mechanism::Residual).forward(&image(), TRAIN).unwrap();
    let cross_entropy = |logits: &Tracked, smoothing: f64| {
        let rows = logits.value().to_vec2::<f64>().unwrap();
        let row = |row: &[f64], label: usize| {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let target = (1.0 - smoothing) * row[label] + smoothing * mean;
            row.iter().map(|l| l.exp()).sum::<f64>().ln() - target
        };
        (row(&rows[0], 4) + row(&rows[1], 1)) / 2.0
    };
    let near = |value: &Tracked, expected: f64| {
        let value = value.value().to_scalar::<f64>().unwrap();
        assert!((value - expected).abs() < 1e-12, "{value} instead of {expected}");
    };
    for (parts, smoothing) in [
        (loss(&output, &labels).unwrap(), 0.0),
        (smoothed_loss(&output, &labels, 0.2).unwrap(), 0.2),
    ] {
        let attention = cross_entropy(&output.attention.as_ref().unwrap().logits, smoothing);
        let perception = cross_entropy(&output.logits, smoothing);
        near(&parts.perception, perception);
        near(parts.attention.as_ref().unwrap(), attention);
        near(&parts.total, attention + perception);
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    let store = store();
    let model = abn(&store, Mechanism::Residual);
    let labels = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    let output = model.forward(&image(), TRAIN).unwrap();
    let gradients = loss(&output, &labels).unwrap().total.backward().unwrap();
    for (name, var) in store.parameters() {
        assert!(gradients.get(var.as_tensor()).is_some(), "{name} has no gradient");
    }
}

#[test]
fn a_baseline_has_no_attention_and_carries_none() {
    let store = store();
    let model = Baseline::new(Tiny::new(false, store.var_builder()).unwrap());
    let output = model.forward(&image(), Mode::Eval).unwrap();
    assert!(output.attention.is_none());
    assert!(store.tensors().keys().all(|name| !name.contains("trunk") && !name.contains("att")));

    let vb = store.var_builder();
    let backbone = Tiny::new(false, vb.clone()).unwrap();
    let config = AttentionConfig::default();
    let result = Abn::new(backbone, 5, Mechanism::default(), config, vb);
    assert!(matches!(result.err(), Some(Error::NoTrunk)));
}

#[test]
fn a_control_is_an_abn_whose_attention_changes_nothing() {
    for (mechanism, neutral) in [(Mechanism::Residual, 0.0), (Mechanism::Multiply, 1.0)] {
        let store = store();
        let abn = abn(&store, mechanism);
        let of_abn = abn.forward(&image(), TRAIN).unwrap().attention.unwrap();
        let model = Control::new(abn);
        let output = model.forward(&image(), TRAIN).unwrap();
        let attention = output.attention.unwrap();
        assert_eq!(attention.map.dims(), [2, 1, 6, 7]);
        assert!(elements(&attention.map).iter().all(|m| *m == neutral));
        assert_eq!(elements(&attention.logits), elements(&of_abn.logits));

        let alone = Baseline::new(Tiny::new(false, store.var_builder()).unwrap());
        let alone = alone.forward(&image(), TRAIN).unwrap();
        assert_eq!(elements(&output.logits), elements(&alone.logits));
    }
}

#[test]
fn what_only_a_controls_map_is_made_of_has_no_gradient() {
    let store = store();
    let model = Control::new(abn(&store, Mechanism::Residual));
    let labels = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    let output = model.forward(&image(), TRAIN).unwrap();
    let gradients = loss(&output, &labels).unwrap().total.backward().unwrap();
    for (name, var) in store.parameters() {
        let of_the_map = name.starts_with("att_conv3") || name.starts_with("bn_att3");
        assert_eq!(gradients.get(var.as_tensor()).is_none(), of_the_map, "{name}");
    }
}

#[test]
fn cam_has_its_own_layers_and_trains_them_all() {
    let store = store();
    let vb = store.var_builder();
    let model = Cam::new(Tiny::new(false, vb.clone()).unwrap(), 5, vb).unwrap();
    assert_eq!(store.tensors()["cam_conv.weight"].dims(), [8, 8, 3, 3]);
    let labels = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    let output = model.forward(&image(), TRAIN).unwrap();
    assert!(output.attention.is_none());
    let gradients = loss(&output, &labels).unwrap().total.backward().unwrap();
    for (name, var) in store.parameters() {
        // `Tiny` builds its own linear layer in any case.
        let replaced = name.starts_with("fc.");
        assert_eq!(gradients.get(var.as_tensor()).is_none(), replaced, "{name}");
    }
}

#[test]
fn a_class_activation_maps_mean_is_the_classs_score() {
    let store = store();
    let vb = store.var_builder();
    let model = Cam::new(Tiny::new(false, vb.clone()).unwrap(), 5, vb).unwrap();
    let last = model.features(&image(), Mode::Eval).unwrap().last;
    let logits = model.classify(&last, Mode::Eval).unwrap();
    let logits = logits.value().to_vec2::<f64>().unwrap();
    let bias = store.tensors()["cam_fc.bias"].to_vec1::<f64>().unwrap();

    let classes = [[4u32, 0, 4], [1, 2, 3]];
    let indices = Tensor::new(&classes, &Device::Cpu).unwrap();
    let weights = model.class_weights().unwrap();
    let maps = class_activation_maps(last.value(), weights, &indices).unwrap();
    let (h, w) = (last.dims()[1], last.dims()[2]);
    assert_eq!(maps.dims(), [2, 3, h, w]);
    let means = maps.mean((2, 3)).unwrap().to_vec2::<f64>().unwrap();
    for (image, classes) in classes.iter().enumerate() {
        for (means, &class) in means[image].iter().zip(classes) {
            let expected = logits[image][class as usize] - bias[class as usize];
            assert!((means - expected).abs() < 1e-12, "{means} instead of {expected}");
        }
    }
}

#[test]
fn class_activation_maps_refuse_what_does_not_fit() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let classes = |classes: &[[u32; 2]]| {
        let flat: Vec<u32> = classes.concat();
        Tensor::from_vec(flat, (classes.len(), 2), &Device::Cpu).unwrap()
    };
    let (last, weights) = (zeros(&[2, 3, 4, 8]), zeros(&[5, 8]));
    let error = |last: &Tensor, weights: &Tensor, classes: &Tensor| {
        class_activation_maps(last, weights, classes).unwrap_err().to_string()
    };
    let two = classes(&[[0, 1], [2, 3]]);
    assert!(error(&zeros(&[2, 3, 4]), &weights, &two).contains("feature map (N, h, w, C)"));
    assert!(error(&last, &zeros(&[5, 7]), &two).contains("weights (K, 8)"));
    assert!(error(&last, &weights, &classes(&[[0, 1]])).contains("2 images"));
    let text = error(&last, &weights, &classes(&[[0, 1], [2, 5]]));
    assert!(text.contains("label 5 of sample 1"), "{text}");
}

#[test]
fn the_papers_preset_has_a_1x1_map_convolution() {
    for (preset, kernel) in [(Preset::Code, 3), (Preset::Paper, 1)] {
        let store = store();
        let config = AttentionConfig { preset, ..Default::default() };
        let branch = AttentionBranch::new(6, 5, config, store.var_builder()).unwrap();
        assert_eq!(store.tensors()["att_conv3.weight"].dims(), [1, 5, kernel, kernel]);
        let trunk = Tensor::ones((1, 4, 3, 6), DType::F64, &Device::Cpu).unwrap();
        let (_, map) = branch.forward(&Tracked::constant(trunk), Mode::Eval).unwrap();
        assert_eq!(map.dims(), [1, 4, 3, 1]);
    }
}

#[test]
fn a_sum_of_logarithms_is_a_map_without_parameters() {
    let store = store();
    let config = AttentionConfig { map: MapHead::LogSum, ..Default::default() };
    let branch = AttentionBranch::new(6, 5, config, store.var_builder()).unwrap();
    assert!(
        store.tensors().keys().all(|name| !name.contains("att_conv3") && !name.contains("att3"))
    );
    let values: Vec<f64> = (0..2 * 3 * 4 * 6).map(|i| (i as f64 * 0.9).sin()).collect();
    let trunk = Tensor::from_vec(values, (2, 3, 4, 6), &Device::Cpu).unwrap();
    let trunk = Tracked::constant(trunk);
    let (_, map) = branch.forward(&trunk, TRAIN).unwrap();
    assert_eq!(map.dims(), [2, 3, 4, 1]);
    let h = elements(&branch.respond(&trunk, TRAIN).unwrap());
    for (map, h) in elements(&map).iter().zip(h.chunks(5)) {
        let expected: f64 = h.iter().map(|h| (1.0 + h).ln()).sum();
        assert!((map - expected).abs() < 1e-12, "{map} instead of {expected}");
    }
}

#[test]
fn an_unused_trunk_norm_is_stored_but_changes_nothing() {
    let store = store();
    let config = AttentionConfig { trunk_norm: TrunkNorm::Unused, ..Default::default() };
    let branch = AttentionBranch::new(6, 5, config, store.var_builder()).unwrap();
    let values: Vec<f64> = (0..2 * 3 * 3 * 6).map(|i| f64::from(i % 7)).collect();
    let trunk = Tensor::from_vec(values, (2, 3, 3, 6), &Device::Cpu).unwrap();
    let trunk = Tracked::constant(trunk);
    let (before, _) = branch.forward(&trunk, TRAIN).unwrap();
    let (_, weight) = &store.parameters().into_iter().find(|(n, _)| n == "bn_att.weight").unwrap();
    weight.set(&weight.affine(0.0, 9.0).unwrap()).unwrap();
    let (after, _) = branch.forward(&trunk, TRAIN).unwrap();
    assert_eq!(elements(&before), elements(&after));
    assert_eq!(store.tensors()["bn_att.running_mean"].to_vec1::<f64>().unwrap(), [0.0; 6]);
}

#[test]
fn dropout_depends_on_step_and_layer_and_is_off_in_evaluation() {
    let vb = store().var_builder();
    let ones = Tracked::constant(Tensor::ones((1, 64), DType::F64, &Device::Cpu).unwrap());
    let run =
        |name: &str, mode| elements(&Dropout::new(0.5, &vb.pp(name)).forward(&ones, mode).unwrap());
    assert_eq!(run("a", Mode::Eval), vec![1.0; 64]);
    let mask = run("a", Mode::Train { seed: 1 });
    assert!(mask.contains(&0.0) && mask.contains(&2.0));
    assert_eq!(mask, run("a", Mode::Train { seed: 1 }));
    assert_ne!(mask, run("a", Mode::Train { seed: 2 }));
    assert_ne!(mask, run("b", Mode::Train { seed: 1 }));
}
