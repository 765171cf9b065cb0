//! `--init`: a table's networks start from weights at hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Small enough to be trained in a second.
const TABLE: &str = r#"
    title = "Small"
    recipe = { images_per_class = 8, batch_size = 16, epochs = 1, milestones = [], lr = 0.01, model = "resnet8" }
    [[column]]
    name = "baseline"
    title = "baseline"
    recipe = { variant = "baseline" }
    [[column]]
    name = "abn"
    title = "ABN"
    recipe = { variant = "abn" }
    [[dataset]]
    name = "fashion-mnist-mini"
    title = "F"
    note = "clothes"
    classes = 10
    images = 80
    [[row]]
    name = "ResNet"
"#;

fn reproduce(root: &Path, out: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.current_dir(root).args(["reproduce-table3", "--quick", "--recipes", "recipes"]);
    command.args(["--out", out]).args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn networks_start_from_the_weights_that_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = |out: &str, column: &str| {
        root.join(out).join("fashion-mnist-mini").join(format!("resnet8-{column}-seed0"))
    };
    let hash = |out: &str, column: &str| {
        let recipe = fs::read_to_string(run(out, column).join("recipe.toml")).unwrap();
        let line = recipe.lines().find(|line| line.starts_with("init_sha256 = "));
        line.map(str::to_owned)
    };
    fs::create_dir(root.join("recipes")).unwrap();
    fs::write(root.join("recipes/table3-quick.toml"), TABLE).unwrap();
    let output = reproduce(root, "one", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!((hash("one", "baseline"), hash("one", "abn")), (None, None));

    // Under the name that torchvision gives its files.
    fs::create_dir(root.join("weights")).unwrap();
    let output = reproduce(root, "two", &["--init", "weights"]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("no weights of resnet8 in weights"), "{}", said(&output));
    let weights = run("one", "baseline").join("last/model.safetensors");
    fs::copy(weights, root.join("weights/resnet8-0123abcd.safetensors")).unwrap();
    let output = reproduce(root, "two", &["--init", "weights"]);
    assert!(output.status.success(), "{}", said(&output));
    let starts = said(&output).matches("starting from weights/resnet8-0123abcd").count();
    assert_eq!(starts, 2, "{}", said(&output));
    // The ABN's attention trunk starts from the last stage, too.
    assert!(said(&output).contains("copied into the attention trunk"), "{}", said(&output));
    assert!(hash("two", "baseline").is_some() && hash("two", "baseline") == hash("two", "abn"));

    // The same command finds every run finished; without the weights they would be others.
    let output = reproduce(root, "two", &["--init", "weights"]);
    assert!(
        output.status.success() && !said(&output).contains("starting from"),
        "{}",
        said(&output)
    );
    let output = reproduce(root, "two", &[]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("init_sha256"), "{}", said(&output));
}
