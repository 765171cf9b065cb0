//! `abn explain` as one uses it, and as one should not.

mod common;

use std::fs;

use common::{Lab, Outcome, write_picture};
use serde_json::Value;

/// A lab with a run `abn` and pictures: `small.png`, `large.png`, and `set/coat/1.png`,
/// `set/sandal/1.png`, whose folders are named like classes, beside `set/other/1.png`.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.run(&lab.training("abn", &["--epochs", "1"])).succeeds();
    write_picture(&lab.path("small.png"), 3);
    let large = image::open(lab.path("small.png")).unwrap();
    let large = large.resize_exact(300, 400, image::imageops::FilterType::Triangle);
    large.save(lab.path("large.png")).unwrap();
    for (index, folder) in ["coat", "sandal", "other"].iter().enumerate() {
        let folder = lab.path("set").join(folder);
        fs::create_dir_all(&folder).unwrap();
        write_picture(&folder.join("1.png"), index);
    }
    lab
}

fn explain<'a>(lab: &'a Lab, run: &str, more: &[&str]) -> Outcome<'a> {
    lab.run(&[&["explain", "--checkpoint", run], more].concat())
}

fn json(outcome: Outcome<'_>) -> Value {
    serde_json::from_str(&outcome.succeeds().stdout()).expect("one JSON document and nothing else")
}

/// The shape and values of a `.npy` file, byte by byte as numpy.lib.format says.
fn npy(bytes: &[u8]) -> (String, Vec<f32>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.ends_with('\n') && (10 + length).is_multiple_of(16), "{header:?}");
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"));
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let values = bytes[10 + length..].as_chunks::<4>().0.iter();
    (shape.trim_end_matches(',').to_owned(), values.map(|b| f32::from_le_bytes(*b)).collect())
}

#[test]
fn every_method_of_an_abn_is_drawn_and_told() {
    let lab = lab();
    let images = ["--image", "small.png", "large.png", "--out", "maps"];
    let said = explain(&lab, "abn", &images).succeeds().says("small.png → maps/small-panel.png");
    assert_eq!(said.stdout().lines().filter(|line| line.contains(" %  ")).count(), 2 * 5);
    let size = |name: &str| image::image_dimensions(lab.path("maps").join(name)).unwrap();
    for method in ["attention", "grad-cam", "cam", "guided-backprop"] {
        assert_eq!(size(&format!("small-{method}.png")), (280, 280));
        assert_eq!(size(&format!("large-{method}.png")), (300, 400), "a photograph keeps its size");
    }
    assert_eq!(lab.files("maps").len(), 2 * 5 + 1, "four methods and a panel each, and a sheet");
    let (panel, sheet) = (size("small-panel.png"), size("sheet.png"));
    assert!(panel.0 > 5 * 280 && sheet.1 > panel.1 + 400, "{panel:?} {sheet:?}");
    assert_eq!(panel.1, 20 + 280 + 4 + 2 * 20, "names, pictures, the answer, and the file's name");

    let flags = ["--methods", "all", "--json", "--save-maps"];
    let told = json(explain(&lab, "abn", &[&images[..], &flags].concat()));
    assert_eq!(told["methods"].as_array().unwrap().len(), 7);
    let image = &told["images"][0];
    assert_eq!((&image["true_class"], &image["right"]), (&Value::Null, &Value::Null));
    assert_eq!(image["explained_class"]["name"], image["top"][0]["name"]);
    let probabilities: Vec<_> = image["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["probability"].as_f64().unwrap())
        .collect();
    assert!(probabilities.len() == 5 && probabilities.is_sorted_by(|a, b| a >= b));
    for view in image["views"].as_array().unwrap() {
        let file = fs::read(lab.path(view["map"].as_str().unwrap())).unwrap();
        let (shape, values) = npy(&file);
        let [width, height] = ["width", "height"].map(|key| view[key].as_u64().unwrap());
        assert_eq!(shape, format!("{height},{width}"), "{view}");
        assert_eq!(values.len() as u64, width * height);
        let highest = values.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(view["highest"].as_f64().unwrap() as f32, highest, "{view}");
        let expected = match view["method"].as_str().unwrap() {
            "attention" => 16,
            method if method.starts_with("guided") => 32,
            _ => 8,
        };
        assert_eq!(width, expected, "{view}");
    }
    // Another class and layer give other maps; the answer stays.
    let other = ["--methods", "grad-cam", "--class", "bag", "--layer", "layer2", "--out", "other"];
    let other =
        json(explain(&lab, "abn", &[&other[..], &["--json", "--image", "small.png"]].concat()));
    let image = &other["images"][0];
    assert_eq!(
        (&image["explained_class"]["class"], &image["views"][0]["width"]),
        (&8.into(), &16.into())
    );
    assert_eq!(image["top"], told["images"][0]["top"]);
}

#[test]
fn other_networks_are_explained_too() {
    let lab = lab();
    let image = ["--image", "small.png", "--json"];
    for (variant, methods) in [
        ("baseline", &["grad-cam", "cam", "guided-backprop"][..]),
        ("cam", &["grad-cam", "cam", "guided-backprop"]),
        ("control", &["grad-cam", "cam", "guided-backprop"]),
    ] {
        lab.run(&lab.training(variant, &["--epochs", "1", "--variant", variant])).succeeds();
        let told = json(explain(&lab, variant, &[&image[..], &["--out", "maps"]].concat()));
        assert_eq!(told["methods"], serde_json::json!(methods), "{variant}");
    }
    let asked = [&image[..], &["--methods", "attention"]].concat();
    explain(&lab, "baseline", &asked).fails_naming(&["baseline", "--variant abn"]);
    let branch = [&image[..], &["--branch", "attention"]].concat();
    explain(&lab, "baseline", &branch).fails_naming(&["--branch attention", "--variant abn"]);
    let told = json(explain(&lab, "abn", &[&branch[..], &["--out", "maps"]].concat()));
    assert_eq!(told["methods"], serde_json::json!(["attention", "grad-cam", "guided-backprop"]));
    explain(&lab, "baseline", &[&image[..], &["--attention", "small.png"]].concat())
        .fails_naming(&["baseline", "--variant abn"]);
    // A hidden fully connected layer: there is no CAM.
    let vgg = ["--epochs", "1", "--variant", "baseline", "--model", "cifar-vgg11-bn-w16"];
    let mut training = lab.training("vgg", &vgg);
    let at = training.iter().position(|argument| *argument == "resnet8").unwrap();
    training.drain(at - 1..=at);
    lab.run(&training).succeeds();
    let told =
        json(explain(&lab, "vgg", &[&image[..], &["--methods", "all", "--out", "maps"]].concat()));
    let methods = told["methods"].as_array().unwrap();
    assert!(!methods.contains(&"cam".into()) && methods.contains(&"layer-cam".into()), "{told}");
    explain(&lab, "vgg", &[&image[..], &["--methods", "cam"]].concat())
        .fails_naming(&["cam: ", "one linear layer"]);
}

#[test]
fn a_folders_class_folders_give_the_true_classes() {
    let lab = lab();
    let flags = ["--image", "set", "--class", "true", "--methods", "grad-cam", "--out", "maps"];
    let told = json(explain(&lab, "abn", &[&flags[..], &["--json"]].concat()));
    let images = told["images"].as_array().unwrap();
    let names: Vec<_> = images.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["set/coat/1.png", "set/sandal/1.png"], "other is no class");
    for (image, class) in images.iter().zip(["coat", "sandal"]) {
        assert_eq!(
            (&image["true_class"]["name"], &image["explained_class"]["name"]),
            (&class.into(), &class.into())
        );
        assert_eq!(image["right"], image["top"][0]["name"] == *class);
        assert!(lab.path(&format!("maps/{class}/1-grad-cam.png")).is_file());
    }
    assert!(lab.path("maps/sheet.png").is_file());
    // A file in a class's folder, and a class's folder itself, have that class too.
    for asked in ["set/coat/1.png", "set/coat"] {
        let flags = ["--image", asked, "--json", "--out", "one"];
        let told = json(explain(&lab, "abn", &flags));
        assert_eq!(told["images"][0]["true_class"]["class"], 4, "{asked}");
    }
    explain(&lab, "abn", &["--image", "small.png", "set/coat", "--class", "true"])
        .fails_naming(&["small.png", "true class"]);
}

#[test]
fn a_map_of_the_users_own_changes_the_answer_and_the_networks_own_does_not() {
    let lab = lab();
    let flags = [
        "--image",
        "small.png",
        "--methods",
        "attention",
        "--save-maps",
        "--json",
        "--out",
        "maps",
    ];
    let told = json(explain(&lab, "abn", &flags));
    assert_eq!(told["images"][0]["with_attention"], Value::Null);
    // The network's own map, from its file: the same answer, to the last bit.
    let with = |file: &str| {
        let told = json(explain(&lab, "abn", &[&flags[..], &["--attention", file]].concat()));
        assert_eq!(told["attention"], *file);
        told["images"][0].clone()
    };
    let image = with("maps/small-attention.npy");
    assert_eq!(image["with_attention"]["top"], image["top"]);
    assert_eq!(image["top"], told["images"][0]["top"]);
    // A mask of another size, and its opposite.
    let mask = |name: &str, left: u8, right: u8| {
        let half = |x: u32, _| image::Luma([if x < 50 { left } else { right }]);
        image::GrayImage::from_fn(100, 60, half).save(lab.path(name)).unwrap();
        with(name)["with_attention"]["top"].clone()
    };
    let (left, right) = (mask("left.png", 255, 0), mask("right.png", 0, 255));
    assert!(left != image["top"] && left != right, "{left} {right}");
    explain(&lab, "abn", &["--image", "small.png", "--attention", "left.png", "--out", "maps"])
        .succeeds()
        .says("with its own map")
        .says("with the map given");
}

#[test]
fn threads_and_company_change_nothing() {
    let lab = lab();
    let flags = ["--methods", "all", "--save-maps", "--image"];
    for (out, images, threads) in [
        ("one", &["small.png", "large.png"][..], "1"),
        ("two", &["small.png", "large.png"], "2"),
        ("large", &["large.png"], "2"),
    ] {
        let more = [&flags[..], images, &["--threads", threads, "--out", out]].concat();
        explain(&lab, "abn", &more).succeeds();
    }
    let relative = |out: &str| -> std::collections::BTreeMap<_, _> {
        let root = lab.path(out);
        let files = lab.files(out).into_iter();
        files.map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes)).collect()
    };
    let (one, two, large) = (relative("one"), relative("two"), relative("large"));
    assert!(one == two, "threads change files");
    for (name, bytes) in &large {
        assert!(*bytes == one[name], "{} depends on the batch", name.display());
    }
}

#[test]
fn what_cannot_be_is_said_and_nothing_written() {
    let lab = lab();
    let bytes = fs::read(lab.path("small.png")).unwrap();
    fs::write(lab.path("torn.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(lab.path("note.png"), "not an image").unwrap();
    fs::create_dir_all(lab.path("empty/nothing")).unwrap();
    fs::create_dir(lab.path("again")).unwrap();
    fs::copy(lab.path("small.png"), lab.path("again/small.png")).unwrap();
    fs::copy(lab.path("small.png"), lab.path("small-cam.png")).unwrap();
    image::RgbImage::from_pixel(9, 9, image::Rgb([200, 0, 0])).save(lab.path("red.png")).unwrap();
    fs::write(lab.path("short.npy"), b"\x93NUMPY\x01\x00").unwrap();
    let saved = ["--image", "small.png", "--methods", "cam", "--save-maps", "--out", "saved"];
    explain(&lab, "abn", &saved).succeeds();
    let before = lab.files("");
    for (more, parts) in [
        (&["--image", "small.png", "torn.png"][..], &["torn.png"][..]),
        (&["--image", "small.png", "note.png"], &["note.png: ", "expected a whole PNG or JPEG"]),
        (&["--image", "small.png", "gone.png"], &["nothing was written: gone.png: "]),
        (&["--image", "empty"], &["no images in empty", "*.png"]),
        (&["--image", "small.png", "again/small.png"], &["small.png", "again/small.png"]),
        (
            &["--image", "small.png", "small-cam.png", "--out", "."],
            &["small-cam.png", "written over"],
        ),
        (&["--image", "small.png", "--out", "note.png"], &["note.png", "no folder"]),
        (&["--image", "small.png", "--out", "note.png/x"], &["cannot create note.png/x"]),
        (&["--image", "small.png", "--methods", "grad-cam,gradcam"], &["`gradcam`", "layer-cam"]),
        (&["--image", "small.png", "--class", "cat"], &["\"cat\"", "10 classes", "ankle boot"]),
        (&["--image", "small.png", "--class", "10"], &["\"10\"", "0 to 9"]),
        (&["--image", "small.png", "--layer", "layer9"], &["layer9", "layer2", "extractor"]),
        (
            &["--image", "small.png", "--layer", "layer2", "--methods", "attention"],
            &["layer2", "grad-cam does"],
        ),
        (
            &["--image", "small.png", "--methods", "cam", "--branch", "attention"],
            &["cam explains the perception branch"],
        ),
        (
            &["--image", "small.png", "--branch", "attention", "--layer", "last"],
            &["grad-cam: ", "does not depend on layer `last`"],
        ),
        (&["--image", "small.png", "--attention", "torn.png"], &["torn.png"]),
        (&["--image", "small.png", "--attention", "gone.png"], &["gone.png"]),
        (&["--image", "small.png", "--attention", "red.png"], &["red.png", "grey"]),
        (&["--image", "small.png", "--attention", "short.npy"], &["short.npy"]),
        (&["--image", "small.png", "--attention", "gone.npy"], &["gone.npy"]),
        (
            &["--image", "small.png", "--attention", "saved/small-cam.npy"],
            &["saved/small-cam.npy", "8 rows", "16 by 16"],
        ),
    ] {
        let out = ["--out", "maps"];
        let out = if more.contains(&"--out") { &[][..] } else { &out };
        explain(&lab, "abn", &[more, out].concat()).fails_naming(parts);
        assert!(lab.files("") == before, "{more:?} has changed files");
        assert!(!lab.path("maps").exists(), "{more:?}");
    }
    let output = explain(&lab, "abn", &["--image", "small.png", "--colormap", "rainbow"]).output;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("jet, viridis"), "{said}");
}

#[test]
fn methods_are_measured_beside_random_maps() {
    let lab = lab();
    let images = ["--image", "set", "small.png", "--out", "maps"];
    let named = ["--methods", "attention,guided-backprop", "--evaluate"];
    let more = [&images[..], &named[..]].concat();
    let said = json(explain(&lab, "abn", &[&more[..], &["--json"]].concat()));
    let faithfulness = &said["faithfulness"];
    assert_eq!(faithfulness["images"], said["images"].as_array().unwrap().len());
    let methods = faithfulness["methods"].as_array().unwrap();
    let names: Vec<_> = methods.iter().map(|of| of["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["attention", "guided-backprop", "random 16×16", "random 32×32"]);
    for (of, random) in methods.iter().zip([false, false, true, true]) {
        for measure in ["insertion", "deletion", "road"] {
            let number = |key: &str| of[measure][key].as_f64();
            let range = if measure == "road" { -0.5..=0.5 } else { 0.0..=1.0 };
            assert!(range.contains(&number("mean").unwrap()), "{of}");
            assert!(number("half_width").unwrap() >= 0.0, "{of}");
            assert_eq!(number("over_random").is_none(), random, "{of}");
        }
    }
    // What a method is over random follows from both means.
    let mean = |i: usize| methods[i]["deletion"]["mean"].as_f64().unwrap();
    let over = methods[0]["deletion"]["over_random"].as_f64().unwrap();
    assert!((mean(0) - mean(2) - over).abs() < 1e-9, "{faithfulness}");
    explain(&lab, "abn", &more).succeeds().says("Faithfulness over 3 images");
    let plain = json(explain(&lab, "abn", &["--image", "small.png", "--out", "maps", "--json"]));
    assert!(plain["faithfulness"].is_null());
}

#[test]
fn the_pointing_game_is_played_with_boxes() {
    let lab = lab();
    let flags =
        ["--image", "set", "large.png", "--methods", "guided-backprop", "--out", "maps", "--json"];
    let told = json(explain(&lab, "abn", &[&flags[..], &["--class", "coat"]].concat()));
    // A box around each peak, and one as far from it as can be.
    let images = told["images"].as_array().unwrap();
    let boxes = |near: bool| {
        let mut file = "image,left,top,right,bottom\n".to_owned();
        for image in images {
            let name = image["image"].as_str().unwrap();
            let (width, height) = image::image_dimensions(lab.path(name)).unwrap();
            let place = |axis: usize, size: u32| {
                let peak = image["views"][0]["peak"][axis].as_f64().unwrap() / f64::from(size);
                let cut = |at: f64| (at.clamp(0.0, 1.0) * f64::from(size)) as u32;
                match (near, peak > 0.5) {
                    (true, _) => (cut(peak - 0.15), cut(peak + 0.15)),
                    (false, true) => (0, cut(peak - 0.15)),
                    (false, false) => (cut(peak + 0.15), size),
                }
            };
            let ((left, right), (top, bottom)) = (place(0, width), place(1, height));
            // From the file's folder.
            file += &format!("../{name},{left},{top},{right},{bottom}\n");
        }
        fs::create_dir_all(lab.path("truth")).unwrap();
        fs::write(lab.path("truth/boxes.csv"), file).unwrap();
        let more = ["--class", "coat", "--evaluate", "--boxes", "truth/boxes.csv"];
        json(explain(&lab, "abn", &[&flags[..], &more].concat()))["faithfulness"].clone()
    };
    let (near, far) = (boxes(true), boxes(false));
    let game = |told: &Value| told["methods"][0]["pointing"].clone();
    // The sandal is of another class than the one explained; what `large.png` shows is not known.
    assert_eq!((&game(&near)["images"], &game(&near)["hits"]), (&2.into(), &1.0.into()), "{near}");
    assert_eq!((&game(&far)["images"], &game(&far)["hits"]), (&2.into(), &0.0.into()), "{far}");
    assert_eq!(game(&far)["marks"], "nothing", "two images tell nothing");
    let random = near["methods"].as_array().unwrap().last().unwrap();
    assert!(random["pointing"]["marks"].is_null() && random["pointing"]["images"] == 2);
    let more = ["--evaluate", "--boxes", "truth/boxes.csv", "--image", "large.png"];
    let alone = [&more[..], &["--out", "maps"]].concat();
    let said = explain(&lab, "abn", &alone).succeeds();
    let said = said.says("Faithfulness over 1 image:").says("peak in the box");
    said.says("One image has no interval");
    let told = json(explain(&lab, "abn", &[&alone[..], &["--json"]].concat()));
    let deletion = &told["faithfulness"]["methods"][0]["deletion"];
    assert!(deletion["mean"].is_number() && deletion["over_random"].is_number(), "{deletion}");
    assert!(deletion["half_width"].is_null() && deletion["over_random_half_width"].is_null());

    for (text, parts) in [
        ("image,x,y,w,h\n", &["boxes.csv", "image,left,top,right,bottom"][..]),
        ("large.png,1,2,3\n", &["line 2", "large.png,1,2,3"]),
        ("large.png,5,2,5,9\n", &["line 2", "left below right"]),
        ("large.png,1,2,-3,4\n", &["line 2", "right is \"-3\""]),
        ("gone.png,1,2,3,4\n", &["line 2", "gone.png"]),
        ("small.png,1,2,3,4\n", &["boxes.csv", "none of the images"]),
        ("large.png,1,2,301,4\n", &["1,2,301,4", "large.png", "300×400"]),
    ] {
        let head = if text.contains("x,y") { "" } else { "image,left,top,right,bottom\n" };
        fs::write(lab.path("boxes.csv"), format!("{head}{text}")).unwrap();
        let more = ["--image", "large.png", "--evaluate", "--boxes", "boxes.csv", "--out", "none"];
        explain(&lab, "abn", &more).fails_naming(parts);
        assert!(!lab.path("none").exists(), "{text:?}");
    }
}
