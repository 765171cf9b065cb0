//! Asks, draws and writes, some images at a time.

use std::path::Path;

use abn_core::Mode;
use abn_explain::Explained;
use abn_explain::pictures::{
    Caption, ColourMap, Heatmap, Panel, Reach, Shown, Style, View, enlarged, png, sheet,
};
use abn_ops::{Tracked, no_grad};
use abn_train::{Prediction, Run, explain};
use anyhow::{Context, Result};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::Class;
use super::given::Given;
use super::images::Picture;
use super::methods::Chosen;
use super::report::{Answer, Document, ImageReport, Scored, ViewReport, WithGiven};
use super::targets::{ROWS, Targets};

/// Classes told for each image.
const TOP: usize = 5;
/// Smaller pictures are enlarged to this many pixels, for the eye.
const READABLE: u32 = 256;
/// Pictures side by side in a panel, at most.
const COLUMNS: usize = 5;
/// Pixels of input that go through the network at a time: explanations keep what every layer gives.
const PIXELS: usize = 400_000;
/// Images at a time, at most: a small network's may be large photographs all the same.
const AT_MOST: usize = 32;

/// Images that go through this network at a time.
pub fn at_a_time(run: &Run) -> usize {
    let size = run.card.input.image_size();
    (PIXELS / (size.height * size.width).max(1)).clamp(1, AT_MOST)
}

/// On a terminal, how many of these images are done; otherwise nothing.
pub fn bar(what: &'static str, images: usize) -> ProgressBar {
    let bar = ProgressBar::new(images as u64).with_prefix(what);
    let style = "{prefix}  {bar:24} {pos}/{len}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

pub struct Session<'a> {
    pub run: &'a Run,
    pub methods: &'a Chosen,
    pub given: Option<&'a Given>,
    pub class: Class,
    pub colours: ColourMap,
    pub save_maps: bool,
}

/// An image with all that is known of it.
struct Seen<'a> {
    picture: &'a Picture,
    image: RgbImage,
    prediction: Prediction,
    class: usize,
    given: Option<(Heatmap, Prediction)>,
    reach: Reach,
}

impl Session<'_> {
    /// Explains every picture and writes all files.
    pub fn explain(&self, pictures: &[Picture], targets: &Targets) -> Result<Document> {
        let at_a_time = at_a_time(self.run);
        let mut document = Document::new(self.run, self.methods, self.given, &targets.sheets);
        let (mut panels, mut sheets) = (Vec::new(), targets.sheets.iter());
        let bar = bar("explaining", pictures.len());
        for pictures in pictures.chunks(at_a_time) {
            for (report, panel) in self.batch(pictures, targets)? {
                document.images.push(report);
                panels.push(panel);
                if panels.len() == ROWS {
                    self.write_sheet(&mut panels, sheets.next().map(|sheet| &**sheet))?;
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        self.write_sheet(&mut panels, sheets.next().map(|sheet| &**sheet))?;
        Ok(document)
    }

    fn batch(
        &self,
        pictures: &[Picture],
        targets: &Targets,
    ) -> Result<Vec<(ImageReport, RgbImage)>> {
        let images = pictures.iter().map(Picture::read).collect::<Result<Vec<_>>>()?;
        let (inputs, reaches) = self.run.inputs(&images)?;
        let image = Tracked::constant(inputs.clone());
        let output = no_grad(|| self.run.model.forward(&image, Mode::Eval))?;
        let probabilities = abn_ops::softmax(output.logits.value())?.to_vec2::<f32>()?;
        let mut given = match self.given {
            Some(given) => {
                let (maps, answers) = given.answer(self.run, &inputs, &reaches)?;
                maps.into_iter().zip(answers).map(Some).collect()
            }
            None => vec![None; pictures.len()],
        };
        let mut seen = Vec::new();
        // Of an image, one copy at a time: photographs are large.
        for (i, (probabilities, image)) in probabilities.into_iter().zip(images).enumerate() {
            let prediction = Prediction { probabilities, attention: None };
            let answer = prediction.top(1).first().context("a network without classes")?.0;
            let class = match self.class {
                Class::Predicted => answer,
                Class::True => pictures[i].truth.unwrap_or(answer),
                Class::Number(class) => class,
            };
            let given = given[i]
                .take()
                .map(|(map, probabilities)| (map, Prediction { probabilities, attention: None }));
            let image = explain::picture(&image)?;
            let (picture, reach) = (&pictures[i], reaches[i]);
            seen.push(Seen { picture, image, prediction, class, given, reach });
        }
        let classes: Vec<_> = seen.iter().map(|seen| seen.class as u32).collect();
        let explain = |(_, explainer): &(_, Box<dyn abn_explain::Explain>)| {
            explainer.explain(&*self.run.model, &inputs, &classes)
        };
        let explained: Vec<_> =
            self.methods.methods.iter().map(explain).collect::<Result<_, _>>()?;
        let write = |(i, seen): (usize, &Seen)| self.write(i, seen, &explained, targets);
        seen.par_iter().enumerate().map(write).collect()
    }

    /// Writes an image's files; gives what is said of it, and its panel.
    fn write(
        &self,
        index: usize,
        seen: &Seen<'_>,
        explained: &[Explained],
        targets: &Targets,
    ) -> Result<(ImageReport, RgbImage)> {
        let Seen { picture, image, prediction, given, reach, .. } = seen;
        targets.make_folders(picture)?;
        let (mut views, mut reports) = (Vec::new(), Vec::new());
        if let Some((map, _)) = given {
            let shown = Shown::Heat(map.clone());
            views.push(View { title: "the map given".to_owned(), shown });
        }
        let large = enlarged(image.clone(), READABLE);
        for ((method, _), explained) in self.methods.methods.iter().zip(explained) {
            let title = method.to_string();
            let shown = Shown::new(explained, index, *reach)?;
            let file = targets.file(picture, &title, "png");
            put(&file, &shown.draw(&large, self.colours))?;
            let map = explained.maps.get(index)?;
            let npy = self.save_maps.then(|| targets.file(picture, &title, "npy"));
            if let Some(npy) = &npy {
                let writing = || format!("cannot write {}", npy.display());
                map.write_npy(npy).with_context(writing)?;
            }
            let map = Heatmap::from_tensor(&map, *reach)?;
            reports.push(ViewReport::new(&title, file, npy, &map, image.dimensions()));
            views.push(View { title, shown });
        }
        let panel = Panel { image: image.clone(), views, caption: self.caption(seen) };
        let style = Style { colours: self.colours, columns: COLUMNS, ..Style::default() };
        let panel = panel.draw(&style);
        put(&targets.panel(picture), &panel)?;
        let name = |class: usize| self.run.card.classes[class].clone();
        let scored = |prediction: &Prediction| {
            let top = prediction.top(TOP).into_iter();
            top.map(|(class, probability)| Scored { class, name: name(class), probability })
                .collect()
        };
        let answer = |class: usize| Answer { class, name: name(class) };
        let top: Vec<Scored> = scored(prediction);
        let report = ImageReport {
            image: picture.path.clone(),
            panel: targets.panel(picture),
            true_class: picture.truth.map(answer),
            right: picture.truth.map(|truth| top.first().is_some_and(|top| top.class == truth)),
            explained_class: answer(seen.class),
            top,
            with_attention: given.as_ref().map(|(_, answer)| WithGiven { top: scored(answer) }),
            views: reports,
        };
        Ok((report, panel))
    }

    fn caption(&self, seen: &Seen<'_>) -> Caption {
        let name = |class: usize| self.run.card.classes[class].as_str();
        let top = |prediction: &Prediction| prediction.top(1).first().copied().unwrap_or((0, 0.0));
        let (predicted, probability) = top(&seen.prediction);
        let mut caption = Caption::new(name(predicted), probability);
        if let Some(truth) = seen.picture.truth {
            caption = caption.truth(name(truth), seen.prediction.probabilities[truth]);
        }
        if let Some((_, prediction)) = &seen.given {
            let (class, probability) = top(prediction);
            let share = 100.0 * probability;
            caption = caption.note(format!("with the map given: {} {share:.1} %", name(class)));
        }
        if seen.class != predicted {
            caption = caption.note(format!("explained: {}", name(seen.class)));
        }
        // A sheet has many images.
        caption.note(seen.picture.name())
    }

    fn write_sheet(&self, panels: &mut Vec<RgbImage>, file: Option<&Path>) -> Result<()> {
        match file {
            Some(file) if !panels.is_empty() => put(file, &sheet(panels, 1))?,
            _ => {}
        }
        panels.clear();
        Ok(())
    }
}

fn put(file: &Path, picture: &RgbImage) -> Result<()> {
    std::fs::write(file, png(picture)?).with_context(|| format!("cannot write {}", file.display()))
}
