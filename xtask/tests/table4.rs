//! The bar of Table 4's quick profile, on networks that are trained for it: ABN knows the attributes of drawn faces, and
//! its maps point to where they are drawn.

use std::process::Command;

use serde_json::Value;

#[test]
fn abn_knows_the_drawn_attributes_and_points_at_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["reproduce-table4", "--quick", "--out"]).arg(&out);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{errors}", output.status);

    let json = std::fs::read_to_string(out.join("table4.json")).unwrap();
    let table: Value = serde_json::from_str(&json).unwrap();
    let attributes = &table["attributes"][0];
    let networks = attributes["networks"].as_array().unwrap();
    let network = |name: &str| networks.iter().find(|network| network["variant"] == name).unwrap();
    for name in ["abn", "v1"] {
        let abn = network(name);
        let scores = abn["scores"].as_array().unwrap();
        let mean = scores.iter().map(|score| score["accuracy"].as_f64().unwrap()).sum::<f64>();
        let mean = mean / scores.len() as f64;
        assert!(scores.len() == 8 && mean > 95.0, "{name}: {mean} % of {}", scores.len());
        let pointing = abn["pointing"].as_array().unwrap();
        assert_eq!(pointing.len(), 8);
        for (score, of) in scores.iter().zip(pointing) {
            let [images, hits, chance] =
                ["images", "hits", "chance"].map(|key| of[key].as_f64().unwrap());
            println!(
                "{name}: {}: peaks in the box {:.1} times as often as a random point",
                score["name"],
                hits / chance
            );
            assert!(images > 100.0 && hits >= 3.0 * chance, "{name}: {score}: {of}");
        }
        // The odds are against the baseline.
        let odds = &abn["odds"];
        let tasks: u64 =
            ["first", "ties", "second"].map(|key| odds[key].as_u64().unwrap()).iter().sum();
        assert_eq!(tasks, 8, "{odds}");
    }
    assert!(network("baseline")["pointing"].is_null(), "it has no maps");
    for part in ["Odds of ABN against baseline: better on", "Maps of ABN: the peak is in"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
