//! What is said of the images: for programs as JSON, for people as text.

use std::fmt::Write;
use std::path::PathBuf;

use abn_explain::Branch;
use abn_explain::pictures::Heatmap;
use abn_train::Run;
use serde::Serialize;

use super::evaluate::Evaluation;
use super::given::Given;
use super::methods::Chosen;

/// The whole answer.
#[derive(Serialize)]
pub struct Document {
    pub checkpoint: PathBuf,
    pub model: String,
    pub variant: String,
    pub epoch: usize,
    pub methods: Vec<String>,
    /// Whose score is explained.
    pub branch: &'static str,
    /// Where the Grad-CAM methods look; none: the branch's last feature map.
    pub layer: Option<String>,
    /// The map of the user's own.
    pub attention: Option<PathBuf>,
    /// All images' panels.
    pub sheets: Vec<PathBuf>,
    pub images: Vec<ImageReport>,
    /// How faithful the methods' maps are, if it was asked for.
    pub faithfulness: Option<Evaluation>,
}

/// What is said of one image.
#[derive(Serialize)]
pub struct ImageReport {
    pub image: PathBuf,
    pub panel: PathBuf,
    pub true_class: Option<Answer>,
    /// Whether the answer is the true class, if that is known.
    pub right: Option<bool>,
    pub explained_class: Answer,
    /// The likeliest classes, likeliest first.
    pub top: Vec<Scored>,
    /// With the map of the user's own in place of the network's.
    pub with_attention: Option<WithGiven>,
    pub views: Vec<ViewReport>,
}

/// A class.
#[derive(Serialize)]
pub struct Answer {
    pub class: usize,
    pub name: String,
}

/// A class and its probability.
#[derive(Serialize)]
pub struct Scored {
    pub class: usize,
    pub name: String,
    pub probability: f32,
}

/// The answer to a map of the user's own.
#[derive(Serialize)]
pub struct WithGiven {
    pub top: Vec<Scored>,
}

/// What a method says of an image.
#[derive(Serialize)]
pub struct ViewReport {
    pub method: String,
    pub picture: PathBuf,
    /// The map as numpy's array, if it was asked for.
    pub map: Option<PathBuf>,
    pub width: usize,
    pub height: usize,
    pub lowest: f32,
    pub highest: f32,
    /// Where the map is highest: column and row of the image's pixels. Outside the image if the
    /// network looked at the padding.
    pub peak: [f32; 2],
}

impl ViewReport {
    pub fn new(
        method: &str,
        picture: PathBuf,
        npy: Option<PathBuf>,
        map: &Heatmap,
        image: (u32, u32),
    ) -> Self {
        let (lowest, highest) = map.range();
        let (x, y) = map.peak();
        Self {
            method: method.to_owned(),
            picture,
            map: npy,
            width: map.width(),
            height: map.height(),
            lowest,
            highest,
            peak: [x * image.0 as f32, y * image.1 as f32],
        }
    }
}

impl Document {
    /// Without images.
    pub fn new(run: &Run, methods: &Chosen, given: Option<&Given>, sheets: &[PathBuf]) -> Self {
        Self {
            checkpoint: run.checkpoint.clone(),
            model: run.recipe.model.clone(),
            variant: run.recipe.variant.to_string(),
            epoch: run.state.epoch,
            methods: methods.names(),
            branch: match methods.branch {
                Branch::Perception => "perception",
                Branch::Attention => "attention",
            },
            layer: methods.layer.clone(),
            attention: given.map(|given| given.file.clone()),
            sheets: sheets.to_vec(),
            images: Vec::new(),
            faithfulness: None,
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for image in &self.images {
            let _ = self.describe(image, &mut text);
        }
        for sheet in &self.sheets {
            let _ = writeln!(text, "together → {}", sheet.display());
        }
        if let Some(faithfulness) = &self.faithfulness {
            text.push_str(&faithfulness.text());
        }
        text
    }

    fn describe(&self, image: &ImageReport, text: &mut String) -> std::fmt::Result {
        write!(text, "{} → {}", image.image.display(), image.panel.display())?;
        if let Some(truth) = &image.true_class {
            write!(
                text,
                "  ({}: {})",
                if image.right == Some(true) { "right" } else { "wrong, true" },
                truth.name
            )?;
        }
        writeln!(text)?;
        let line =
            |scored: &Scored| format!("{:5.1} %  {}", 100.0 * scored.probability, scored.name);
        let own: Vec<_> = image.top.iter().map(line).collect();
        match &image.with_attention {
            None => own.iter().try_for_each(|line| writeln!(text, "  {line}"))?,
            Some(given) => {
                let head = "  with its own map".to_owned();
                let width = own.iter().map(|line| line.chars().count() + 2);
                let width = width.chain([head.len()]).max().unwrap_or(0) + 4;
                writeln!(text, "{head:width$}with the map given")?;
                for (own, given) in own.iter().zip(&given.top) {
                    writeln!(text, "{:width$}{}", format!("  {own}"), line(given))?;
                }
            }
        }
        Ok(())
    }
}
