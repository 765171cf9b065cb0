//! What weights are of: enough to build the network, prepare images and name the answers.

use abn_backbones::{BuildOptions, Cost, Variant};
use abn_core::ParamStore;
use abn_data::{Dataset, Fit, Image, Normalisation, Size, Splits, Transform};
use abn_explain::pictures::Reach;
use candle_core::{DType, Device, Tensor};
use image::imageops::{FilterType, resize};
use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::{Error, Recipe, Result, explain};

/// What a network is, sees and answers: JSON in the metadata of `model.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The recipe that trained the network, without the place of the data.
    pub recipe: Recipe,
    /// Names of the classes, in the order of the network's outputs. None of a network for several
    /// tasks.
    pub classes: Vec<String>,
    /// What a network for several tasks answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Question>,
    /// How images are prepared.
    pub input: Input,
}

/// One of a network's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its name, such as an attribute's.
    pub name: String,
    /// Names of its answers, in the order of their labels.
    pub answers: Vec<String>,
}

impl Question {
    /// The tasks of a dataset.
    pub fn all(data: &dyn Dataset) -> Vec<Self> {
        let question = |task: &abn_data::Task| {
            let (name, answers) = (task.name.clone(), task.categories.clone());
            Self { name, answers }
        };
        data.tasks().iter().map(question).collect()
    }
}

/// How images are prepared for a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Side of the square input, or height of another, in pixels.
    pub size: usize,
    /// Its width, if it is no square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// If images are zero-padded to the input: their side before, in pixels. Otherwise they are
    /// resized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padded_from: Option<usize>,
    /// How images are resized, if not to a square of which the network's is cut out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized: Option<Resized>,
    /// Mean of each channel, in 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in 0 to 1.
    pub std: [f32; 3],
}

/// How images are resized to a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resized {
    /// [`Fit::Whole`].
    Whole,
    /// [`Fit::Cover`].
    Cover,
}

impl Input {
    /// Square images, resized.
    pub fn square(size: usize, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { size, width: None, padded_from: None, resized: None, mean, std }
    }

    /// The input's size.
    pub fn image_size(&self) -> Size {
        Size { height: self.size, width: self.width.unwrap_or(self.size) }
    }

    /// `count` images of zeros (count, 3, H, W).
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn zeros(&self, count: usize) -> Result<Tensor> {
        let Size { height, width } = self.image_size();
        Ok(Tensor::zeros((count, 3, height, width), DType::F32, &Device::Cpu)?)
    }
}

impl Card {
    /// The card of a network that a recipe trains on a dataset.
    ///
    /// # Errors
    /// If the recipe's model is not known, a setting is not for a dataset of several tasks, or its
    /// first image cannot be read.
    pub fn new(recipe: &Recipe, data: &Splits) -> Result<Self> {
        let several = data.train.tasks().len() > 1;
        if several {
            check_for_tasks(recipe, &data.name)?;
        }
        let size = recipe.input_size(data.image_size)?;
        let transform = Transform::standard(data.fit, size, data.stats);
        let padded_from = match transform.fit {
            Fit::Pad => Some(data.train.get(0)?.image.width),
            Fit::Resize | Fit::Whole | Fit::Cover => None,
        };
        let resized = match transform.fit {
            Fit::Pad | Fit::Resize => None,
            Fit::Whole => Some(Resized::Whole),
            Fit::Cover => Some(Resized::Cover),
        };
        let Normalisation { mean, std } = data.stats;
        Ok(Self {
            recipe: recipe.identity(),
            classes: if several { Vec::new() } else { data.train.class_names().to_vec() },
            tasks: if several { Question::all(&*data.train) } else { Vec::new() },
            input: Input {
                size: size.height,
                width: (size.width != size.height).then_some(size.width),
                padded_from,
                resized,
                mean,
                std,
            },
        })
    }

    /// The network in words, for messages.
    pub fn network(&self) -> String {
        let Recipe { model, variant, .. } = &self.recipe;
        match self.tasks.len() {
            0 => format!("{model} ({variant}, {} classes)", self.classes.len()),
            tasks => format!("{model} ({variant}, {tasks} tasks)"),
        }
    }

    /// Builds the network; its parameters come from `params`.
    ///
    /// # Errors
    /// If the recipe's model is not known.
    pub fn build(&self, params: &ParamStore) -> Result<Network> {
        let spec = abn_backbones::find(&self.recipe.model)?;
        if !self.tasks.is_empty() {
            let (tasks, options) = (self.multi_tasks(), self.task_options()?);
            let model = abn_multitask::build(&spec, &tasks, &options, params.var_builder())?;
            return Ok(Network::Tasks(model));
        }
        Ok(Network::Classes(spec.build(
            self.recipe.variant,
            &self.options(),
            params.var_builder(),
        )?))
    }

    /// What the network takes.
    ///
    /// # Errors
    /// If the recipe's model is not known.
    pub fn cost(&self) -> Result<Cost> {
        let spec = abn_backbones::find(&self.recipe.model)?;
        let Size { height, width } = self.input.image_size();
        if !self.tasks.is_empty() {
            let (tasks, options) = (self.multi_tasks(), self.task_options()?);
            return Ok(abn_multitask::cost_at(&spec, &tasks, &options, (height, width))?);
        }
        Ok(spec.cost_at(self.recipe.variant, &self.options(), (height, width))?)
    }

    fn multi_tasks(&self) -> Vec<abn_multitask::Task> {
        let task = |task: &Question| abn_multitask::Task::new(&*task.name, task.answers.len());
        self.tasks.iter().map(task).collect()
    }

    fn task_options(&self) -> Result<abn_multitask::BuildOptions> {
        let variant = task_variant(&self.recipe)?;
        let Recipe { form, mechanism, tasks_per_pass, .. } = self.recipe;
        let config = abn_multitask::Config { mechanism, tasks_per_pass, ..form.config() };
        Ok(abn_multitask::BuildOptions {
            bn_momentum: self.recipe.bn_momentum,
            dropout: self.recipe.dropout,
            ..abn_multitask::BuildOptions::new(variant, config)
        })
    }

    fn options(&self) -> BuildOptions {
        BuildOptions {
            mechanism: self.recipe.mechanism,
            preset: self.recipe.preset,
            bn_momentum: self.recipe.bn_momentum,
            dropout: self.recipe.dropout,
            ..BuildOptions::new(self.classes.len())
        }
    }

    /// The steps from a dataset's image to the network's input.
    pub fn transform(&self) -> Transform {
        let Input { padded_from, resized, mean, std, .. } = self.input;
        let fit = match resized {
            Some(Resized::Whole) => Fit::Whole,
            Some(Resized::Cover) => Fit::Cover,
            None if padded_from.is_some() => Fit::Pad,
            None => Fit::Resize,
        };
        Transform::standard(fit, self.input.image_size(), Normalisation { mean, std })
    }

    /// Names for `count` classes that nobody has named: their numbers.
    pub fn numbered_classes(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    /// Refuses a dataset whose tasks are not the network's.
    ///
    /// # Errors
    /// Names the first task that differs.
    pub fn check_tasks(&self, data: &dyn Dataset) -> Result<()> {
        let theirs = Question::all(data);
        if self.tasks.len() != theirs.len() {
            return Err(Error::Invalid(format!(
                "the dataset has {} task(s), the checkpoint's network {}",
                theirs.len(),
                self.tasks.len()
            )));
        }
        match self.tasks.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
            None => Ok(()),
            Some((ours, theirs)) => Err(Error::Invalid(format!(
                "the dataset asks for {:?} where the checkpoint's network answers {:?}",
                theirs.name, ours.name
            ))),
        }
    }

    /// Refuses a dataset whose classes are not the network's. Of
    /// [numbered](Self::numbered_classes) classes only the count is compared.
    ///
    /// # Errors
    /// Names the first class that differs.
    pub fn check_classes(&self, data: &dyn Dataset) -> Result<()> {
        let (ours, theirs) = (&self.classes, data.class_names());
        if ours.len() != theirs.len() {
            return Err(Error::Invalid(format!(
                "the dataset has {} classes, the checkpoint's network {}",
                theirs.len(),
                ours.len()
            )));
        }
        if *ours == Self::numbered_classes(ours.len()) {
            return Ok(());
        }
        match ours.iter().zip(theirs).enumerate().find(|(_, (ours, theirs))| ours != theirs) {
            None => Ok(()),
            Some((label, (ours, theirs))) => Err(Error::Invalid(format!(
                "class {label} is {theirs:?} in the dataset, but {ours:?} to the checkpoint's network"
            ))),
        }
    }

    /// Images of any size as the network's inputs (N, 3, H, W), and how far each input
    /// reaches over its image, as [`prepare`](Self::prepare) tells.
    ///
    /// # Errors
    /// If an image's bytes do not fit its size.
    pub fn inputs<'a>(
        &self,
        images: impl IntoIterator<Item = &'a Image>,
    ) -> Result<(Tensor, Vec<Reach>)> {
        let Size { height, width } = self.input.image_size();
        let (mut inputs, mut reaches) = (Vec::new(), Vec::new());
        for image in images {
            let (input, reach) = self.prepare(image)?;
            inputs.extend(input);
            reaches.push(reach);
        }
        let shape = (reaches.len(), 3, height, width);
        Ok((Tensor::from_vec(inputs, shape, &Device::Cpu)?, reaches))
    }

    /// An image of any size as the network's input, (3, H, W), and how far the input
    /// reaches over the image: the ratio of their sides.
    ///
    /// An image of another size than the dataset's is resized first.
    ///
    /// # Errors
    /// If the image's bytes do not fit its size.
    pub fn prepare(&self, image: &Image) -> Result<(Vec<f32>, Reach)> {
        let transform = self.transform();
        let size = self.input.image_size();
        let resized = match self.input.padded_from {
            Some(side) if (image.height, image.width) != (size.height, size.width) => {
                Some(resized(image, side)?)
            }
            _ => None,
        };
        let image = resized.as_ref().unwrap_or(image);
        let mut input = vec![0.0; transform.output_len()];
        transform.apply(image, None, &mut input)?;
        let fitted = match transform.fit {
            Fit::Pad => Size { height: image.height, width: image.width },
            Fit::Resize | Fit::Whole | Fit::Cover => transform.fitted(image),
        };
        let reach = Reach {
            width: size.width as f32 / fitted.width as f32,
            height: size.height as f32 / fitted.height as f32,
        };
        Ok((input, reach))
    }
}

/// The variant of a network for several tasks.
fn task_variant(recipe: &Recipe) -> Result<abn_multitask::Variant> {
    match recipe.variant {
        Variant::Baseline => Ok(abn_multitask::Variant::Baseline),
        Variant::Abn => Ok(abn_multitask::Variant::Abn),
        other @ (Variant::Cam | Variant::Control) => Err(Error::Setting {
            key: "variant",
            problem: format!("must be \"abn\" or \"baseline\" for several tasks, is \"{other}\""),
        }),
    }
}

/// Refuses settings that a network for several tasks does not have.
fn check_for_tasks(recipe: &Recipe, dataset: &str) -> Result<()> {
    task_variant(recipe)?;
    let refuse = |key, problem: &str| {
        let problem = format!("{problem} for a dataset of several tasks, such as {dataset}");
        Err(Error::Setting { key, problem })
    };
    if recipe.label_smoothing != 0.0 {
        return refuse("label_smoothing", "must be 0");
    }
    if recipe.images_per_class.is_some() {
        return refuse("images_per_class", "cannot be given");
    }
    Ok(())
}

/// An image at `side` × `side`, bilinear (smoothed where it shrinks).
fn resized(image: &Image, side: usize) -> Result<Image> {
    let picture = explain::picture(image)?;
    let pixels = u32::try_from(side).unwrap_or(u32::MAX);
    let data = resize(&picture, pixels, pixels, FilterType::Triangle).into_raw();
    Ok(Image { width: side, height: side, channels: 3, data })
}
