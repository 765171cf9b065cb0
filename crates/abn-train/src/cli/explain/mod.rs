//! `abn explain`: where a trained network looks in pictures of the user's, and what it answers.

mod boxes;
mod evaluate;
mod given;
mod images;
mod methods;
mod report;
mod session;
mod targets;
mod tasks;

use std::path::PathBuf;
use std::str::FromStr;

use abn_explain::Branch;
use abn_explain::pictures::ColourMap;
use abn_train::{AnyRun, Precision, Run};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rayon::prelude::*;

use self::boxes::Boxes;
use self::given::Given;
use self::images::Picture;
use self::methods::Chosen;
use self::session::Session;
use self::targets::Targets;
use super::{Compute, print};

#[derive(Args)]
pub struct ExplainArgs {
    /// Folder of a run (its best/ is taken, or else its last/), or one of these two
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// Images of any size (PNG or JPEG), or folders of them, with class folders or without. The name of the folder
    /// that an image lies in is its true class, if the network has a class of that name
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    image: Vec<PathBuf>,
    /// How to explain, in this order: attention, grad-cam, grad-cam++, layer-cam, cam, guided-backprop,
    /// guided-grad-cam, or all [default: those of attention, grad-cam, cam and guided-backprop that the network can do]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    methods: Vec<String>,
    /// Class to explain: its name, its number from 0, `predicted`, or `true` [default: predicted]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Layer that the Grad-CAM methods look at, such as layer2; a wrong name lists them [default: the last feature map]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Whose score to explain, in a network with an attention branch [default: perception]
    #[arg(long, value_enum)]
    branch: Option<BranchArg>,
    /// Of a network for several tasks: the tasks whose maps to draw, such as Smiling,Eyeglasses [default: all]
    #[arg(long, value_name = "TASK,…", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Colours of the maps: jet, as in the paper, or viridis, whose equal steps look equal
    #[arg(long, value_name = "NAME", default_value_t = ColourMap::Jet, value_parser = ColourMap::from_str)]
    colormap: ColourMap,
    /// A map of your own in place of the network's: a grey picture that covers the image (white: look here), or a
    /// .npy of the map's size. Shows how the answer changes
    #[arg(long, value_name = "FILE")]
    attention: Option<PathBuf>,
    /// Folder for the pictures: NAME-METHOD.png and NAME-panel.png for each image, sheet.png of several. Of several
    /// tasks NAME-TASK.png, with the map's positive and negative part, and NAME-panel.png
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Write each map as NAME-METHOD.npy too: float32 (h, w), as the method gives it
    #[arg(long)]
    save_maps: bool,
    /// Measure how faithful each method's maps are, over all images: insertion, deletion and ROAD, beside random maps.
    /// Takes some 40 forward passes for each image and method
    #[arg(long)]
    evaluate: bool,
    /// Where the objects are, for the pointing game: how often a map's highest point lies in a box. A line
    /// `image,left,top,right,bottom`, then one for each box, in pixels; images are looked for from the file's folder
    #[arg(long, value_name = "FILE.csv", requires = "evaluate")]
    boxes: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BranchArg {
    Perception,
    Attention,
}

impl ExplainArgs {
    pub fn run(self) -> Result<()> {
        let device = self.compute.set_up()?;
        // Maps are compared pixel by pixel, and nobody waits for them.
        Precision::F32.set_up(&device)?;
        match AnyRun::open_on(&self.checkpoint, &device)? {
            AnyRun::Classes(run) => self.classes(run),
            AnyRun::Tasks(run) => self.several_tasks(&run),
        }
    }

    fn classes(self, run: Run) -> Result<()> {
        if !self.tasks.is_empty() {
            bail!("--tasks: {} has one task", run.card.network());
        }
        let branch = match self.branch {
            None | Some(BranchArg::Perception) => Branch::Perception,
            Some(BranchArg::Attention) => Branch::Attention,
        };
        let methods = Chosen::new(&run, &self.methods, branch, self.layer.as_deref())?;
        let given = self.attention.as_deref().map(|file| Given::open(file, &run)).transpose()?;
        let pictures = images::list(&self.image, &run.card.classes)?;
        let class = self.class(&run.card.classes)?;
        if let (Class::True, Some(picture)) = (class, pictures.iter().find(|p| p.truth.is_none())) {
            bail!(
                "the true class of {} is not known: it lies in no folder named like a class of the network",
                picture.path.display()
            );
        }
        let maps: &[&str] = if self.save_maps { &["png", "npy"] } else { &["png"] };
        let targets = Targets::new(&self.out, &pictures, &methods.names(), maps)?;
        let boxes = self.boxes.as_deref().map(Boxes::read).transpose()?;
        boxes.as_ref().map_or(Ok(()), |boxes| boxes.check(&pictures))?;
        readable(&pictures, boxes.as_ref())?;
        // Everything is known to be possible: from here on, files are written.
        let session = Session {
            run: &run,
            methods: &methods,
            given: given.as_ref(),
            class,
            colours: self.colormap,
            save_maps: self.save_maps,
        };
        let mut document = session.explain(&pictures, &targets)?;
        if self.evaluate {
            let classes = document.images.iter().map(|image| image.explained_class.class as u32);
            let classes: Vec<_> = classes.collect();
            let measured = evaluate::measure(&run, &methods, &pictures, &classes, boxes.as_ref())?;
            document.faithfulness = Some(measured);
        }
        print(&if self.json {
            serde_json::to_string_pretty(&document)? + "\n"
        } else {
            document.text()
        })
    }

    /// The class that is asked for. A class's name goes before a word of ours, and both before a
    /// number: SVHN's classes are called by numbers.
    fn class(&self, classes: &[String]) -> Result<Class> {
        let Some(asked) = &self.class else { return Ok(Class::Predicted) };
        if let Some(class) = classes.iter().position(|class| class == asked) {
            return Ok(Class::Number(class));
        }
        match (asked.as_str(), asked.parse::<usize>()) {
            ("predicted", _) => Ok(Class::Predicted),
            ("true", _) => Ok(Class::True),
            (_, Ok(class)) if class < classes.len() => Ok(Class::Number(class)),
            _ => {
                const SHOWN: usize = 20;
                let more = if classes.len() > SHOWN { ", …" } else { "" };
                let names = classes[..classes.len().min(SHOWN)].join(", ");
                bail!(
                    "the network has no class {asked:?}; expected one of its {} classes ({names}{more}), a number \
                     from 0 to {}, `predicted` or `true`",
                    classes.len(),
                    classes.len().saturating_sub(1)
                )
            }
        }
    }
}

/// Whose map is asked for.
#[derive(Clone, Copy)]
enum Class {
    Predicted,
    True,
    Number(usize),
}

/// Decodes every image once, so that a bad one, or a box beyond it, is known before the first file is
/// written; all of them at a time may be more than the memory holds.
fn readable(pictures: &[Picture], boxes: Option<&Boxes>) -> Result<()> {
    let check = |picture: &Picture| {
        let image = picture.read()?;
        boxes.map_or(Ok(()), |boxes| boxes.fit(picture, &image))
    };
    let bad = pictures.par_iter().find_map_first(|picture| check(picture).err());
    bad.map_or(Ok(()), Err).context("nothing was written")
}
