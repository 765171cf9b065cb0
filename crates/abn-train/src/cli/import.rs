use std::path::PathBuf;

use abn_backbones::Variant;
use abn_core::{Mechanism, Preset};
use abn_multitask::Form;
use abn_train::{Card, Input, Question, Recipe, Resized, import, open_data, read_class_names};
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{must_exist, print};

/// ImageNet's statistics, with which torchvision's weights were trained.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

#[derive(Args)]
pub struct ImportArgs {
    /// Weights: a .pth file of torch.save (of any age), or .safetensors
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Name of the network they are of, as `abn models` lists them
    #[arg(long)]
    model: String,
    /// What the network is, as in `abn train`: `abn`, `baseline`, `cam` or `control`
    #[arg(long, default_value = "abn")]
    variant: Variant,
    /// How the map acts on the features: `residual`, g(1+M), or `multiply`, gM [default: residual; of facial attributes
    /// multiply]
    #[arg(long)]
    mechanism: Option<Mechanism>,
    /// Whom the attention branch follows: `code`, the released code, or `paper`, its figure
    #[arg(long, default_value = "code")]
    preset: Preset,
    /// Of several tasks: `chainer`, the paper's network, or `v1`, the authors' later one
    #[arg(long, default_value = "chainer")]
    form: Form,
    #[command(flatten)]
    classes: Classes,
    /// Folder with the dataset's files
    #[arg(long, value_name = "DIR", requires = "dataset")]
    data_dir: Option<PathBuf>,
    /// Mean of each channel in training, in 0 to 1 [default: the dataset's, or ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f32; 3]>,
    /// Standard deviation of each channel in training [default: the dataset's, or ImageNet's]
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    std: Option<[f32; 3]>,
    /// The weights are those of the network without attention branch, or of other classes: copy
    /// the last stage into the attention trunk, leave the rest at its initial values
    #[arg(long)]
    init_from_baseline: bool,
    /// Folder of the run [default: runs/NAME-OF-FILE]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the network answers.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Classes {
    /// Number of classes, if they need no names
    #[arg(long = "classes", value_name = "N")]
    count: Option<usize>,
    /// File with the classes' names, a line each, in the order of the network's outputs
    #[arg(long = "class-names", value_name = "FILE")]
    names: Option<PathBuf>,
    /// File with the names of yes-or-no attributes, a line each, of a network that answers them all
    #[arg(long = "attributes", value_name = "FILE")]
    attributes: Option<PathBuf>,
    /// Take classes or tasks, image size and statistics from a dataset, as `abn datasets` lists them
    #[arg(long)]
    dataset: Option<String>,
}

#[derive(Serialize)]
struct Report {
    run: PathBuf,
    taken: Vec<String>,
    copied: Vec<String>,
    initial: Vec<String>,
    unused: Vec<String>,
}

impl ImportArgs {
    pub fn run(self) -> Result<()> {
        must_exist(&self.weights, "file of weights")?;
        let card = self.card()?;
        let folder = self.out.unwrap_or_else(|| {
            let name = self.weights.file_stem().unwrap_or(self.weights.as_os_str());
            PathBuf::from("runs").join(name)
        });
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let report = import(&card, &folder, self.init_from_baseline, &command)?;
        let run = folder.display();
        print(&if self.json {
            let abn_train::TakenOver { taken, copied, initial, unused, .. } = report;
            serde_json::to_string_pretty(&Report { run: folder, taken, copied, initial, unused })?
                + "\n"
        } else if report.initial.is_empty() && report.copied.is_empty() {
            format!("{}: {report}\n{run}: ready for `abn eval` and `abn explain`\n", card.network())
        } else {
            format!(
                "{}: {report}\n{run}: to be trained, `abn train --init {run} …`\n",
                card.network()
            )
        })
    }

    /// What the network is, as far as the weights do not say.
    fn card(&self) -> Result<Card> {
        let dataset = match &self.classes {
            Classes { dataset: Some(dataset), .. } => dataset.clone(),
            Classes { attributes: Some(_), .. } => "celeba".into(),
            _ => "folder".into(),
        };
        let mut recipe = Recipe {
            model: self.model.clone(),
            variant: self.variant,
            mechanism: self.mechanism.unwrap_or(Recipe::published_mechanism(&dataset)),
            preset: self.preset,
            form: self.form,
            dataset,
            data_dir: self.data_dir.clone(),
            init: Some(self.weights.clone()),
            ..Recipe::default()
        };
        recipe.model = abn_backbones::find(&recipe.model)?.name().to_owned();
        recipe.validate()?;
        let mut card = match &self.classes {
            Classes { dataset: Some(name), .. } => {
                Card::new(&recipe, &open_data(name, self.data_dir.as_deref())?)?
            }
            Classes { attributes: Some(file), .. } => {
                let question = |name: String| Question {
                    name,
                    answers: ["no", "yes"].map(str::to_owned).to_vec(),
                };
                let tasks = read_class_names(file)?.into_iter().map(question).collect();
                let size = abn_backbones::find(&recipe.model)?.image_size();
                let (mean, std) = IMAGENET;
                let input =
                    Input { resized: Some(Resized::Whole), ..Input::square(size, mean, std) };
                Card { recipe: recipe.clone(), classes: Vec::new(), tasks, input }
            }
            Classes { names, count, .. } => {
                let classes = match (names, count) {
                    (Some(file), _) => read_class_names(file)?,
                    (None, count) => numbered(count.unwrap_or_default())?,
                };
                let size = abn_backbones::find(&recipe.model)?.image_size();
                let (mean, std) = IMAGENET;
                Card {
                    recipe: recipe.clone(),
                    classes,
                    tasks: Vec::new(),
                    input: Input::square(size, mean, std),
                }
            }
        };
        card.recipe = recipe;
        card.input.mean = self.mean.unwrap_or(card.input.mean);
        card.input.std = self.std.unwrap_or(card.input.std);
        if let Some(std) = card.input.std.iter().find(|std| **std <= 0.0) {
            bail!("--std: a standard deviation must be above 0, is {std}");
        }
        Ok(card)
    }
}

fn numbered(count: usize) -> Result<Vec<String>> {
    const MOST: usize = 1_000_000;
    if !(2..=MOST).contains(&count) {
        bail!("--classes: a classifier has 2 to {MOST} classes, not {count}");
    }
    Ok(Card::numbered_classes(count))
}

/// Three finite numbers.
fn channels(text: &str) -> Result<[f32; 3], String> {
    let numbers: Vec<f32> = text
        .split(',')
        .map(|number| number.trim().parse::<f32>().ok().filter(|number| number.is_finite()))
        .collect::<Option<_>>()
        .unwrap_or_default();
    numbers.try_into().map_err(|_| "expected three numbers, as in 0.485,0.456,0.406".into())
}
