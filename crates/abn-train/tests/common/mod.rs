//! A place where a test runs the `abn` command on a dataset of its own.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod runs;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Training images of the tests' dataset.
pub const TRAIN: usize = 48;
/// Test images of the tests' dataset.
pub const TEST: usize = 20;

/// A temporary folder with a small dataset in Fashion-MNIST's format under `data/`.
pub struct Lab {
    root: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self { root: tempfile::tempdir().unwrap() };
        let data = lab.path("data");
        fs::create_dir(&data).unwrap();
        for (name, count) in [("train", TRAIN), ("t10k", TEST)] {
            fs::write(data.join(format!("{name}-images-idx3-ubyte")), idx_images(count)).unwrap();
            fs::write(data.join(format!("{name}-labels-idx1-ubyte")), idx_labels(count)).unwrap();
        }
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `abn` with these arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_abn"));
        command.args(arguments).current_dir(self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Arguments of a short run in the folder `out`.
    pub fn training<'a>(&self, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["train", "--dataset", "fashion-mnist", "--data-dir", "data"];
        arguments.extend(["--model", "resnet8", "--milestones", "2"]);
        // Given twice, a flag is refused: these have to be the caller's to give.
        for (flag, value) in [("--epochs", "3"), ("--lr", "0.05"), ("--batch-size", "10")] {
            if !more.contains(&flag) {
                arguments.extend([flag, value]);
            }
        }
        arguments.extend(["--out", out]);
        arguments.extend(more);
        arguments
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome<'_> {
        let output = self.command(arguments).output().unwrap();
        Outcome { lab: self, arguments: arguments.join(" "), output }
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Every file under a folder with its bytes; lock files are empty and left out.
    pub fn files(&self, under: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(under), &mut files);
        files
    }

    /// What equal runs have in common: every file, without the times in metrics, summary and
    /// report, without the comments of the recipe, and of TensorBoard's file, in which every other
    /// number is a time, the length only.
    pub fn result(&self, run: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(run);
        let entries = self.files(run).into_iter().map(|(path, bytes)| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let text = || String::from_utf8(bytes.clone()).unwrap();
            let bytes = match name.as_str() {
                "metrics.jsonl" => text().lines().map(timeless).collect::<String>().into_bytes(),
                "summary.json" => timeless(&text()).into_bytes(),
                "metrics.csv" => text().lines().map(without_last_two).collect::<String>().into(),
                "report.html" => text()
                    .lines()
                    .filter(|l| !l.starts_with("<p>Time: "))
                    .collect::<String>()
                    .into(),
                "events.out.tfevents.0.abn" => bytes.len().to_string().into_bytes(),
                "recipe.toml" => {
                    text().lines().filter(|l| !l.starts_with('#')).collect::<String>().into_bytes()
                }
                _ => bytes,
            };
            (name, bytes)
        });
        entries.collect()
    }

    /// Fails with the names of the files in which two runs differ.
    pub fn assert_same_result(&self, a: &str, b: &str) {
        let (left, right) = (self.result(a), self.result(b));
        assert_eq!(
            left.keys().collect::<Vec<_>>(),
            right.keys().collect::<Vec<_>>(),
            "{a} and {b} hold other files"
        );
        for (name, bytes) in &left {
            assert!(*bytes == right[name], "{name} differs between {a} and {b}");
        }
    }
}

/// A line of JSON without its times.
fn timeless(line: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).unwrap();
    for time in ["seconds", "images_per_second"] {
        object.remove(time).unwrap_or_else(|| panic!("no {time} in {line}"));
    }
    serde_json::to_string(&object).unwrap() + "\n"
}

/// A line of `metrics.csv` without its times.
fn without_last_two(line: &str) -> String {
    let fields: Vec<_> = line.split(',').collect();
    fields[..fields.len() - 2].join(",") + "\n"
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else if entry.file_name() != ".lock" {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
}

/// How a command ended. Its checks print the command, all files and what it said.
pub struct Outcome<'a> {
    lab: &'a Lab,
    arguments: String,
    pub output: Output,
}

impl Outcome<'_> {
    pub fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    fn story(&self) -> String {
        let mut story = format!("\n$ abn {}\n{}\n", self.arguments, self.output.status);
        write!(story, "--- stdout\n{}--- stderr\n{}--- files\n", self.stdout(), self.stderr())
            .unwrap();
        for (path, bytes) in self.lab.files("") {
            writeln!(story, "{:9} {}", bytes.len(), path.display()).unwrap();
        }
        story
    }

    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.output.status.success(), "{}", self.story());
        self
    }

    /// Fails with exit code 1 and one message of one line, in which all of this stands.
    #[track_caller]
    pub fn fails_naming(self, parts: &[&str]) -> Self {
        assert_eq!(self.output.status.code(), Some(1), "{}", self.story());
        let said = self.stderr();
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "expected one message{}", self.story());
        assert_eq!(said.lines().last(), errors.last().copied(), "{}", self.story());
        for part in parts {
            assert!(errors[0].contains(part), "expected {part:?} in the message{}", self.story());
        }
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stdout().contains(part), "expected {part:?}{}", self.story());
        self
    }
}

/// Images whose bright rows tell their class, as an idx file.
pub fn idx_images(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for size in [count, 28, 28] {
        bytes.extend((size as u32).to_be_bytes());
    }
    for index in 0..count {
        bytes.extend(pixels(index));
    }
    bytes
}

/// The labels that belong to [`idx_images`].
pub fn idx_labels(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1];
    bytes.extend((count as u32).to_be_bytes());
    bytes.extend((0..count).map(|index| (index % 10) as u8));
    bytes
}

fn pixels(index: usize) -> impl Iterator<Item = u8> {
    (0..28 * 28).map(move |pixel| {
        let (row, column) = (pixel / 28, pixel % 28);
        let bright = row / 3 == index % 10;
        let noise = (index * 31 + row * 17 + column * 7) % 50;
        (if bright { 200 } else { 0 }) + noise as u8
    })
}

/// Writes one of the dataset's images, as a grey picture.
pub fn write_picture(path: &Path, index: usize) {
    image::GrayImage::from_raw(28, 28, pixels(index).collect()).unwrap().save(path).unwrap();
}
