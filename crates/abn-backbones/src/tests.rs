use std::collections::BTreeSet;

use abn_core::{Mode, ParamStore};
use abn_ops::Tracked;
use candle_core::{DType, Device, Tensor};

use crate::{Architecture, BuildOptions, Error, ModelSpec, Variant, catalogue, find};

fn cost(name: &str, variant: Variant, classes: usize) -> (u64, u64) {
    let cost = find(name).unwrap().cost(variant, classes).unwrap();
    (cost.parameters, cost.multiply_adds)
}

/// As torchvision's documentation gives them, 1000 classes.
#[test]
fn torchvisions_models_have_the_published_size() {
    for (name, parameters, giga) in [
        ("resnet18", 11_689_512, 1.814),
        ("resnet34", 21_797_672, 3.664),
        ("resnet50", 25_557_032, 4.089),
        ("resnet101", 44_549_160, 7.801),
        ("resnet152", 60_192_808, 11.514),
        ("vgg11-bn", 132_868_840, 7.609),
        ("vgg13-bn", 133_053_736, 11.308),
        ("vgg16-bn", 138_365_992, 15.470),
        ("vgg19-bn", 143_678_248, 19.632),
    ] {
        let (found, multiply_adds) = cost(name, Variant::Baseline, 1000);
        assert_eq!(found, parameters, "{name}");
        let found = multiply_adds as f64 / 1e9;
        assert!((found - giga).abs() < 0.002, "{name}: {found}");
    }
}

/// As the papers' tables give them: He et al. table 6 (its shortcuts have no parameters),
/// Zagoruyko and Komodakis table 4, Xie et al. table 7.
#[test]
fn cifar_models_have_the_published_size() {
    for (name, classes, millions) in [
        ("resnet20", 10, 0.27),
        ("resnet32", 10, 0.46),
        ("wrn-16-8", 10, 11.0),
        ("wrn-28-10", 10, 36.5),
        ("wrn-40-4", 10, 8.9),
        ("resnext29-8x64d", 10, 34.4),
        ("resnext29-16x64d", 10, 68.1),
    ] {
        let found = cost(name, Variant::Baseline, classes).0 as f64 / 1e6;
        assert!((found / millions - 1.0).abs() < 0.02, "{name}: {found} million");
    }
}

#[test]
fn every_listed_model_is_found_and_counted() {
    let all = catalogue();
    let names: BTreeSet<_> = all.iter().map(ModelSpec::name).collect();
    assert_eq!(names.len(), all.len());
    for spec in &all {
        assert_eq!(&find(spec.name()).unwrap(), spec);
        let baseline = spec.cost(Variant::Baseline, 10).unwrap();
        let abn = spec.cost(Variant::Abn, 10).unwrap();
        assert!(abn.parameters > baseline.parameters, "{}", spec.name());
        assert!(abn.multiply_adds > baseline.multiply_adds, "{}", spec.name());
        let control = spec.cost(Variant::Control, 10).unwrap();
        assert_eq!(control.parameters, abn.parameters, "{}", spec.name());
        assert!(control.multiply_adds <= abn.multiply_adds, "{}", spec.name());
    }
}

#[test]
fn every_family_answers_at_its_size_and_says_where_it_looks() {
    for (name, side) in [
        ("resnet8", 16),
        ("resnet44", 16),
        ("wrn-10-1", 16),
        ("resnext11-2x4d", 16),
        ("cifar-vgg11-bn", 8),
    ] {
        for variant in Variant::ALL {
            let spec = find(name).unwrap();
            let store = ParamStore::new(1, DType::F32, Device::Cpu);
            let options = BuildOptions::new(7);
            let model = spec.build(variant, &options, store.var_builder()).unwrap();
            let image = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
            let output = model.forward(&Tracked::constant(image), Mode::Eval).unwrap();
            assert_eq!(output.logits.dims(), [2, 7], "{name}");
            let map = output.attention.map(|attention| attention.map.dims().to_vec());
            let expected = variant.has_attention_branch().then(|| vec![2, 1, side, side]);
            assert_eq!(map, expected, "{name} {variant}");
        }
    }
}

/// (C·9 + 1)·C + (C + 1)·K for the layers at the end, instead of the linear layer.
#[test]
fn cam_replaces_the_fully_connected_layers() {
    let cam = |name| cost(name, Variant::Cam, 10).0;
    let baseline = |name| cost(name, Variant::Baseline, 10).0;
    assert_eq!(cam("resnet20") - baseline("resnet20"), (64 * 9 + 1) * 64);
    assert_eq!(cam("resnet50") - baseline("resnet50"), (2048 * 9 + 1) * 2048);
    let dense = 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10;
    let layers = (512 * 9 + 1) * 512 + (512 + 1) * 10;
    assert_eq!(baseline("vgg16-bn") - cam("vgg16-bn"), dense - layers);
}

#[test]
fn names_and_architectures_go_both_ways() {
    for name in [
        "resnet20",
        "resnet110",
        "resnet50",
        "cifar-resnet50",
        "cifar-resnet152",
        "wrn-10-3",
        "resnext29-16x64d",
        "resnext20-4x32d-k2",
        "vgg19-bn",
        "cifar-vgg13-bn",
    ] {
        let spec = find(name).unwrap();
        assert_eq!(spec.name(), name);
        assert_eq!(ModelSpec::new(spec.architecture()).unwrap(), spec);
    }
    assert_eq!(find("VGG16_bn").unwrap().name(), "vgg16-bn");
    assert_eq!(find("cifar-resnet20").unwrap().name(), "resnet20");
    assert!(matches!(find("resnet50").unwrap().architecture(), Architecture::ResNet { .. }));
    assert_eq!(find("resnet56").unwrap().image_size(), 32);
    assert_eq!(find("resnet101").unwrap().image_size(), 224);
}

#[test]
fn unknown_names_get_the_nearest_ones() {
    for (name, nearest) in
        [("resnt20", "resnet20"), ("vgg16", "vgg16-bn"), ("wrn2810", "wrn-28-10")]
    {
        match find(name) {
            Err(Error::UnknownModel { nearest: found, .. }) => assert_eq!(found[0], nearest),
            other => panic!("{name}: {other:?}"),
        }
    }
    let text = find("alexnet of 2012, please").unwrap_err().to_string();
    assert!(text.contains("`alexnet of 2012, please`") && text.contains("abn models"), "{text}");
}

#[test]
fn sizes_a_family_cannot_have_are_refused_with_the_reason() {
    for (name, reason) in [
        ("resnet21", "6n+2"),
        ("resnet2", "6n+2"),
        ("resnet99999999", "6n+2"),
        ("wrn-28-0", "wrn-D-K"),
        ("wrn-12-4", "6n+4"),
        ("wrn-28-1000", "1 to 64"),
        ("resnext28-8x64d", "9n+2"),
        ("resnext29-300x64d", "cardinality"),
        ("vgg12-bn", "11, 13, 16 or 19"),
    ] {
        match find(name) {
            Err(Error::InvalidModel { name: found, reason: why }) => {
                assert_eq!(found, name);
                assert!(why.contains(reason), "{name}: {why}");
            }
            // A zero is no size at all.
            Err(Error::UnknownModel { .. }) => assert!(name.ends_with("-0"), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn impossible_options_are_refused() {
    let build = |change: fn(&mut BuildOptions)| {
        let mut options = BuildOptions::new(10);
        change(&mut options);
        let vb = ParamStore::shapes_only().var_builder();
        find("resnet8").unwrap().build(Variant::Abn, &options, vb).err().map(|e| e.to_string())
    };
    assert_eq!(build(|_| ()), None);
    assert!(build(|o| o.num_classes = 1).unwrap().contains("2 classes"));
    assert!(build(|o| o.dropout = Some(1.0)).unwrap().contains("dropout"));
    assert!(build(|o| o.bn_momentum = f64::NAN).unwrap().contains("momentum"));
}

#[test]
fn variants_are_told_by_name() {
    for variant in Variant::ALL {
        assert_eq!(variant.to_string().parse::<Variant>().unwrap(), variant);
    }
    assert!("both".parse::<Variant>().unwrap_err().to_string().contains("`both`"));
}
