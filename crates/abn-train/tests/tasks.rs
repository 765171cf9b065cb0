//! The `abn` command on a dataset of several tasks: small faces in CelebA's format.

mod common;

use std::fmt::Write;
use std::fs;

use abn_train::{TaskRun, WeightsFile};
use candle_core::Tensor;
use common::{Lab, Outcome};
use serde_json::Value;

const ATTRIBUTES: [&str; 3] = ["Bangs", "Goatee", "Wearing_Hat"];
/// Training, validation and test images.
const PARTITIONS: [usize; 3] = [24, 8, 16];

/// A lab with faces of 24×32 under `faces/`; each attribute is a bright stripe of its own.
fn lab() -> Lab {
    let lab = Lab::new();
    let folder = lab.path("faces/img_align_celeba");
    fs::create_dir_all(&folder).unwrap();
    let count: usize = PARTITIONS.iter().sum();
    let mut attributes = format!("{count}\n{}\n", ATTRIBUTES.join(" "));
    let mut partitions = String::new();
    for number in 0..count {
        let name = format!("{number:03}.png");
        let has = |t: usize| ((number * 5 / 3) >> t) & 1 == 1;
        let pixel = |x: u32, y: u32| {
            let noise = (x * 7 + y * 13 + number as u32 * 31) % 40;
            let bright = (0..3).any(|t| has(t) && (y / 4) as usize == 1 + 2 * t);
            image::Luma([if bright { 200 } else { 20 } + noise as u8])
        };
        image::GrayImage::from_fn(24, 32, pixel).save(folder.join(&name)).unwrap();
        let values: Vec<_> = (0..3).map(|t| if has(t) { "1" } else { "-1" }).collect();
        writeln!(attributes, "{name} {}", values.join(" ")).unwrap();
        let first = |partition: usize| PARTITIONS[..partition].iter().sum::<usize>();
        let partition = (1..3).filter(|partition| number >= first(*partition)).count();
        writeln!(partitions, "{name} {partition}").unwrap();
    }
    fs::write(lab.path("faces/list_attr_celeba.txt"), attributes).unwrap();
    fs::write(lab.path("faces/list_eval_partition.txt"), partitions).unwrap();
    lab
}

/// Trains on the faces, into the folder `out`.
fn train<'a>(lab: &'a Lab, out: &str, more: &[&str]) -> Outcome<'a> {
    let mut arguments = vec!["train", "--data-dir", "faces", "--model", "resnet8", "--out", out];
    arguments.extend(["--image-size", "16", "--epochs", "2", "--milestones", "2"]);
    arguments.extend(["--batch-size", "8", "--lr", "0.02"]);
    if !more.contains(&"--dataset") {
        arguments.extend(["--dataset", "celeba"]);
    }
    arguments.extend(more);
    lab.run(&arguments)
}

fn json(outcome: Outcome<'_>) -> Value {
    serde_json::from_str(&outcome.succeeds().stdout()).expect("one JSON document and nothing else")
}

#[test]
fn runs_are_evaluated_and_set_against_each_other() {
    let lab = lab();
    let summary = json(train(&lab, "abn", &["--json"]));
    train(&lab, "plain", &["--variant", "baseline"]).succeeds();
    // The paper's network is what one gets: g·M, and two answers to each attribute.
    let recipe = fs::read_to_string(lab.path("abn/recipe.toml")).unwrap();
    for line in ["mechanism = \"multiply\"", "form = \"chainer\""] {
        assert!(recipe.lines().any(|written| written == line), "{line} in {recipe}");
    }

    let eval = |more: &[&str]| lab.run(&[&["eval", "--checkpoint", "abn/last"], more].concat());
    let told = json(eval(&["--json", "--csv", "a.csv"]));
    let (accuracy, error) = (told["accuracy"].as_f64(), summary["test_error"].as_f64());
    assert!((accuracy.unwrap() + error.unwrap() - 100.0).abs() < 1e-9, "{told}");
    assert_eq!((&told["images"], &told["against"]), (&PARTITIONS[2].into(), &Value::Null));
    // What the run wrote of each task, and every answer, are the same figures.
    let written = abn_train::attributes::read(&lab.path("abn/attributes.csv")).unwrap();
    assert_eq!(serde_json::to_value(&written).unwrap(), told["tasks"]);
    let answers = fs::read_to_string(lab.path("a.csv")).unwrap();
    assert_eq!(answers.lines().next(), Some("index,task,label,predicted"));
    for score in &written {
        let of_task = answers.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let of_task: Vec<_> = of_task.filter(|fields| fields[1] == score.name).collect();
        assert_eq!(of_task.len(), PARTITIONS[2]);
        let right = of_task.iter().filter(|fields| fields[2] == fields[3]).count();
        assert_eq!(score.accuracy, Some(100.0 * right as f64 / of_task.len() as f64));
        let positives = of_task.iter().filter(|fields| fields[2] == "yes").count();
        assert_eq!(score.positives, positives as u64);
    }

    // Odds are between any two runs, whichever stands first.
    let odds = |first: &str, second: &str| {
        let arguments = ["eval", "--checkpoint", first, "--against", second, "--json"];
        let odds = json(lab.run(&arguments))["against"]["odds"].clone();
        ["first", "ties", "second"].map(|key| odds[key].as_u64().unwrap())
    };
    let [better, ties, worse] = odds("abn/last", "plain/last");
    assert_eq!(better + ties + worse, 3);
    assert_eq!(odds("plain/last", "abn/last"), [worse, ties, better]);
    assert_eq!(odds("abn/last", "abn/last"), [0, 3, 0]);
    let text = eval(&["--against", "plain/last"]).succeeds();
    let text = text.says(&format!("odds: better on {better} of 3 tasks, worse on {worse}"));
    assert!(text.stdout().lines().any(|line| line.starts_with("mean ")), "{}", text.stdout());

    eval(&["--confusion", "c.csv"]).fails_naming(&["--confusion", "--csv"]);
    lab.run(&lab.training("classes", &["--epochs", "1"])).succeeds();
    eval(&["--against", "classes"]).fails_naming(&["classes", "one task"]);
    lab.run(&["eval", "--checkpoint", "classes", "--against", "abn"])
        .fails_naming(&["--against", "has one"]);
    eval(&["--dataset", "fashion-mnist-mini"]).fails_naming(&["1 task(s)", "3"]);
}

#[test]
fn the_splits_can_be_chosen_and_the_result_keeps_its_bytes() {
    let lab = lab();
    let run = ["--dataset", "celeba-val", "--form", "v1", "--tasks-per-pass", "2"];
    train(&lab, "run", &run).succeeds();
    train(&lab, "again", &[&run[..], &["--threads", "1"]].concat()).succeeds();
    lab.assert_same_result("run", "again");
    let recipe = fs::read_to_string(lab.path("run/recipe.toml")).unwrap();
    assert!(recipe.contains("form = \"v1\"") && recipe.contains("tasks_per_pass = 2"), "{recipe}");
    let images = |more: &[&str]| {
        let eval = ["eval", "--checkpoint", "run", "--json"];
        json(lab.run(&[&eval[..], more].concat()))["images"].clone()
    };
    assert_eq!(images(&[]), PARTITIONS[1]);
    assert_eq!(images(&["--dataset", "celeba", "--data-dir", "faces"]), PARTITIONS[2]);
    // A setting that several tasks do not have, and a bad list, leave nothing behind.
    train(&lab, "no", &["--label-smoothing", "0.1"]).fails_naming(&["label_smoothing"]);
    train(&lab, "no", &["--variant", "cam"]).fails_naming(&["variant", "several tasks"]);
    let list = lab.path("faces/list_attr_celeba.txt");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(
        &list,
        text.replacen("005.png -1", "005.png 2", 1).replacen("005.png 1", "005.png 2", 1),
    )
    .unwrap();
    train(&lab, "no", &[]).fails_naming(&["list_attr_celeba.txt", "line 8", "found \"2\""]);
    assert!(!lab.path("no").exists());
}

#[test]
fn the_map_of_each_task_is_drawn_whole_and_in_its_parts() {
    let lab = lab();
    train(&lab, "abn", &[]).succeeds();
    train(&lab, "plain", &["--variant", "baseline"]).succeeds();
    let explain = |run: &str, more: &[&str]| {
        let face = "faces/img_align_celeba/010.png";
        lab.run(
            &[&["explain", "--checkpoint", run, "--image", face, "--out", "maps"], more].concat(),
        )
    };
    let told = json(explain("abn", &["--json", "--save-maps"]));
    let tasks = told["images"][0]["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3);
    let size = |name: &str| image::image_dimensions(lab.path("maps").join(name)).unwrap();
    let run = TaskRun::open(&lab.path("abn")).unwrap();
    let image = abn_data::read_image(&lab.path("faces/img_align_celeba/010.png")).unwrap();
    let prediction = &run.predict(&[image]).unwrap()[0];
    let maps = prediction.maps.as_ref().unwrap();
    for (t, (task, name)) in tasks.iter().zip(ATTRIBUTES).enumerate() {
        assert_eq!(task["task"], name);
        let (answer, probability) = prediction.answer(t).unwrap();
        assert_eq!(task["answer"], ["no", "yes"][answer]);
        assert_eq!(task["probability"].as_f64().unwrap() as f32, probability);
        // The face, its map and two parts side by side.
        let (width, height) = size(&format!("010-{name}.png"));
        assert!(width > 4 * 96 && height > 128, "{width}×{height}");
        assert_eq!(size("010-panel.png").0, width);
        let saved = fs::read(lab.path(&format!("maps/010-{name}.npy"))).unwrap();
        let values: Vec<u8> = maps[t].values().iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(saved.ends_with(&values), "{name}");
    }
    assert_eq!(lab.files("maps").len(), 3 * 2 + 1);
    fs::remove_dir_all(lab.path("maps")).unwrap();
    explain("abn", &["--tasks", "Goatee"]).succeeds().says("010-panel.png");
    assert_eq!(lab.files("maps").len(), 2);

    explain("abn", &["--tasks", "Beard"]).fails_naming(&["Beard", "Bangs, Goatee, Wearing_Hat"]);
    explain("abn", &["--methods", "grad-cam"]).fails_naming(&["--methods", "--tasks"]);
    explain("abn", &["--class", "yes"]).fails_naming(&["--class", "one task"]);
    explain("plain", &[]).fails_naming(&["baseline network", "--variant abn"]);
    lab.run(&lab.training("classes", &["--epochs", "1"])).succeeds();
    explain("classes", &["--tasks", "Goatee"]).fails_naming(&["--tasks", "has one task"]);
}

#[test]
fn weights_go_out_come_back_and_start_a_network() {
    let lab = lab();
    train(&lab, "run", &[]).succeeds();
    lab.run(&["export", "--checkpoint", "run/last", "--out", "w.pth"]).succeeds().says("3 tasks");
    let exported = WeightsFile::read(&lab.path("w.pth")).unwrap();
    for name in ["layer3_att.0.conv1.weight", "conv_att.weight", "output_per.2.weight"] {
        assert!(exported.shape(name).is_some(), "{name}");
    }
    // Back, by the dataset and by a list of names: the same answers.
    fs::write(lab.path("names.txt"), ATTRIBUTES.join("\n")).unwrap();
    let import = ["import", "--weights", "w.pth", "--model", "resnet8"];
    let by_name =
        |more: &[&str]| lab.run(&[&import[..], &["--attributes", "names.txt"], more].concat());
    by_name(&["--out", "named"]).succeeds().says("resnet8 (abn, 3 tasks)");
    let by_data = ["--dataset", "celeba", "--data-dir", "faces", "--out", "back"];
    lab.run(&[&import[..], &by_data[..]].concat()).succeeds().says("abn eval");
    let [run, named, back] =
        ["run/last", "named", "back"].map(|run| TaskRun::open(&lab.path(run)).unwrap());
    let image = abn_data::read_image(&lab.path("faces/img_align_celeba/040.png")).unwrap();
    let answer = |run: &TaskRun| run.predict(std::slice::from_ref(&image)).unwrap();
    assert_eq!(answer(&named), answer(&back));
    for other in [&named, &back] {
        assert_eq!(
            (&other.card.tasks, other.recipe.mechanism),
            (&run.card.tasks, run.recipe.mechanism)
        );
        for (name, tensor) in run.params.tensors() {
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&other.params.tensors()[&name]), values(&tensor), "{name}");
        }
    }
    // Of the other form: a logit less for each attribute.
    by_name(&["--form", "v1", "--out", "v1"]).fails_naming(&["w.pth does not fit", "output_per.0"]);

    // A network of one task starts one of several, as torchvision's do: it has no branch and other last layers.
    lab.run(&lab.training("one", &["--epochs", "1", "--variant", "baseline"])).succeeds();
    lab.run(&["export", "--checkpoint", "one", "--out", "one.pth"]).succeeds();
    let said = train(&lab, "started", &["--init", "one.pth"]).succeeds().stderr();
    for part in
        ["copied into the attention trunk", "output_per.0.weight", "not used: fc.bias, fc.weight"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    // So does a baseline of the same tasks, which brings its last layers.
    train(&lab, "plain", &["--variant", "baseline"]).succeeds();
    let said = train(&lab, "second", &["--init", "plain"]).succeeds().stderr();
    assert!(said.contains("copied") && !said.contains("output_per"), "{said}");
    // To a network of the other form, which has a logit less for each attribute, it brings all but these.
    let other = ["--init", "plain", "--form", "v1"];
    let said = train(&lab, "third", &other).succeeds().stderr();
    assert!(said.contains("copied") && said.contains("output_per.0.bias"), "{said}");
}
