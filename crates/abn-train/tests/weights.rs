//! Weights that PyTorch wrote, and weights for PyTorch.
//!
//! `tests/reference/make_weight_fixtures.py` makes the files with `torch.save` and computes the logits;
//! `ABN_WEIGHTS_DIR` names a folder with more of them. `tests/reference/check_export.py` loads what
//! is exported here into PyTorch.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use abn_core::Mode;
use abn_ops::{Tracked, no_grad};
use abn_train::{Run, WeightsFile};
use candle_core::{DType, Device, Tensor};
use common::{Lab, write_picture};
use serde::Deserialize;

/// Logits may differ from PyTorch's double precision by this, relative, in L2 norm.
const BOUND: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    file: String,
    model: String,
    variant: String,
    classes: usize,
    image_size: usize,
    attention_logits: Option<Vec<Vec<f64>>>,
    logits: Vec<Vec<f64>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights")
}

fn fixture(name: &str) -> String {
    fixtures().join(name).to_str().unwrap().to_owned()
}

fn cases(folder: &Path) -> Vec<Case> {
    let text = fs::read_to_string(folder.join("cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The images that the logits are of.
fn images(size: usize) -> Tracked {
    let count = 2 * 3 * size * size;
    let pixels = (0..count).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    Tracked::constant(Tensor::from_vec(pixels, (2, 3, size, size), &Device::Cpu).unwrap())
}

/// (The answer's logits, the attention branch's).
fn logits(run: &Run, size: usize) -> (Vec<Vec<f64>>, Option<Vec<Vec<f64>>>) {
    let rows = |t: &Tracked| t.value().to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let output = no_grad(|| run.model.forward(&images(size), Mode::Eval)).unwrap();
    (rows(&output.logits), output.attention.map(|attention| rows(&attention.logits)))
}

/// ‖ours − theirs‖ / ‖theirs‖
fn distance(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = || ours.iter().flatten().zip(theirs.iter().flatten());
    let difference: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = pairs().map(|(_, b)| b.powi(2)).sum();
    assert!(norm > 0.0, "logits are all zero");
    (difference / norm).sqrt()
}

fn import<'a>(file: &'a str, case: &'a Case, classes: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["import", "--weights", file, "--out", out, "--classes", classes];
    arguments.extend(["--model", &case.model, "--variant", &case.variant]);
    arguments
}

#[test]
fn pytorchs_weights_give_pytorchs_logits() {
    let mut folders = vec![fixtures()];
    folders.extend(std::env::var_os("ABN_WEIGHTS_DIR").map(PathBuf::from));
    for folder in folders {
        for case in cases(&folder) {
            let lab = Lab::new();
            let (file, classes) = (folder.join(&case.file), case.classes.to_string());
            let file = file.to_str().unwrap();
            lab.run(&import(file, &case, &classes, "run")).succeeds().says("tensors taken over");
            let run = Run::open(&lab.path("run")).unwrap();
            let (answer, attention) = logits(&run, case.image_size);
            let answer = distance(&answer, &case.logits);
            let branch = case.attention_logits.as_ref();
            let branch = branch.map_or(0.0, |theirs| distance(&attention.unwrap(), theirs));
            println!("{:24} logits {answer:.1e}, attention branch's {branch:.1e}", case.file);
            assert!(answer <= BOUND && branch <= BOUND, "{}: {answer:e}, {branch:e}", case.file);
        }
    }
}

#[test]
fn an_imported_run_is_evaluated_and_explained() {
    let lab = Lab::new();
    let file = fixture("model_best.pth.tar");
    let weights = ["import", "--weights", &file, "--model", "cifar-vgg11-bn-w1", "--out", "run"];
    let dataset = ["--dataset", "fashion-mnist", "--data-dir", "data"];
    lab.run(&[&weights[..], &dataset].concat()).succeeds().says("ready for `abn eval`");
    // The dataset is the run's: nothing more to say.
    let eval = lab.run(&["eval", "--checkpoint", "run", "--json"]).succeeds();
    let eval: serde_json::Value = serde_json::from_str(&eval.stdout()).unwrap();
    assert_eq!((&eval["images"], &eval["epoch"]), (&common::TEST.into(), &0.into()));
    write_picture(&lab.path("a.png"), 3);
    let explain = ["explain", "--checkpoint", "run", "--image", "a.png", "--out", "maps"];
    lab.run(&explain).succeeds();
    assert!(lab.path("maps/a-attention.png").exists());
    // The same command again gives the same run.
    let before = lab.files("run");
    lab.run(&[&weights[..], &dataset].concat()).succeeds();
    assert!(lab.files("run") == before, "files have changed");
    let recipe = fs::read_to_string(lab.path("run/recipe.toml")).unwrap();
    assert!(recipe.contains("init_sha256 = ") && recipe.contains("model_best.pth.tar"), "{recipe}");
}

#[test]
fn classes_may_have_names_or_a_number() {
    let lab = Lab::new();
    let file = fixture("zip.pth");
    let case = &cases(&fixtures())[0];
    let with = |more: &[&str]| {
        let weights = ["import", "--weights", &file, "--model", &case.model, "--out", "run"];
        [&weights[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |more: &[&str]| {
        let arguments = with(more);
        lab.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let names: String = (0..10).map(|class| format!("thing {class}\n")).collect();
    fs::write(lab.path("names.txt"), &names).unwrap();
    fs::write(lab.path("few.txt"), "cat\ndog\n").unwrap();
    run(&["--class-names", "gone.txt"]).fails_naming(&["gone.txt"]);
    run(&["--class-names", "few.txt"]).fails_naming(&[
        "zip.pth does not fit",
        "2 classes",
        "`att_conv",
    ]);
    run(&["--classes", "1"]).fails_naming(&["--classes", "2 to"]);
    run(&["--classes", "10", "--std", "0.2,0,0.2"]).fails_naming(&["--std", "above 0"]);
    assert!(!lab.path("run").exists(), "nothing was written");
    run(&["--class-names", "names.txt", "--mean", "0.5,0.25,0.125"]).succeeds();
    let imported = Run::open(&lab.path("run")).unwrap();
    assert_eq!(imported.card.classes[3], "thing 3");
    assert_eq!(imported.card.input.mean, [0.5, 0.25, 0.125]);
    // Other names than the dataset's are refused, numbers are not compared.
    let eval = ["eval", "--checkpoint", "run", "--dataset", "fashion-mnist", "--data-dir", "data"];
    lab.run(&eval).fails_naming(&["thing 0"]);
    fs::remove_dir_all(lab.path("run")).unwrap();
    run(&["--classes", "10"]).succeeds();
    lab.run(&eval).succeeds();
    lab.run(&["eval", "--checkpoint", "run"]).fails_naming(&["data_dir"]);
}

#[test]
fn a_baselines_weights_start_an_attention_branch_network() {
    let lab = Lab::new();
    lab.run(&lab.training("baseline", &["--epochs", "1", "--variant", "baseline"])).succeeds();
    lab.run(&["export", "--checkpoint", "baseline/last", "--out", "b.pth"]).succeeds();
    let weights = ["import", "--weights", "b.pth", "--model", "resnet8", "--classes", "10"];
    let import = |more: &[&str]| lab.run(&[&weights[..], more].concat());
    import(&["--out", "abn"]).fails_naming(&[
        "b.pth does not fit",
        "`att_conv.weight`",
        "--init-from-baseline",
    ]);
    import(&["--out", "abn", "--init-from-baseline"])
        .succeeds()
        .says("copied into the attention trunk");
    let [baseline, abn] = ["baseline/last", "abn"].map(|run| Run::open(&lab.path(run)).unwrap());
    let (ours, theirs) = (abn.params.tensors(), baseline.params.tensors());
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut copied = 0;
    for (name, tensor) in &ours {
        let twin = name.replacen("att_layer3", "layer3", 1);
        match theirs.get(&twin) {
            Some(theirs) => assert_eq!(values(tensor), values(theirs), "{name}"),
            None => assert!(name.contains("att"), "{name}"),
        }
        copied += usize::from(twin != *name && theirs.contains_key(&twin));
    }
    assert_eq!(copied, 15, "two convolutions and batch norms, and the shortcut's");
    // With other classes, the last layer starts anew too, and is named.
    let other = ["--model", "resnet8", "--classes", "7", "--init-from-baseline", "--json"];
    let arguments = [&["import", "--weights", "b.pth", "--out", "seven"], &other[..]].concat();
    let report: serde_json::Value =
        serde_json::from_str(&lab.run(&arguments).succeeds().stdout()).unwrap();
    let initial: Vec<_> =
        report["initial"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(initial.contains(&"fc.weight") && initial.contains(&"fc.bias"), "{initial:?}");
    assert!(
        initial.iter().all(|name| name.starts_with("fc.") || name.contains("att")),
        "{initial:?}"
    );
    // A CAM network's last layers are its own: the baseline's are left out, and named.
    let cam = ["--model", "resnet8", "--classes", "10", "--variant", "cam", "--out", "cam"];
    lab.run(&[&["import", "--weights", "b.pth", "--init-from-baseline"], &cam[..]].concat())
        .succeeds()
        .says("cam_fc.weight; 2 not used: fc.bias, fc.weight");
    // Weights of another network are no start.
    let wrong =
        ["--model", "resnet14", "--classes", "10", "--init-from-baseline", "--out", "wrong"];
    lab.run(&[&["import", "--weights", "b.pth"], &wrong[..]].concat())
        .fails_naming(&["b.pth does not fit resnet14", "missing `layer1.1."]);
}

#[test]
fn training_starts_from_weights_and_resumes_without_them() {
    let lab = Lab::new();
    lab.run(&lab.training("before", &["--epochs", "1", "--variant", "baseline"])).succeeds();
    lab.run(&["export", "--checkpoint", "before/last", "--out", "w.safetensors"]).succeeds();
    let said = lab.run(&lab.training("run", &["--init", "w.safetensors"])).succeeds().stderr();
    assert!(said.contains("starting from w.safetensors: "), "{said}");
    assert!(said.contains("copied into the attention trunk"), "{said}");
    lab.run(&lab.training("plain", &[])).succeeds();
    let [a, b] = ["run", "plain"].map(|run| lab.result(run));
    assert!(
        a["last/model.safetensors"] != b["last/model.safetensors"],
        "the weights changed nothing"
    );
    // The same weights from a run's folder are the same start, but for their file.
    lab.run(&lab.training("again", &["--init", "w.safetensors", "--threads", "1"])).succeeds();
    lab.assert_same_result("run", "again");
    // A finished run needs them no more, and other weights are another recipe.
    lab.run(&["export", "--checkpoint", "run", "--out", "other.pth"]).succeeds();
    lab.run(&lab.training("run", &["--init", "other.pth"])).fails_naming(&["init_sha256"]);
    fs::remove_file(lab.path("w.safetensors")).unwrap();
    lab.run(&["train", "--recipe", "run/recipe.toml", "--out", "run"]).succeeds();
    fs::copy(lab.path("run/recipe.toml"), lab.path("r.toml")).unwrap();
    lab.run(&["train", "--recipe", "r.toml", "--out", "new"])
        .fails_naming(&["init: ", "w.safetensors is not there"]);
    assert!(!lab.path("new").exists());
    lab.run(&lab.training("new", &["--init", "before"])).succeeds();
    assert!(lab.path("new/best/model.safetensors").exists());
}

#[test]
fn what_is_exported_reads_back_bit_for_bit() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1"])).succeeds();
    let run = Run::open(&lab.path("run")).unwrap();
    for file in ["w.pth", "w.safetensors"] {
        lab.run(&["export", "--checkpoint", "run", "--out", file]).succeeds().says("resnet8 (abn");
        let bytes = fs::read(lab.path(file)).unwrap();
        lab.run(&["export", "--checkpoint", "run", "--out", file]).succeeds();
        assert!(bytes == fs::read(lab.path(file)).unwrap(), "{file}: other bytes each time");
        let read = WeightsFile::read(&lab.path(file)).unwrap();
        let tensors = run.params.tensors();
        assert_eq!(read.shapes().count(), tensors.len());
        for (name, tensor) in tensors {
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(read.shape(&name), Some(tensor.dims()), "{file}: {name}");
            assert_eq!(values(&read.tensor(&name).unwrap()), values(&tensor), "{file}: {name}");
        }
        let arguments = ["import", "--weights", file, "--model", "resnet8", "--classes", "10"];
        lab.run(&[&arguments[..], &["--out", "back"]].concat()).succeeds();
        let back = Run::open(&lab.path("back")).unwrap();
        assert_eq!(logits(&back, 32), logits(&run, 32));
        fs::remove_dir_all(lab.path("back")).unwrap();
    }
    lab.run(&["export", "--checkpoint", "run", "--out", "w.onnx"])
        .fails_naming(&["w.onnx", ".safetensors"]);
    lab.run(&["export", "--checkpoint", "data", "--out", "x.pth"])
        .fails_naming(&["data is no run"]);
}

#[test]
fn an_imported_run_is_not_written_over_something_else() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1"])).succeeds();
    let before = lab.files("run");
    let file = fixture("zip.pth");
    let arguments =
        ["import", "--weights", &file, "--model", "cifar-vgg11-bn-w1", "--classes", "10"];
    lab.run(&[&arguments[..], &["--out", "run"]].concat()).fails_naming(&["another recipe"]);
    lab.run(&[&arguments[..], &["--out", "data"]].concat()).fails_naming(&["not a run's"]);
    assert!(lab.files("run") == before, "files have changed");
}

#[test]
fn what_is_no_file_of_weights_is_named_and_nothing_written() {
    let lab = Lab::new();
    let good = fs::read(fixture("model_best.pth.tar")).unwrap();
    fs::write(lab.path("page.pth"), "<!DOCTYPE html>\n<title>Sign in</title>").unwrap();
    fs::write(lab.path("torn.pth"), &good[..good.len() - 1]).unwrap();
    let file = fixture("zip.pth");
    for (weights, model, parts) in [
        ("page.pth", "resnet8", &["page.pth", "neither a file of torch.save nor safetensors"][..]),
        ("torn.pth", "cifar-vgg11-bn-w1", &["torn.pth", "the file ends in storage"]),
        ("gone.pth", "resnet8", &["gone.pth"]),
        (
            &file,
            "resnet8",
            &["zip.pth does not fit resnet8", "missing `att_layer3.0.", "unexpected `att_layer.0."],
        ),
        (&file, "cifar-vgg11-bn-w2", &["zip.pth does not fit", "the model has shape", "got ["]),
        (&file, "resmet8", &["unknown model `resmet8`"]),
    ] {
        let arguments = ["import", "--weights", weights, "--model", model, "--out", "run"];
        lab.run(&[&arguments[..], &["--classes", "10"]].concat()).fails_naming(parts);
        lab.run(&lab.training("run", &["--init", "page.pth"])).fails_naming(&["page.pth"]);
        assert!(!lab.path("run").exists());
    }
}
