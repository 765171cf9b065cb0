//! The bar of Table 4's quick profile, on networks that are trained for it: ABN knows the attributes of drawn faces, and
//! its maps point to where they are drawn.

use std::process::Command;

use serde_json::Value;

#[test]
fn abn_knows_the_drawn_attributes_and_points_at_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // The quick table without the authors' later form, which has no bar and would take as long again.
    let recipe = include_str!("../../recipes/table4-quick.toml");
    let mut recipe: toml::Table = recipe.parse().unwrap();
    let columns = recipe["column"].as_array_mut().unwrap();
    columns.retain(|column| column["name"].as_str() != Some("v1"));
    assert_eq!(columns.len(), 2);
    std::fs::write(folder.path().join("table4-quick.toml"), recipe.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["reproduce-table4", "--quick", "--recipes"]).arg(folder.path());
    command.arg("--out").arg(&out);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{errors}", output.status);

    let json = std::fs::read_to_string(out.join("table4.json")).unwrap();
    let table: Value = serde_json::from_str(&json).unwrap();
    let attributes = &table["attributes"][0];
    let networks = attributes["networks"].as_array().unwrap();
    let network = |name: &str| networks.iter().find(|network| network["variant"] == name).unwrap();
    let abn = network("abn");
    let scores = abn["scores"].as_array().unwrap();
    let mean = scores.iter().map(|score| score["accuracy"].as_f64().unwrap()).sum::<f64>();
    let mean = mean / scores.len() as f64;
    assert!(scores.len() == 8 && mean > 95.0, "{mean} % of {} attributes", scores.len());
    let pointing = abn["pointing"].as_array().unwrap();
    let sum = |key: &str| pointing.iter().map(|of| of[key].as_f64().unwrap()).sum::<f64>();
    let times = sum("hits") / sum("chance");
    println!("{mean:.2} %; peaks in the boxes {times:.1} times as often as a random point");
    assert!(pointing.len() == 8 && sum("images") > 1000.0 && times >= 3.0, "{pointing:?}");
    // The baseline has no maps, and the odds are against it.
    assert!(network("baseline")["pointing"].is_null());
    let odds = &abn["odds"];
    let tasks: u64 =
        ["first", "ties", "second"].map(|key| odds[key].as_u64().unwrap()).iter().sum();
    assert_eq!(tasks, 8, "{odds}");
    for part in ["Odds of ABN against baseline: better on", "Maps of ABN: the peak is in"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
