//! What Table 4 has beyond the mean: each attribute beside the reported accuracy, on how many of them one network beats
//! another, and where each attribute's map points, if it is known where the attribute is drawn.

use std::fmt::Write;

use abn_explain::faithfulness::Region;
use abn_train::attributes::{self, Odds, TaskScore};
use abn_train::report::attributes::VIEWS;
use abn_train::{RunFolder, TaskRun};
use anyhow::{Result, bail};
use serde::Serialize;

use super::file::{Bar, Cell, ReportedAttributes};
use super::render::{dash, signed};
use super::results::{Outcome, Results};
use crate::page::Page;
use crate::synthesize::faces;

mod face;

pub use face::Face;

/// A family's networks on the same attributes.
#[derive(Clone, Serialize)]
pub struct Attributes {
    /// Its row.
    pub family: String,
    /// Title of the dataset.
    pub dataset: String,
    /// The attributes.
    pub names: Vec<String>,
    /// The networks, in the table's order.
    pub networks: Vec<Network>,
    /// What was reported of ABN.
    pub reported: Option<ReportedAttributes>,
}

/// A network, attribute by attribute.
#[derive(Clone, Serialize)]
pub struct Network {
    /// Name of its column.
    pub variant: String,
    /// Title of its column.
    pub title: String,
    /// How well it knows each attribute after the last epoch: means over the seeds; none without a run.
    pub scores: Vec<TaskScore>,
    /// Against the table's first network.
    pub odds: Option<Odds>,
    /// Where each attribute's map points.
    pub pointing: Option<Vec<Pointing>>,
}

/// How often the peak of an attribute's map lies in the attribute's box, over images that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pointing {
    /// Images that have the attribute.
    pub images: usize,
    /// Those where the peak lies in one of its boxes.
    pub hits: usize,
    /// How many of a random point would.
    pub chance: f64,
}

impl Pointing {
    /// How many times as often as a random point; 0 without images.
    pub fn ratio(&self) -> f64 {
        if self.images == 0 { 0.0 } else { self.hits as f64 / self.chance }
    }

    fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, pointing| Self {
            images: sum.images + pointing.images,
            hits: sum.hits + pointing.hits,
            chance: sum.chance + pointing.chance,
        })
    }
}

impl Attributes {
    /// One for each family and dataset of several tasks, with what its runs came to.
    pub fn of(results: &Results, cells: &[Cell<'_>], outcomes: &[Outcome]) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.dataset.tasks > 1) {
            let runs = outcomes.iter().filter(|outcome| outcome.cell == index);
            let folders: Vec<_> = runs.map(|outcome| RunFolder::new(&outcome.folder)).collect();
            let scores = folders.iter().map(|folder| attributes::read(&folder.attributes()));
            let network = Network {
                variant: cell.column.name.clone(),
                title: cell.column.title.clone(),
                scores: over_seeds(scores.collect::<Result<Vec<_>, _>>()?),
                odds: None,
                pointing: pointing(&folders)?,
            };
            let (family, dataset) = (&cell.row.name, &results.rows[index].dataset);
            let title = &cell.dataset.title;
            debug_assert_eq!(*dataset, cell.dataset.name);
            match all.iter_mut().find(|a| a.family == *family && a.dataset == *title) {
                Some(of_family) => of_family.networks.push(network),
                None => all.push(Self {
                    family: family.clone(),
                    dataset: title.clone(),
                    names: Vec::new(),
                    networks: vec![network],
                    reported: cell.dataset.attributes.clone(),
                }),
            }
        }
        all.iter_mut().try_for_each(Self::finish)?;
        Ok(all)
    }

    /// Names the attributes, and sets each network against the first.
    fn finish(&mut self) -> Result<()> {
        let trained = self.networks.iter().find(|network| !network.scores.is_empty());
        self.names = match (trained, &self.reported) {
            (Some(network), _) => network.scores.iter().map(|score| score.name.clone()).collect(),
            (None, Some(reported)) => {
                reported.accuracy.iter().map(|(name, _)| name.clone()).collect()
            }
            (None, None) => Vec::new(),
        };
        let Some((first, others)) = self.networks.split_first_mut() else { return Ok(()) };
        for network in others {
            if !first.scores.is_empty() && !network.scores.is_empty() {
                network.odds = Some(Odds::between(&network.scores, &first.scores)?);
            }
        }
        Ok(())
    }

    /// The heads of the table of attributes.
    fn head(&self) -> Vec<String> {
        let mut head = vec!["Attribute".to_owned()];
        head.extend(self.networks.iter().map(|network| format!("{} %", network.title)));
        if self.reported.is_some() {
            head.extend(["Reported".to_owned(), "ABN − rep.".to_owned()]);
        }
        head
    }

    /// The rows of the table of attributes, the means last.
    fn rows(&self) -> Vec<Vec<String>> {
        let two = |share: Option<f64>| share.map_or_else(dash, |share| format!("{share:.2}"));
        let abn = self.networks.iter().position(|network| network.variant == "abn");
        let row = |name: &str, ours: Vec<Option<f64>>, reported: Option<f64>| {
            let mut row = vec![name.to_owned()];
            row.extend(ours.iter().map(|share| two(*share)));
            if self.reported.is_some() {
                let over = abn.and_then(|abn| ours[abn]).zip(reported).map(|(a, b)| a - b);
                row.extend([two(reported), over.map_or_else(dash, signed)]);
            }
            row
        };
        let of = |name: &str| {
            let found = |network: &Network| {
                network.scores.iter().find(|score| score.name == name)?.accuracy
            };
            let ours = self.networks.iter().map(found).collect();
            let reported = self.reported.as_ref().and_then(|reported| {
                let mut accuracies = reported.accuracy.iter();
                accuracies.find(|(theirs, _)| theirs == name).map(|(_, accuracy)| *accuracy)
            });
            row(name, ours, reported)
        };
        let mut rows: Vec<_> = self.names.iter().map(|name| of(name)).collect();
        let means = self.networks.iter().map(|n| attributes::mean(&n.scores, |s| s.accuracy));
        let reported = self.reported.as_ref().map(|reported| {
            let sum: f64 = reported.accuracy.iter().map(|(_, accuracy)| accuracy).sum();
            sum / reported.accuracy.len().max(1) as f64
        });
        rows.push(row("mean", means.collect(), reported));
        rows
    }

    /// How often each network beats the first, and how often the paper's did.
    fn odds(&self) -> Vec<String> {
        let Some(first) = self.networks.first() else { return Vec::new() };
        let odds = self.networks.iter().filter_map(|network| Some((network, network.odds?)));
        let ours = odds.map(|(network, odds)| {
            format!("Odds of {} against {}: {odds}.", network.title, first.title)
        });
        let reported = self.reported.as_ref().map(|reported| {
            let ReportedAttributes { odds, odds_source, accuracy, source } = reported;
            format!(
                "Reported: ABN better on {odds} of {} ({odds_source}); the accuracies: {source}.",
                accuracy.len()
            )
        });
        ours.chain(reported).collect()
    }

    /// The networks whose maps are held to the drawn boxes.
    fn pointing(&self) -> impl Iterator<Item = (&Network, &[Pointing])> {
        self.networks.iter().filter_map(|network| Some((network, network.pointing.as_deref()?)))
    }

    fn pointing_head(&self) -> Vec<String> {
        let mut head = vec!["Attribute".to_owned(), "random point %".to_owned()];
        for (network, _) in self.pointing() {
            head.extend([format!("{} %", network.title), "× random".to_owned()]);
        }
        head
    }

    fn pointing_rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, at: &dyn Fn(&[Pointing]) -> Pointing| {
            let mut row = vec![name.to_owned()];
            for (place, (_, all)) in self.pointing().enumerate() {
                let pointing = at(all);
                let share =
                    |part: f64| format!("{:.1}", 100.0 * part / pointing.images.max(1) as f64);
                if place == 0 {
                    row.push(share(pointing.chance));
                }
                row.extend([share(pointing.hits as f64), format!("{:.1}", pointing.ratio())]);
            }
            row
        };
        let mut rows: Vec<_> =
            self.names.iter().enumerate().map(|(t, name)| row(name, &|all| all[t])).collect();
        rows.push(row("all", &Pointing::sum));
        rows
    }
}

impl Bar {
    /// Whether the networks with maps come to it.
    ///
    /// # Errors
    /// Says what does not.
    pub fn hold(&self, all: &[Attributes]) -> Result<()> {
        let mut below = Vec::new();
        for Attributes { family, networks, .. } in all {
            for network in networks {
                let Some(pointing) = &network.pointing else { continue };
                let title = format!("{family}, {}", network.title);
                let mean = attributes::mean(&network.scores, |score| score.accuracy);
                if mean.is_none_or(|mean| mean <= self.accuracy) {
                    let mean = mean.map_or_else(dash, |mean| format!("{mean:.2}"));
                    let bar = self.accuracy;
                    below.push(format!("{title}: mean accuracy {mean} %, expected above {bar} %"));
                }
                let names = network.scores.iter().map(|score| score.name.as_str());
                let ratios = names.zip(pointing.iter().map(Pointing::ratio));
                for (name, ratio) in ratios.filter(|(_, ratio)| *ratio < self.pointing) {
                    let bar = self.pointing;
                    below.push(format!(
                        "{title}: the maps' peaks are in the boxes of {name} {ratio:.1} times as often as a random \
                         point, expected {bar} times"
                    ));
                }
            }
        }
        match below.is_empty() {
            true => Ok(()),
            false => bail!("below the table's bar: {}", below.join("; ")),
        }
    }
}

/// The mean of several runs' scores, task by task.
fn over_seeds(runs: Vec<Vec<TaskScore>>) -> Vec<TaskScore> {
    let Some(first) = runs.first() else { return Vec::new() };
    let mean = |t: usize, share: &dyn Fn(&TaskScore) -> Option<f64>| {
        let all: Vec<f64> = runs.iter().filter_map(|run| share(run.get(t)?)).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let task = |(t, score): (usize, &TaskScore)| TaskScore {
        name: score.name.clone(),
        positives: score.positives,
        accuracy: mean(t, &|score| score.accuracy),
        balanced_accuracy: mean(t, &|score| score.balanced_accuracy),
        precision: mean(t, &|score| score.precision),
        recall: mean(t, &|score| score.recall),
        f1: mean(t, &|score| score.f1),
    };
    first.iter().enumerate().map(task).collect()
}

/// Where the maps of these runs point on drawn faces; `None` of other data, or without maps.
fn pointing(folders: &[RunFolder]) -> Result<Option<Vec<Pointing>>> {
    let mut sums: Option<Vec<Pointing>> = None;
    for folder in folders {
        let run = TaskRun::open(&folder.last())?;
        let Some(root) = run.recipe.data_dir.clone() else { return Ok(None) };
        let Some(boxes) = faces::boxes(&root)? else { return Ok(None) };
        let test = abn_data::open(&run.recipe.dataset, Some(&root))?.test;
        let images = (0..test.len()).map(|i| Ok(test.get(i)?.image));
        let images = images.collect::<Result<Vec<_>>>()?;
        let sums = sums.get_or_insert_with(|| vec![Pointing::default(); run.card.tasks.len()]);
        for ((image, prediction), boxes) in images.iter().zip(run.predict(&images)?).zip(boxes) {
            let Some(maps) = prediction.maps else { return Ok(None) };
            let (width, height) = (image.width, image.height);
            for ((map, regions), sum) in maps.iter().zip(&boxes).zip(&mut *sums) {
                if regions.is_empty() {
                    continue;
                }
                let (x, y) = map.peak();
                let peak = ((x * width as f32) as usize, (y * height as f32) as usize);
                sum.images += 1;
                sum.hits += usize::from(regions.iter().any(|region| region.contains(peak)));
                sum.chance += chance(regions, height, width);
            }
        }
    }
    Ok(sums)
}

/// How often a random point of an image lies in one of the boxes.
fn chance(regions: &[Region], height: usize, width: usize) -> f64 {
    let points = (0..height * width).map(|i| (i % width, i / width));
    let inside = points.filter(|point| regions.iter().any(|region| region.contains(*point)));
    inside.count() as f64 / (height * width).max(1) as f64
}

/// How to read the second table.
const POINTING: &str = "How often the highest point of an attribute's map lies where the attribute is drawn, over all \
    test images that have it, beside the share of the image that is drawn on, which is how often a random point would.";

/// For the terminal: odds, and where maps point.
pub fn text(all: &[Attributes]) -> String {
    let mut out = String::new();
    for attributes in all {
        let _ = writeln!(out, "\n{}, {}", attributes.family, attributes.dataset);
        for line in attributes.odds() {
            let _ = writeln!(out, "{line}");
        }
        for (network, pointing) in attributes.pointing() {
            let sum = Pointing::sum(pointing);
            let least = pointing.iter().map(Pointing::ratio).fold(f64::INFINITY, f64::min);
            let _ = writeln!(
                out,
                "Maps of {}: the peak is in the attribute's box in {:.1} % of the images that have it, {:.1} times as \
                 often as a random point; of the attribute with the fewest, {least:.1} times.",
                network.title,
                100.0 * sum.hits as f64 / sum.images.max(1) as f64,
                sum.ratio()
            );
        }
    }
    out
}

/// The tables of attributes.
pub fn markdown(all: &[Attributes]) -> String {
    let mut out = String::new();
    let mut table = |title: &str, text: &[String], head: &[String], rows: &[Vec<String>]| {
        let _ = writeln!(out, "## {title}\n");
        for line in text {
            let _ = writeln!(out, "{line}\n");
        }
        let _ = writeln!(out, "| {} |\n|---|{}", head.join(" | "), "---:|".repeat(head.len() - 1));
        for row in rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
    };
    for attributes in all {
        let name = format!("{}, {}", attributes.family, attributes.dataset);
        let (head, rows) = (attributes.head(), attributes.rows());
        table(&format!("Attributes: {name}"), &attributes.odds(), &head, &rows);
        if attributes.pointing().next().is_some() {
            let (head, rows) = (attributes.pointing_head(), attributes.pointing_rows());
            table(&format!("Where maps point: {name}"), &[POINTING.to_owned()], &head, &rows);
        }
    }
    out
}

/// The tables and pictures on the page.
pub fn write(page: &mut Page, all: &[Attributes], faces: &[Face]) -> Result<()> {
    for attributes in all {
        let name = format!("{}, {}", attributes.family, attributes.dataset);
        let heads = |head: Vec<String>, rows: &[Vec<String>], page: &mut Page| {
            page.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), rows);
        };
        page.heading(&format!("Attributes: {name}"));
        page.text("Test accuracy after the last epoch in percent, mean over the seeds.");
        attributes.odds().iter().for_each(|line| page.text(line));
        heads(attributes.head(), &attributes.rows(), page);
        if attributes.pointing().next().is_some() {
            page.heading(&format!("Where maps point: {name}"));
            page.text(POINTING);
            heads(attributes.pointing_head(), &attributes.pointing_rows(), page);
        }
    }
    for face in faces {
        page.heading(&format!("One face, attribute by attribute: {}", face.name));
        page.text(
            "A test image with many of the attributes. Beside it each attribute's map, the map's positive part and its \
             negative part, as in the paper's figure: blue is the lowest value, red the highest. Answers that are wrong \
             are marked.",
        );
        let pictures = face.looks.iter().map(|look| look.picture());
        page.panels(&VIEWS, &pictures.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
