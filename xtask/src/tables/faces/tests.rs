use super::*;

fn score(name: &str, accuracy: f64) -> TaskScore {
    TaskScore {
        name: name.into(),
        positives: 5,
        accuracy: Some(accuracy),
        balanced_accuracy: None,
        precision: None,
        recall: None,
        f1: None,
    }
}

fn attributes() -> Attributes {
    let network = |variant: &str, accuracies: [f64; 2], pointing| Network {
        variant: variant.into(),
        title: variant.to_uppercase(),
        scores: vec![score("Hat", accuracies[0]), score("Smile", accuracies[1])],
        odds: None,
        pointing,
    };
    let pointing = vec![
        Pointing { images: 10, hits: 8, chance: 1.0 },
        Pointing { images: 20, hits: 10, chance: 2.5 },
    ];
    let mut attributes = Attributes {
        family: "ResNet".into(),
        dataset: "Faces".into(),
        names: Vec::new(),
        networks: vec![
            network("baseline", [90.0, 97.0], None),
            network("abn", [96.0, 96.0], Some(pointing)),
        ],
        reported: Some(ReportedAttributes {
            source: "a file".into(),
            accuracy: vec![("Smile".into(), 95.5), ("Hat".into(), 97.0)],
            odds: 2,
            odds_source: "a paper".into(),
        }),
    };
    attributes.finish().unwrap();
    attributes
}

#[test]
fn each_attribute_stands_beside_what_was_reported_of_it() {
    let attributes = attributes();
    assert_eq!(attributes.head().join(","), "Attribute,BASELINE %,ABN %,Reported,ABN − rep.");
    let rows: Vec<_> = attributes.rows().iter().map(|row| row.join(",")).collect();
    let expected = [
        "Hat,90.00,96.00,97.00,−1.00",
        "Smile,97.00,96.00,95.50,+0.50",
        "mean,93.50,96.00,96.25,−0.25",
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        attributes.odds(),
        [
            "Odds of ABN against BASELINE: better on 1 of 2 tasks, worse on 1, equal on 0.",
            "Reported: ABN better on 2 of 2 (a paper); the accuracies: a file.",
        ]
    );
    let rows: Vec<_> = attributes.pointing_rows().iter().map(|row| row.join(",")).collect();
    assert_eq!(rows, ["Hat,10.0,80.0,8.0", "Smile,12.5,50.0,4.0", "all,11.7,60.0,5.1"]);
    // Without runs there is still what was reported.
    let mut none = attributes;
    none.networks.iter_mut().for_each(|network| network.scores.clear());
    none.finish().unwrap();
    assert_eq!(none.rows()[0].join(","), "Smile,–,–,95.50,–");
    let text = markdown(&[none]);
    assert!(text.contains("| Smile | – | – | 95.50 | – |"), "{text}");
}

#[test]
fn the_bar_is_held_by_networks_with_maps() {
    let attributes = [attributes()];
    let hold = |accuracy, pointing| Bar { accuracy, pointing }.hold(&attributes);
    // The second attribute is found 4 times as often.
    assert!(hold(95.0, 3.0).is_ok() && hold(95.9, 4.0).is_ok());
    let said = hold(96.0, 3.0).unwrap_err().to_string();
    assert!(said.contains("ResNet, ABN: mean accuracy 96.00 %, expected above 96 %"), "{said}");
    let said = hold(95.0, 4.1).unwrap_err().to_string();
    assert!(said.contains("in the boxes of Smile 4.0 times"), "{said}");
    assert!(!said.contains("of Hat") && !said.contains("accuracy"), "{said}");
    // An attribute that no image has is not found.
    let mut absent = attributes;
    absent[0].networks[1].pointing = Some(vec![Pointing::default(); 2]);
    let said = Bar { accuracy: 95.0, pointing: 3.0 }.hold(&absent).unwrap_err().to_string();
    assert!(said.contains("in the boxes of Hat 0.0 times"), "{said}");
}

#[test]
fn a_point_in_two_boxes_counts_once() {
    let region = |left, right| Region { left, top: 0, right, bottom: 5 };
    assert_eq!(chance(&[region(0, 4), region(2, 6)], 10, 10), 0.3);
    assert_eq!(chance(&[], 10, 10), 0.0);
}

#[test]
fn seeds_are_averaged() {
    let runs = vec![vec![score("Hat", 90.0)], vec![score("Hat", 91.0)]];
    assert_eq!(over_seeds(runs), [score("Hat", 90.5)]);
    assert!(over_seeds(Vec::new()).is_empty());
}
