use std::fs;
use std::path::Path;

use super::compare::{Verdict, compare};
use super::plan::Plan;
use super::*;

const PLAN: &str = r#"
tolerance = 2.0
[recipe]
dataset = "fashion-mnist-mini"
epochs = 1
milestones = []
images_per_class = 3
[[run]]
name = "small"
recipe = { model = "resnet8", variant = "baseline" }
"#;

/// A plan and its baselines in a folder.
fn regress(folder: &Path, plan: &str) -> Regress {
    fs::write(folder.join("plan.toml"), plan).unwrap();
    Regress {
        plan: folder.join("plan.toml"),
        baselines: folder.join("baselines/regress.toml"),
        out: folder.join("runs"),
        machine: "made here".into(),
        only: Vec::new(),
        progress: Progress::Quiet,
    }
}

fn message(result: Result<()>) -> String {
    format!("{:#}", result.expect_err("this must fail"))
}

/// Changes a text in the baselines, which must be there.
fn change(regress: &Regress, from: &str, to: &str) {
    let text = fs::read_to_string(&regress.baselines).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(&regress.baselines, text.replace(from, to)).unwrap();
}

#[test]
fn what_is_blessed_is_accepted_and_every_change_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut regress = regress(folder.path(), PLAN);
    assert!(message(regress.check()).contains("has no baselines yet"));

    regress.bless().unwrap();
    regress.check().unwrap();
    let blessed = fs::read_to_string(&regress.baselines).unwrap();
    let numbers = Baselines::load(&regress.baselines).unwrap();
    let numbers = numbers.of("made here").unwrap().1["small"].clone();
    assert!(numbers.test_error > 5.0, "three images of a class do not teach much: {numbers:?}");

    // A baseline that is better by a single image.
    let error = format!("test_error = {:?}", numbers.test_error);
    let better = |by: f64| format!("test_error = {:?}", numbers.test_error - by);
    change(&regress, &error, &better(0.05));
    assert!(message(regress.check()).contains("small: WORSE"));
    regress.machine = "another".into();
    regress.check().unwrap();
    fs::write(&regress.baselines, &blessed).unwrap();
    change(&regress, &error, &better(2.05));
    assert!(message(regress.check()).contains("small: WORSE"));
    regress.machine = "made here".into();

    fs::write(&regress.baselines, &blessed).unwrap();
    change(&regress, &numbers.weights[..8], "01234567");
    assert!(message(regress.check()).contains("small: changed"));
    fs::write(&regress.baselines, &blessed).unwrap();
    change(&regress, "small", "smaller");
    let said = message(regress.check());
    assert!(said.contains("small: no baseline") && said.contains("smaller: a baseline"), "{said}");
    fs::write(&regress.baselines, blessed.replace("test_error", "error")).unwrap();
    assert!(message(regress.check()).contains("unknown field `error`"));

    // Another machine's baselines stay when this one's are written.
    fs::write(&regress.baselines, &blessed).unwrap();
    regress.machine = "another".into();
    regress.bless().unwrap();
    let both = fs::read_to_string(&regress.baselines).unwrap();
    assert!(both.contains("[another.small]") && both.contains("[\"made here\".small]"), "{both}");
    let said = message({
        let changed = PLAN.replace("images_per_class = 3", "images_per_class = 2");
        self::regress(folder.path(), &changed).check()
    });
    assert!(said.contains("another recipe than the baseline's"), "{said}");
}

#[test]
fn verdicts() {
    let numbers = |test_error, weights: &str| Numbers {
        recipe: "r".into(),
        test_error,
        weights: weights.into(),
    };
    let base = numbers(20.0, "w");
    let exact = |found| compare(&found, Some(&base), None);
    assert_eq!(exact(numbers(20.0, "w")), Verdict::Fine);
    assert_eq!(exact(numbers(20.05, "w")), Verdict::Worse);
    assert_eq!(exact(numbers(f64::NAN, "w")), Verdict::Worse);
    assert_eq!(exact(numbers(19.95, "w")), Verdict::Changed);
    assert_eq!(exact(numbers(20.0, "v")), Verdict::Changed);
    let near = |found| compare(&found, Some(&base), Some(2.0));
    assert_eq!(near(numbers(22.0, "v")), Verdict::Fine);
    assert_eq!(near(numbers(10.0, "v")), Verdict::Fine);
    assert_eq!(near(numbers(22.05, "v")), Verdict::Worse);
    assert_eq!(near(numbers(f64::NAN, "v")), Verdict::Worse);
    assert_eq!(compare(&base, None, None), Verdict::NoBaseline);
    let other = Numbers { recipe: "s".into(), ..base.clone() };
    assert_eq!(compare(&other, Some(&base), Some(2.0)), Verdict::OtherRecipe);
}

#[test]
fn plans_that_cannot_be_are_refused() {
    Plan::parse(PLAN).unwrap();
    let spoilt = |from: &str, to: &str| {
        let text = PLAN.replace(from, to);
        assert_ne!(text, PLAN, "{from}");
        format!("{:#}", Plan::parse(&text).map(|_| ()).expect_err(&text))
    };
    assert!(spoilt("tolerance", "tolerence").contains("unknown field `tolerence`"));
    assert!(spoilt("tolerance = 2.0", "tolerance = -1.0").contains("tolerance must be"));
    assert!(spoilt("epochs", "epoch").contains("no such key"));
    assert!(spoilt("\"resnet8\"", "\"resnet9\"").contains("run \"small\""));
    assert!(spoilt("variant", "varient").contains("no such key"));
    assert!(spoilt("name = \"small\"", "name = \"../small\"").contains("a name has"));
    assert!(spoilt("name =", "title =").contains("unknown field `title`"));
    let twice = format!("{PLAN}[[run]]\nname = \"small\"\nrecipe = {{}}\n");
    assert!(Plan::parse(&twice).map(|_| ()).unwrap_err().to_string().contains("twice"));
}

#[test]
fn the_committed_plan_has_a_baseline_for_each_run_on_each_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let plan = Plan::load(&root.join("recipes/regress.toml")).unwrap();
    let text = fs::read_to_string(root.join("tests/baselines/regress.toml")).unwrap();
    let machines: toml::Table = toml::from_str(&text).unwrap();
    assert!(!machines.is_empty());
    let baselines = Baselines::load(&root.join("tests/baselines/regress.toml")).unwrap();
    for machine in machines.keys() {
        let runs = baselines.of(machine).unwrap().1;
        assert_eq!(runs.len(), plan.runs.len(), "{machine}");
        for run in &plan.runs {
            assert_eq!(runs[&run.name].recipe, run.fingerprint, "{machine}, {}", run.name);
        }
    }
}

#[test]
fn the_hash_is_of_the_tensors_alone() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    use std::collections::HashMap;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, values: [u8; 4], note: &str| {
        let path = folder.path().join(name);
        let view = TensorView::new(Dtype::U8, vec![4], &values).unwrap();
        let note = HashMap::from([("abn".to_owned(), note.to_owned())]);
        serialize_to_file([("w", view)], Some(note), &path).unwrap();
        weights_hash(&path).unwrap()
    };
    let hash = write("a", [1, 2, 3, 4], "one");
    assert_eq!(write("b", [1, 2, 3, 4], "another card"), hash);
    assert_ne!(write("c", [1, 2, 3, 5], "one"), hash);
    assert!(
        weights_hash(&folder.path().join("d")).unwrap_err().to_string().contains("cannot read")
    );
}
