//! `abn explain` of a network for several tasks: where it looked for each, as in the paper's figure of faces: the map,
//! its positive part and its negative part.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use abn_explain::pictures::{Caption, Heatmap, Panel, Shown, Style, View, png, sheet};
use abn_train::{TaskPrediction, TaskRun, explain, part_of};
use anyhow::{Context, Result, bail};
use image::RgbImage;
use serde::Serialize;

use super::images::{self, Picture};
use super::targets::Targets;
use super::{ExplainArgs, readable};
use crate::cli::print;

/// Images that are drawn and held at a time.
const AT_A_TIME: usize = 16;
/// With more tasks than this, an image's panel has two columns.
const ONE_COLUMN: usize = 10;

/// The whole answer.
#[derive(Serialize)]
struct Document {
    checkpoint: PathBuf,
    model: String,
    variant: String,
    epoch: usize,
    images: Vec<ImageReport>,
}

/// What is said of one image.
#[derive(Serialize)]
struct ImageReport {
    image: PathBuf,
    panel: PathBuf,
    tasks: Vec<TaskReport>,
}

/// What is said of one task.
#[derive(Serialize)]
struct TaskReport {
    task: String,
    answer: String,
    probability: f32,
    picture: PathBuf,
    /// The map as numpy's array, if it was asked for.
    map: Option<PathBuf>,
    lowest: f32,
    highest: f32,
    /// Where the map is highest: column and row of the image's pixels.
    peak: [f32; 2],
}

impl ExplainArgs {
    pub(super) fn several_tasks(self, run: &TaskRun) -> Result<()> {
        self.refuse_what_is_for_classes(run)?;
        if run.recipe.variant != abn_backbones::Variant::Abn {
            let (path, variant) = (run.checkpoint.display(), run.recipe.variant);
            bail!("{path} is a {variant} network, which has no maps; train one with --variant abn");
        }
        let tasks = chosen(run, &self.tasks)?;
        let pictures = images::list(&self.image, &[])?;
        let names: Vec<_> = tasks.iter().map(|&t| file_name(&run.card.tasks[t].name)).collect();
        let kinds: &[&str] = if self.save_maps { &["png", "npy"] } else { &["png"] };
        let targets = Targets::new(&self.out, &pictures, &names, kinds)?;
        readable(&pictures, None)?;
        // Everything is known to be possible: from here on, files are written.
        let mut document = Document {
            checkpoint: run.checkpoint.clone(),
            model: run.recipe.model.clone(),
            variant: run.recipe.variant.to_string(),
            epoch: run.state.epoch,
            images: Vec::new(),
        };
        for pictures in pictures.chunks(AT_A_TIME) {
            let images = pictures.iter().map(Picture::read).collect::<Result<Vec<_>>>()?;
            let predictions = run.predict(&images)?;
            for ((picture, image), prediction) in pictures.iter().zip(&images).zip(&predictions) {
                let image = explain::picture(image)?;
                document
                    .images
                    .push(self.write(run, &tasks, picture, &image, prediction, &targets)?);
            }
        }
        print(&if self.json {
            serde_json::to_string_pretty(&document)? + "\n"
        } else {
            document.text()?
        })
    }

    /// What the maps of several tasks are not asked with.
    fn refuse_what_is_for_classes(&self, run: &TaskRun) -> Result<()> {
        let given = [
            ("--methods", !self.methods.is_empty()),
            ("--class", self.class.is_some()),
            ("--layer", self.layer.is_some()),
            ("--branch", self.branch.is_some()),
            ("--attention", self.attention.is_some()),
            ("--evaluate", self.evaluate),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => bail!(
                "{flag} is for networks of one task; of {} the attention maps are drawn, --tasks chooses which",
                run.card.network()
            ),
        }
    }

    /// Draws an image's maps and writes all its files.
    fn write(
        &self,
        run: &TaskRun,
        tasks: &[usize],
        picture: &Picture,
        image: &RgbImage,
        prediction: &TaskPrediction,
        targets: &Targets,
    ) -> Result<ImageReport> {
        targets.make_folders(picture)?;
        let maps = prediction.maps.as_ref().context("an ABN has maps")?;
        let (mut panels, mut reports) = (Vec::new(), Vec::new());
        for &t in tasks {
            let (task, map) = (&run.card.tasks[t], &maps[t]);
            let (answer, probability) = prediction.answer(t).context("a task without answers")?;
            let answer = task.answers[answer].clone();
            let caption = Caption::new(&format!("{}: {answer}", task.name), probability);
            let panel = Panel { image: image.clone(), views: views(map)?, caption };
            let style = Style { side: 128, colours: self.colormap, ..Style::default() };
            let panel = panel.draw(&style);
            let name = file_name(&task.name);
            let file = targets.file(picture, &name, "png");
            put(&file, &panel)?;
            panels.push(panel);
            let npy = self.save_maps.then(|| targets.file(picture, &name, "npy"));
            if let Some(npy) = &npy {
                let writing = || format!("cannot write {}", npy.display());
                map.to_tensor()?.squeeze(0)?.write_npy(npy).with_context(writing)?;
            }
            let ((lowest, highest), (x, y)) = (map.range(), map.peak());
            reports.push(TaskReport {
                task: task.name.clone(),
                answer,
                probability,
                picture: file,
                map: npy,
                lowest,
                highest,
                peak: [x * image.width() as f32, y * image.height() as f32],
            });
        }
        let columns = if panels.len() > ONE_COLUMN { 2 } else { 1 };
        let panel = targets.panel(picture);
        put(&panel, &sheet(&panels, columns))?;
        Ok(ImageReport { image: picture.path.clone(), panel, tasks: reports })
    }
}

/// A map, its positive part and its negative part; titles leave room for what a panel adds to those of flat maps.
fn views(map: &Heatmap) -> Result<Vec<View>> {
    let view =
        |title: &str, map: Heatmap| View { title: title.to_owned(), shown: Shown::Heat(map) };
    Ok(vec![
        view("map", map.clone()),
        view("positive", part_of(map, true)?),
        view("negative", part_of(map, false)?),
    ])
}

/// The tasks of these names, in their order; all if none is named.
fn chosen(run: &TaskRun, asked: &[String]) -> Result<Vec<usize>> {
    let tasks = &run.card.tasks;
    if asked.is_empty() {
        return Ok((0..tasks.len()).collect());
    }
    let mut chosen: Vec<usize> = Vec::new();
    for name in asked {
        let Some(t) = tasks.iter().position(|task| task.name == *name) else {
            let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
            bail!("--tasks: the network has no task {name:?}; it has {}", names.join(", "));
        };
        if !chosen.contains(&t) {
            chosen.push(t);
        }
    }
    Ok(chosen)
}

/// A task's name as part of a file's.
fn file_name(task: &str) -> String {
    task.replace(['/', '\\'], "_")
}

impl Document {
    fn text(&self) -> Result<String> {
        let mut text = String::new();
        for ImageReport { image, panel, tasks } in &self.images {
            writeln!(text, "{} → {}", image.display(), panel.display())?;
            let width = tasks.iter().map(|task| task.task.chars().count()).max().unwrap_or(0);
            for TaskReport { task, answer, probability, .. } in tasks {
                writeln!(text, "  {:5.1} %  {task:width$}  {answer}", 100.0 * probability)?;
            }
        }
        Ok(text)
    }
}

fn put(file: &Path, picture: &RgbImage) -> Result<()> {
    std::fs::write(file, png(picture)?).with_context(|| format!("cannot write {}", file.display()))
}
