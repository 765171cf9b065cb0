//! The `abn` command as one uses it.

mod common;

use std::fs;

use common::{Lab, TEST, write_picture};

#[test]
fn train_and_evaluate() {
    let lab = Lab::new();
    let report = lab.run(&lab.training("run", &["--json"])).succeeds();
    let summary: serde_json::Value = serde_json::from_str(&report.stdout()).unwrap();
    assert_eq!(summary["epochs"], 3);
    assert_eq!(report.stderr().lines().filter(|line| line.starts_with("epoch ")).count(), 3);
    let written = fs::read_to_string(lab.path("run/summary.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), summary);
    let recipe = fs::read_to_string(lab.path("run/recipe.toml")).unwrap();
    assert!(
        recipe.starts_with("# The recipe of this run") && recipe.contains("abn train"),
        "{recipe}"
    );

    // What other programs and people look at.
    let table = fs::read_to_string(lab.path("run/metrics.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 3, "{table}");
    let confusion = fs::read_to_string(lab.path("run/confusion.csv")).unwrap();
    lab.run(&["eval", "--checkpoint", "run/last", "--confusion", "c.csv"]).succeeds();
    assert_eq!(fs::read_to_string(lab.path("c.csv")).unwrap(), confusion);
    let page = fs::read_to_string(lab.path("run/report.html")).unwrap();
    for part in ["After 3 of 3 epochs", "ankle boot", "<svg", "<td>batch_size</td><td>10</td>"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let gallery = page.matches("data:image/png;base64,").count();
    assert!((12..=TEST).contains(&gallery), "{gallery} of {TEST} test images");
    assert!(page.contains("Where the network looked") && page.contains("(attention)"), "{page}");
    assert!(fs::metadata(lab.path("run/events.out.tfevents.0.abn")).unwrap().len() > 500);

    // What was evaluated in training, evaluated again from disk.
    let eval = lab.run(&["eval", "--checkpoint", "run/last", "--json"]).succeeds();
    let eval: serde_json::Value = serde_json::from_str(&eval.stdout()).unwrap();
    assert_eq!(eval["images"], TEST);
    for key in ["test_error", "test_error_attention"] {
        assert_eq!(eval[key], summary[key], "{key}");
    }
    let best = lab.run(&["eval", "--checkpoint", "run", "--json"]).succeeds();
    let best: serde_json::Value = serde_json::from_str(&best.stdout()).unwrap();
    assert_eq!(
        (&best["test_error"], &best["epoch"]),
        (&summary["best_test_error"], &summary["best_epoch"])
    );
}

#[test]
fn an_evaluation_tells_every_answer() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "2"])).succeeds();
    let eval = ["eval", "--checkpoint", "run/last", "--csv", "a.csv", "--confusion", "c.csv"];
    let said = lab.run(&[&eval[..], &["--json"]].concat()).succeeds().stdout();
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The same figures from the list of answers.
    let lines = fs::read_to_string(lab.path("a.csv")).unwrap();
    let mut lines = lines.lines();
    assert_eq!(lines.next(), Some("index,label,predicted,probability"));
    let mut counts = [[0u64; 10]; 10];
    for (index, line) in lines.enumerate() {
        let fields: Vec<_> = line.split(',').collect();
        let [label, predicted] = [1, 2].map(|field: usize| fields[field].parse::<usize>().unwrap());
        let probability: f32 = fields[3].parse().unwrap();
        assert_eq!((fields[0].parse(), label), (Ok(index), index % 10), "{line}");
        assert!((0.1..=1.0).contains(&probability), "{line}");
        counts[label][predicted] += 1;
    }
    assert_eq!(told["confusion"], serde_json::json!(counts));
    let right: u64 = (0..10).map(|class| counts[class][class]).sum();
    let error = 100.0 * (TEST as u64 - right) as f64 / TEST as f64;
    assert_eq!(told["test_error"], error);
    let top5 = told["test_error_top5"].as_f64().unwrap();
    assert!(top5 <= error && top5 >= 0.0, "{top5} of {error}");
    for (class, row) in told["classes"].as_array().unwrap().iter().zip(&counts) {
        assert_eq!((&class["images"], row.iter().sum::<u64>()), (&serde_json::json!(2), 2));
    }
    let matrix = fs::read_to_string(lab.path("c.csv")).unwrap();
    let first = counts[0].map(|count| count.to_string()).join(",");
    assert_eq!(matrix.lines().nth(1), Some(format!("t-shirt,{first}").as_str()), "{matrix}");
    lab.run(&eval).succeeds().says("top-5").says("taken for  0  1  2  3").says("ankle boot");
    lab.run(&["eval", "--checkpoint", "run", "--csv", "none/a.csv"]).fails_naming(&["none"]);
    let precise = [&eval[..], &["--json", "--precision", "f32"]].concat();
    let precise = lab.run(&precise).succeeds().stdout();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&precise).unwrap(), told);
    lab.run(&[&eval[..], &["--precision", "bf16"]].concat()).fails_naming(&["bf16", "GPU"]);
}

#[test]
fn a_finished_run_gives_its_summary_at_once() {
    let lab = Lab::new();
    let first = lab.run(&lab.training("run", &[])).succeeds().stdout();
    let before = lab.files("run");
    fs::remove_dir_all(lab.path("data")).unwrap(); // not looked at
    let again = lab.run(&lab.training("run", &[])).succeeds();
    assert_eq!(again.stdout(), first);
    assert_eq!(again.stderr(), "");
    assert!(lab.files("run") == before, "files have changed");
}

#[test]
fn flags_go_before_the_recipes_file() {
    let lab = Lab::new();
    let text = "model = \"resnet8\"\nepochs = 2\nbatch_size = 10\ndataset = \"fashion-mnist\"\ndata_dir = \"data\"\n";
    fs::write(lab.path("r.toml"), text).unwrap();
    let flags = ["--epochs", "1", "--nesterov", "--out", "run"];
    lab.run(&[&["train", "--recipe", "r.toml"], &flags[..]].concat()).succeeds();
    let written = fs::read_to_string(lab.path("run/recipe.toml")).unwrap();
    for line in ["epochs = 1", "nesterov = true", "batch_size = 10", "lr = 0.1"] {
        assert!(written.lines().any(|l| l == line), "{line} in {written}");
    }
    // The resolved recipe is a recipe, and the same one.
    fs::copy(lab.path("run/recipe.toml"), lab.path("again.toml")).unwrap();
    lab.run(&["train", "--recipe", "again.toml", "--out", "again"]).succeeds();
    lab.assert_same_result("run", "again");
}

#[test]
fn every_option_changes_the_result() {
    let lab = Lab::new();
    let one = |name: &str, flags: &[&str]| {
        lab.run(&lab.training(name, &[flags, &["--epochs", "2"]].concat())).succeeds();
        lab.result(name)["last/model.safetensors"].clone()
    };
    let weights = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    let plain = weights(&one("plain", &[]));
    for (name, flags) in [
        ("accumulate", ["--accumulate", "2"]),
        ("schedule", ["--schedule", "cosine"]),
        ("warmup", ["--warmup-epochs", "1"]),
        ("smoothing", ["--label-smoothing", "0.1"]),
        ("ema", ["--ema-decay", "0.5"]),
        ("preset", ["--preset", "paper"]),
        ("images-per-class", ["--images-per-class", "4"]),
    ] {
        assert!(weights(&one(name, &flags)) != plain, "{name} changes nothing");
    }
    // The average changes what is evaluated, not what is trained.
    assert!(weights(&lab.result("ema")["last/trained.safetensors"]) == plain);
}

#[test]
fn a_last_batch_of_one_image_trains() {
    let lab = Lab::new();
    lab.run(&lab.training("run", &["--epochs", "1", "--batch-size", "47"])).succeeds();
    let one_by_one = ["--epochs", "1", "--batch-size", "4", "--accumulate", "4"];
    lab.run(&lab.training("one-by-one", &one_by_one)).succeeds();
}

#[test]
fn ones_own_images_train() {
    let lab = Lab::new();
    for (split, count) in [("train", 12), ("test", 4)] {
        for index in 0..count {
            let folder = lab.path("photos").join(split).join(["left", "right"][index % 2]);
            fs::create_dir_all(&folder).unwrap();
            write_picture(&folder.join(format!("{index}.png")), index % 2);
        }
    }
    let data = ["--dataset", "folder", "--data-dir", "photos", "--out", "run"];
    let small = ["--model", "resnet8", "--epochs", "1", "--batch-size", "4"];
    lab.run(&[&["train"], &data[..], &small[..]].concat()).succeeds();
    let photo = ["--image", "photos/test/left/0.png", "--out", "maps"];
    let said = lab.run(&[&["explain", "--checkpoint", "run"], &photo[..]].concat()).succeeds();
    assert!(said.says("left").stdout().contains("right"));
}

#[test]
fn the_lists_have_what_is_asked_for() {
    let lab = Lab::new();
    lab.run(&["models"]).succeeds().says("resnet110").succeeds();
    let models = lab.run(&["models", "--json"]).succeeds().stdout();
    let models: serde_json::Value = serde_json::from_str(&models).unwrap();
    let resnet18 = models.as_array().unwrap().iter().find(|m| m["name"] == "resnet18").unwrap();
    // torchvision's figures
    assert_eq!(resnet18["baseline"]["parameters"], 11_689_512);
    assert_eq!(resnet18["baseline"]["multiply_adds"], 1_814_073_344u64);
    lab.run(&["datasets"]).succeeds().says("fashion-mnist-mini");
}
