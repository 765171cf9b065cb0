use std::path::Path;

use super::file::LATER;
use super::*;

fn parse(text: &str) -> Result<Recipe> {
    Recipe::parse(text, Path::new("r.toml"))
}

fn message(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Recipe::default());
}

#[test]
fn what_is_written_reads_back_and_has_every_key() {
    let recipe = Recipe {
        data_dir: Some("/data".into()),
        dropout: Some(0.3),
        ema_decay: Some(0.99),
        images_per_class: Some(5),
        image_size: Some(64),
        tasks_per_pass: NonZeroUsize::new(5),
        init: Some("w.pth".into()),
        init_sha256: Some("0a".repeat(32)),
        ..Recipe::default()
    };
    let text = recipe.to_toml();
    assert_eq!(parse(&text).unwrap(), recipe);
    let table: toml::Table = toml::from_str(&text).unwrap();
    let mut keys: Vec<_> = table.keys().map(String::as_str).collect();
    let mut expected = Recipe::KEYS;
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn later_keys_are_written_with_their_values_but_identify_a_recipe_only_if_set() {
    let set = Recipe {
        preset: Preset::Paper,
        form: Form::V1,
        accumulate: 4,
        schedule: Schedule::Cosine,
        warmup_epochs: 2,
        label_smoothing: 0.1,
        sync_batch_norm: true,
        precision: Precision::Bf16,
        ..Recipe::default()
    };
    for recipe in [set.clone(), Recipe::default()] {
        assert_eq!(parse(&recipe.to_toml()).unwrap(), recipe);
        assert_eq!(parse(&recipe.compact()).unwrap(), recipe);
    }
    for (key, _) in LATER {
        assert!(set.compact().contains(key), "{key}");
        assert!(!Recipe::default().compact().contains(key), "{key}");
    }
    let told: Vec<_> = set.differences(&Recipe::default());
    assert_eq!(told.len(), LATER.len(), "{told:?}");
    assert_eq!(told[0].to_string(), "preset = \"code\" there, \"paper\" asked for");
}

#[test]
fn errors_name_file_line_and_key() {
    let unknown = message("model = \"resnet20\"\n\nepoch = 3\n");
    assert!(unknown.starts_with("r.toml, line 3, key \"epoch\": no such key"), "{unknown}");
    assert!(unknown.contains("did you mean \"epochs\"?"), "{unknown}");
    let kind = message("seed = 1\nepochs = \"ten\"");
    assert!(kind.starts_with("r.toml, line 2, key \"epochs\": invalid type"), "{kind}");
    let variant = message("variant = \"abm\"");
    assert!(variant.starts_with("r.toml, line 1, key \"variant\":"), "{variant}");
    let syntax = message("seed = 1\nlr = = 2");
    assert!(syntax.starts_with("r.toml, line 2: "), "{syntax}");
}

#[test]
fn impossible_values_are_refused() {
    for (text, key) in [
        ("epochs = 0", "epochs"),
        ("batch_size = 0", "batch_size"),
        ("batch_size = -1", "batch_size"),
        ("lr = 0.0", "lr"),
        ("lr = nan", "lr"),
        ("lr = inf", "lr"),
        ("gamma = -0.1", "gamma"),
        ("momentum = 1.0", "momentum"),
        ("weight_decay = -1e-4", "weight_decay"),
        ("bn_momentum = 0.0", "bn_momentum"),
        ("dropout = 1.0", "dropout"),
        ("init_sha256 = \"0a\"", "init_sha256"),
        ("milestones = [7, 5]", "milestones"),
        ("milestones = [5, 5]", "milestones"),
        ("milestones = [0, 5]", "milestones"),
        ("momentum = 0.0\nnesterov = true", "nesterov"),
        ("accumulate = 0", "accumulate"),
        ("batch_size = 10\naccumulate = 3", "accumulate"),
        ("schedule = \"cosinus\"", "schedule"),
        ("epochs = 3\nwarmup_epochs = 3", "warmup_epochs"),
        ("label_smoothing = 1.0", "label_smoothing"),
        ("label_smoothing = nan", "label_smoothing"),
        ("ema_decay = 1.0", "ema_decay"),
        ("preset = \"figure\"", "preset"),
        ("precision = \"f16\"", "precision"),
        ("images_per_class = 0", "images_per_class"),
        ("image_size = 8", "image_size"),
        ("model = \"resnet21\"", "model"),
        ("dataset = \"fashion-mnist-mimi\"", "dataset"),
    ] {
        let said = message(text);
        assert!(said.contains(&format!("key {key:?}")), "{text}: {said}");
    }
}

#[test]
fn the_input_has_the_networks_shorter_side_and_the_datasets_shape() {
    let cars = Size { height: 224, width: 323 };
    let size = |text: &str, shape| parse(text).unwrap().input_size(shape).unwrap();
    assert_eq!(size("", 224.into()), 32.into());
    assert_eq!(size("model = \"vgg16\"", cars), cars);
    assert_eq!(size("image_size = 64", cars), Size { height: 64, width: 92 });
}

#[test]
fn differences_name_keys_but_not_the_place_of_the_data() {
    let ours = Recipe { seed: 1, data_dir: Some("/a".into()), ..Recipe::default() };
    let theirs = Recipe { data_dir: Some("/b".into()), ..Recipe::default() };
    let told: Vec<_> = ours.differences(&theirs).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["seed = 0 there, 1 asked for"]);
}
