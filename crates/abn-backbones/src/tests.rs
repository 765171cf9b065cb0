use std::collections::BTreeSet;

use abn_core::{Mode, ParamStore};
use abn_ops::{Tracked, count_multiply_adds, zeros_without_memory};
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
        ("resnext50-32x4d", 25_028_904, 4.230),
        ("resnext101-32x8d", 88_791_336, 16.414),
        ("resnext101-64x4d", 83_455_272, 15.460),
        ("wide-resnet50-2", 68_883_240, 11.398),
        ("wide-resnet101-2", 126_886_696, 22.753),
        ("densenet121", 7_978_856, 2.834),
        ("densenet161", 28_681_000, 7.728),
        ("densenet169", 14_149_480, 3.360),
        ("densenet201", 20_013_928, 4.291),
        ("vgg11", 132_863_336, 7.609),
        ("vgg13", 133_047_848, 11.308),
        ("vgg16", 138_357_544, 15.470),
        ("vgg19", 143_667_240, 19.632),
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

/// As timm counts them (`legacy_seresnet18` to `152`), whose SE-ResNets have the paper's layers.
#[test]
fn se_resnets_have_the_known_size() {
    for (name, parameters) in [
        ("se-resnet18", 11_778_592),
        ("se-resnet34", 21_958_868),
        ("se-resnet50", 28_088_024),
        ("se-resnet101", 49_326_872),
        ("se-resnet152", 66_821_848),
    ] {
        assert_eq!(cost(name, Variant::Baseline, 1000).0, parameters, "{name}");
    }
}

/// As the papers' tables give them: He et al. table 6 (its shortcuts have no parameters),
/// Zagoruyko and Komodakis table 4, Xie et al. table 7, Huang et al. table 2.
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
        ("densenet100-k12", 10, 0.77),
        ("densenet250-k24", 10, 15.3),
        ("densenet190-k40", 10, 25.6),
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
        ("densenet10-k4", 8),
        ("cifar-vgg11-w8", 8),
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
        "cifar-se-resnet20",
        "resnet50",
        "cifar-resnet50",
        "cifar-resnet152",
        "wrn-10-3",
        "resnext29-16x64d",
        "resnext20-4x32d-k2",
        "resnext101-32x8d",
        "cifar-resnext101-32x8d",
        "wide-resnet50-2",
        "se-resnet34",
        "se-resnext50-32x4d",
        "densenet100-k12",
        "densenet161",
        "vgg16",
        "vgg16-w32",
        "vgg19-bn",
        "cifar-vgg13-bn",
        "cifar-vgg13-bn-w16",
    ] {
        let spec = find(name).unwrap();
        assert_eq!(spec.name(), name);
        assert_eq!(ModelSpec::new(spec.architecture()).unwrap(), spec);
    }
    assert_eq!(find("VGG16_bn").unwrap().name(), "vgg16-bn");
    assert_eq!(find("cifar-resnet20").unwrap().name(), "resnet20");
    assert_eq!(find("wide_resnet50_2").unwrap().name(), "wide-resnet50-2");
    assert_eq!(find("resnext50_32x4d").unwrap().image_size(), 224);
    assert_eq!(find("wide-resnet50-1").unwrap().name(), "resnet50");
    assert!(matches!(find("resnet50").unwrap().architecture(), Architecture::ResNet { .. }));
    assert_eq!(find("resnet56").unwrap().image_size(), 32);
    assert_eq!(find("resnet101").unwrap().image_size(), 224);
}

#[test]
fn unknown_names_get_the_nearest_ones() {
    for (name, nearest) in
        [("resnt20", "resnet20"), ("vg16-bn", "vgg16-bn"), ("wrn2810", "wrn-28-10")]
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
        ("resnext34-32x4d", "50, 101 or 152"),
        ("wide-resnet18-2", "wide-resnetD-K"),
        ("wide-resnet50-65", "1 to 64"),
        ("se-resnet20", "18, 34, 50"),
        ("densenet122", "121, 161, 169 or 201"),
        ("densenet100-k300", "growth G from 1 to 256"),
        ("densenet101-k12", "6n+4"),
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

/// At full size, but shapes alone.
#[test]
fn imagenet_families_have_maps_of_14x14() {
    for name in ["resnet18", "resnext50-32x4d", "se-resnet50", "densenet121", "vgg16", "vgg19-bn"] {
        for variant in Variant::ALL {
            let store = ParamStore::shapes_only();
            let (spec, options) = (find(name).unwrap(), BuildOptions::new(3));
            let model = spec.build(variant, &options, store.var_builder()).unwrap();
            let image = zeros_without_memory((1, 3, 224, 224), DType::F32).unwrap();
            let image = Tracked::constant(image);
            let (output, _) = count_multiply_adds(|| model.forward(&image, Mode::Eval));
            let output = output.unwrap();
            assert_eq!(output.logits.dims(), [1, 3], "{name} {variant}");
            assert_eq!(output.attention.is_some(), variant.has_attention_branch());
            if let Some(attention) = output.attention {
                assert_eq!(attention.map.dims(), [1, 1, 14, 14], "{name} {variant}");
            }
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
