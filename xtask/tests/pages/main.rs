//! The pages as a browser shows them: `cargo test -p xtask --test pages -- --ignored`.
//!
//! Needs Chromium as the command `chromium`.

mod chromium;

use std::fs;
use std::path::Path;
use std::process::Command;

use chromium::{Chromium, Opened};

/// A table of two networks, trained for moments.
const TABLE: &str = r#"
title = "Table"
notice = "Trained for moments."

[recipe]
epochs = 1
images_per_class = 6
batch_size = 20
lr = 0.05
milestones = []

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
title = "Fashion-MNIST with a long title, to see it wrap"
note = "60 images"
classes = 10
images = 60

[[row]]
name = "ResNet"
recipe = { model = "resnet8" }
"#;

const FIGURES: &str = r#"
title = "Figures"
table = "table2"
columns = ["baseline", "abn"]
pictured = 3
measured = 4
laid_out = 40
laid_out_rows = ["ResNet"]

[planted_recipe]
model = "resnet8"
images_per_class = 8
epochs = 1
batch_size = 20
lr = 0.05
milestones = []

[[planted]]
name = "ABN"
recipe = { variant = "abn" }
"#;

/// Drawn faces, eight attributes each.
const FACES: &str = r#"
title = "Faces"
measure = "accuracy"

[recipe]
model = "resnet8"
mechanism = "multiply"
image_size = 16
epochs = 1
milestones = []

[[column]]
name = "baseline"
title = "baseline"
recipe = { variant = "baseline" }

[[column]]
name = "abn"
title = "ABN"
recipe = { variant = "abn" }

[[dataset]]
name = "celeba"
title = "Synthetic faces"
note = "drawings"
classes = 2
tasks = 8
images = 2700
synthetic = "faces"

[[row]]
name = "ResNet"
"#;

/// Pictures that were decoded, plots, and how far the page is wider than its window.
const SCRIPT: &str = "[
    [...document.images].filter(i => i.naturalWidth > 0).length,
    [...document.images].length,
    document.querySelectorAll('svg').length,
    document.documentElement.scrollWidth - document.documentElement.clientWidth,
]";

/// What a page must have.
struct Expected {
    images: u64,
    plots: u64,
}

#[test]
#[ignore = "needs Chromium"]
fn pages_are_whole_without_network_on_wide_and_narrow_screens() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::write(place("table2.toml"), TABLE).unwrap();
    fs::write(place("figures.toml"), FIGURES).unwrap();
    fs::write(place("table4.toml"), FACES).unwrap();
    let path = |name: &str| place(name).to_str().unwrap().to_owned();
    let (recipes, runs, out) = (path(""), path("runs"), path("out"));
    xtask(&["reproduce-table2", "--recipes", &recipes, "--out", &runs]);
    xtask(&["reproduce-figures", "--recipes", &recipes, "--runs", &runs, "--out", &out]);

    xtask(&["reproduce-table4", "--recipes", &recipes, "--out", &path("faces")]);

    let run = place("runs/fashion-mnist-mini/resnet8-abn-seed0/report.html");
    let of_tasks = place("faces/celeba/resnet8-abn-seed0/report.html");
    let images = |page: &Path| fs::read_to_string(page).unwrap().matches("<img").count() as u64;
    let (run_images, task_images) = (images(&run), images(&of_tasks));
    assert!(run_images >= 10 && task_images >= 8, "a gallery of right and wrong answers");
    let pages = [
        // A test image of each class; loss and error.
        (place("runs/table2.html"), Expected { images: 10, plots: 2 }),
        // Three curves.
        (run, Expected { images: run_images, plots: 3 }),
        // The eight maps of one face; loss and error.
        (place("faces/table4.html"), Expected { images: 8, plots: 2 }),
        (of_tasks, Expected { images: task_images, plots: 3 }),
        // Three panels; insertion, deletion, and the features of two networks.
        (place("out/figures.html"), Expected { images: 3, plots: 4 }),
    ];
    for (page, part) in [
        ("runs/table2.html", "<details><summary>ResNet, fashion-mnist-mini"),
        ("out/figures.html", "<span>image</span><span>ABN attention</span><span>Grad-CAM</span>"),
    ] {
        assert!(fs::read_to_string(place(page)).unwrap().contains(part), "{part} in {page}");
    }
    let mut browser = Chromium::start(&place("profile"));
    for (page, expected) in &pages {
        for width in [1280, 400] {
            check(page, width, &browser.open(page, width, SCRIPT), expected);
        }
    }
    // What the checks would miss, they would miss everywhere.
    let bad = place("bad.html");
    fs::write(&bad, BAD).unwrap();
    let Opened { errors, requests, found, screenshot } = browser.open(&bad, 400, SCRIPT);
    assert!(!errors.is_empty());
    assert!(requests.iter().any(|url| url.starts_with("http:")), "{requests:?}");
    assert_eq!((&found[0], &found[1]), (&0.into(), &2.into()), "{found}");
    assert!(found[3].as_i64().unwrap() > 0, "{found}");
    assert!(colours(&screenshot) < 2);
}

/// Wrong in every way that is checked: an error, a request, pictures that are none, too wide, blank.
const BAD: &str = r#"<!doctype html><body style="margin:0"><script>console.error("no")</script>
    <img src="http://127.0.0.1:9/none.png" style="visibility:hidden"><img src="data:image/png;base64,AAAA" style="visibility:hidden">
    <div style="width:900px;height:10px"></div>"#;

fn check(page: &Path, width: u32, opened: &Opened, expected: &Expected) {
    let name = format!("{} at {width}", page.display());
    let Opened { errors, requests, found, screenshot } = opened;
    assert!(errors.is_empty(), "{name}: {errors:?}");
    let own = format!("file://{}", page.display());
    let foreign: Vec<_> =
        requests.iter().filter(|url| **url != own && !url.starts_with("data:")).collect();
    assert!(requests.contains(&own) && foreign.is_empty(), "{name}: {foreign:?}");
    let numbers: Vec<_> = (0..4).map(|i| found[i].as_u64().unwrap_or(u64::MAX)).collect();
    let Expected { images, plots } = expected;
    assert_eq!(numbers, [*images, *images, *plots, 0], "{name}: decoded, images, plots, overflow");
    assert_eq!(screenshot.width(), width, "{name}");
    assert!(colours(screenshot) > 50, "{name}: {} colours", colours(screenshot));
}

/// Number of colours in a picture, at most 100: a blank one has one.
fn colours(picture: &image::RgbImage) -> usize {
    let mut found = std::collections::BTreeSet::new();
    for pixel in picture.pixels() {
        found.insert(pixel.0);
        if found.len() == 100 {
            break;
        }
    }
    found.len()
}

fn xtask(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "xtask {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
