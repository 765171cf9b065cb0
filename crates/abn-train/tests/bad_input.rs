//! Bad input to the `abn` command: one clear message, and nothing overwritten.

mod common;

use std::fs;

use common::{Lab, idx_labels, write_picture};

/// Runs a training that must fail, and that must leave no trace.
#[track_caller]
fn refused(lab: &Lab, more: &[&str], parts: &[&str]) {
    let before = lab.files("");
    lab.run(&lab.training("run", more)).fails_naming(parts);
    assert!(!lab.path("run").exists(), "the run's folder was made");
    assert!(lab.files("") == before, "files have changed");
}

#[test]
fn a_missing_data_file_is_named() {
    let lab = Lab::new();
    fs::remove_file(lab.path("data/t10k-labels-idx1-ubyte")).unwrap();
    refused(&lab, &[], &["t10k-labels-idx1-ubyte", "not found", "data"]);
}

#[test]
fn a_truncated_data_file_is_named() {
    let lab = Lab::new();
    let file = lab.path("data/train-images-idx3-ubyte");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    refused(&lab, &[], &["train-images-idx3-ubyte", "expected"]);
    fs::write(&file, &bytes[..7]).unwrap();
    refused(&lab, &[], &["train-images-idx3-ubyte", "expected"]);
}

#[test]
fn a_wrong_magic_number_is_named() {
    let lab = Lab::new();
    fs::copy(lab.path("data/t10k-labels-idx1-ubyte"), lab.path("data/t10k-images-idx3-ubyte"))
        .unwrap();
    refused(&lab, &[], &["t10k-images-idx3-ubyte", "expected", "magic"]);
}

#[test]
fn a_label_that_is_no_class_is_named() {
    let lab = Lab::new();
    let mut labels = idx_labels(common::TEST);
    labels[8 + 5] = 10;
    fs::write(lab.path("data/t10k-labels-idx1-ubyte"), labels).unwrap();
    refused(&lab, &[], &["t10k-labels-idx1-ubyte", "label 10", "sample 5"]);
}

#[test]
fn bf16_without_a_gpu_is_refused() {
    let lab = Lab::new();
    refused(&lab, &["--precision", "bf16"], &["precision", "bf16", "--device cuda", "f32"]);
}

#[test]
fn an_unknown_model_gets_the_nearest_names() {
    let lab = Lab::new();
    fs::write(lab.path("r.toml"), "seed = 1\nmodel = \"resmet20\"\n").unwrap();
    lab.run(&["train", "--recipe", "r.toml", "--out", "run"]).fails_naming(&[
        "r.toml, line 2",
        "unknown model `resmet20`",
        "`resnet20`",
    ]);
    lab.run(&["train", "--model", "vgg-16", "--out", "run"])
        .fails_naming(&["unknown model `vgg-16`", "`vgg16`"]);
    assert!(!lab.path("run").exists());
}

#[test]
fn an_unknown_recipe_key_is_named_with_its_line() {
    let lab = Lab::new();
    fs::write(lab.path("r.toml"), "model = \"resnet20\"\n\nlearning_rate = 0.1\n").unwrap();
    lab.run(&["train", "--recipe", "r.toml", "--out", "run"]).fails_naming(&[
        "r.toml, line 3",
        "\"learning_rate\"",
        "no such key",
        "lr",
    ]);
    lab.run(&["train", "--recipe", "none.toml", "--out", "run"]).fails_naming(&["none.toml"]);
    assert!(!lab.path("run").exists());
}

#[test]
fn impossible_settings_are_refused() {
    let lab = Lab::new();
    refused(&lab, &["--epochs", "0"], &["epochs", "at least 1"]);
    refused(&lab, &["--lr", "-0.1"], &["lr", "positive", "-0.1"]);
    let lab = Lab::new();
    lab.run(&["train", "--dataset", "fashion-mnits", "--out", "run"])
        .fails_naming(&["fashion-mnits", "did you mean \"fashion-mnist\""]);
    lab.run(&["train", "--dataset", "folder", "--out", "run"]).fails_naming(&["data_dir"]);
    assert!(!lab.path("run").exists());
}

#[test]
fn a_checkpoint_of_another_architecture_is_refused() {
    let lab = Lab::new();
    let baseline = ["--epochs", "1", "--variant", "baseline"];
    lab.run(&lab.training("abn", &["--epochs", "1"])).succeeds();
    lab.run(&lab.training("baseline", &baseline)).succeeds();
    for checkpoint in ["best", "last"] {
        let weights = format!("{checkpoint}/model.safetensors");
        fs::copy(lab.path("baseline").join(&weights), lab.path("abn").join(&weights)).unwrap();
    }
    fs::remove_file(lab.path("abn/summary.json")).unwrap();
    let before = lab.files("");
    let parts = ["model.safetensors does not fit", "abn", "baseline"];
    lab.run(&["eval", "--checkpoint", "abn"]).fails_naming(&parts);
    lab.run(&["eval", "--checkpoint", "abn/last"]).fails_naming(&parts);
    write_picture(&lab.path("a.png"), 0);
    lab.run(&["explain", "--checkpoint", "abn", "--image", "a.png"]).fails_naming(&parts);
    fs::remove_file(lab.path("a.png")).unwrap();
    // Resuming from it, too.
    lab.run(&lab.training("abn", &["--epochs", "1"])).fails_naming(&parts);
    assert!(lab.files("") == before, "files have changed");
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1"])).succeeds();
    let file = lab.path("run/best/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    lab.run(&["eval", "--checkpoint", "run"]).fails_naming(&["best/model.safetensors", "damaged"]);
    lab.run(&["eval", "--checkpoint", "run/last"]).succeeds();
    fs::write(&file, b"").unwrap();
    lab.run(&["eval", "--checkpoint", "run"]).fails_naming(&["best/model.safetensors", "damaged"]);
    lab.run(&["eval", "--checkpoint", "data"]).fails_naming(&["data is no run"]);
}

#[test]
fn a_folder_with_something_else_is_left_alone() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1"])).succeeds();
    let before = lab.files("");
    lab.run(&lab.training("run", &["--epochs", "1", "--seed", "4"]))
        .fails_naming(&["seed = 0 there, 4 asked for", "--force"]);
    lab.run(&lab.training("data", &["--epochs", "1"])).fails_naming(&["data", "--force"]);
    assert!(lab.files("") == before, "files have changed");
    lab.run(&lab.training("run", &["--epochs", "1", "--seed", "4", "--force"])).succeeds();
    assert!(lab.files("") != before, "--force has trained anew");
}

#[test]
fn a_dataset_with_other_classes_is_refused() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1"])).succeeds();
    for split in ["train", "test"] {
        for class in ["cat", "dog"] {
            let folder = lab.path("pets").join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            write_picture(&folder.join("1.png"), class.len());
        }
    }
    let pets = ["--dataset", "folder", "--data-dir", "pets"];
    lab.run(&[&["eval", "--checkpoint", "run"], &pets[..]].concat())
        .fails_naming(&["2 classes", "10"]);
}

#[test]
fn a_diverging_run_stops_and_keeps_the_last_good_state() {
    let lab = Lab::new();
    // Two good epochs, then a rate at which no weight survives.
    let growing = ["--gamma", "1e30", "--momentum", "0"];
    lab.run(&lab.training("run", &growing)).fails_naming(&["diverged", "epoch 3", "smaller lr"]);
    let state = fs::read_to_string(lab.path("run/last/state.json")).unwrap();
    assert!(state.contains("\"epoch\": 2"), "{state}");
    lab.run(&["eval", "--checkpoint", "run/last"]).succeeds();
}
