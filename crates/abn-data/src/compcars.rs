//! CompCars (Yang, Luo, Loy and Tang, CVPR 2015), web-nature: photographs of cars by maker, model and
//! year.
//!
//! - `image/<maker>/<model>/<year>/<name>.jpg`: the images; makers and models are numbers.
//! - `train_test_split/classification/train.txt` and `test.txt`: a line for each image, its path below
//!   `image/`. These lists decide what is trained on and tested on. As distributed they name 16,016
//!   and 14,939 images of 431 models; the paper of ABN counts 36,451 and 15,626 of 432.
//! - `misc/make_model_name.mat`: the names, in two cell arrays `make_names` and `model_names`.
//! - `label/<maker>/<model>/<year>/<name>.txt`: from where the car is seen, in the first line.
//!
//! Photographs are resized to cover 323×224 with their aspect ratio.

mod names;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::names::Names;
use crate::dataset::{Normalisation, Splits, Task};
use crate::error::{Error, Result};
use crate::listing::is_image;
use crate::lists::{List, ListedDataset, told};
use crate::places::Places;
use crate::size::Size;
use crate::transform::Fit;

const SIZE: Size = Size { height: 224, width: 323 };
const LISTS: &str = "train_test_split/classification";
const HELP: &str = "CompCars needs the agreement of its homepage: `cargo xtask fetch compcars` says how; put what is \
                    inside its data/ (image, label, misc, train_test_split) into one folder and name that as the \
                    data folder";

/// From where a car is seen: the numbers of the label files, in this order from 1; −1 is the last.
const VIEWPOINTS: [&str; 6] = ["front", "rear", "side", "front-side", "rear-side", "unknown"];

/// What is asked of a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Model,
    Maker,
    /// From where it is seen.
    Viewpoint,
}

/// The dataset of this name with these questions as its tasks, from `folder` or
/// `datasets/compcars/raw`.
pub(crate) fn splits(name: &str, questions: &[Question], folder: Option<&Path>) -> Result<Splits> {
    let places = Places::new(name, folder, &["datasets/compcars/raw"], HELP);
    let places = places.with_folders(&["data"]);
    let list = |file: &str| List::read(places.find(&[&format!("{LISTS}/{file}")])?);
    let (train, test) = (list("train.txt")?, list("test.txt")?);
    let names = Names::read(&places.find(&["misc/make_model_name.mat"])?)?;
    let root = places.find_folder("image")?;

    let mut seen = HashSet::new();
    let (train_cars, test_cars) =
        (cars(&train, &names, &mut seen)?, cars(&test, &names, &mut seen)?);
    let kinds = Kinds::of(&train, &train_cars)?;
    kinds.hold(&test, &test_cars)?;
    check_images(&root.join("image"), &train, &train_cars)?;
    check_images(&root.join("image"), &test, &test_cars)?;

    let tasks: Arc<[Task]> = questions.iter().map(|q| kinds.task(*q, &names)).collect();
    let images: Arc<Path> = root.join("image").into();
    let split = |cars: &[Car<'_>]| {
        let mut split = ListedDataset::new(tasks.clone(), images.clone());
        for car in cars {
            let mut labels = Vec::new();
            for question in questions {
                labels.push(match question {
                    Question::Model => kinds.model(car),
                    Question::Maker => kinds.maker(car),
                    Question::Viewpoint => viewpoint(&root.join("label"), car)?,
                });
            }
            split.push(car.path, labels);
        }
        Ok::<_, Error>(Arc::new(split))
    };
    Ok(Splits {
        name: name.to_owned(),
        train: split(&train_cars)?,
        test: split(&test_cars)?,
        stats: Normalisation::IMAGENET,
        fit: Fit::Cover,
        image_size: SIZE,
    })
}

/// An image of a list.
#[derive(Clone, Copy, Debug)]
struct Car<'l> {
    line: usize,
    path: &'l str,
    maker: usize,
    model: usize,
}

/// The images of a list; `seen` are those of the other list.
fn cars<'l>(list: &'l List, names: &Names, seen: &mut HashSet<String>) -> Result<Vec<Car<'l>>> {
    let mut cars = Vec::new();
    for (line, content) in list.lines() {
        let path = content.trim();
        let parts: Vec<&str> = path.split('/').collect();
        let [maker, model, year, image] = parts[..] else {
            return Err(list.wrong(line, "`MAKER/MODEL/YEAR/NAME.jpg`", path));
        };
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
        if !plain(year) || !plain(image) || !is_image(image.as_ref()) {
            return Err(list.wrong(line, "`MAKER/MODEL/YEAR/NAME.jpg`", path));
        }
        let number = |text: &str, what: &str, count: usize| {
            let number = text.parse().ok().filter(|number| (1..=count).contains(number));
            let expected = || format!("a {what} of make_model_name.mat, 1 to {count}");
            number.ok_or_else(|| list.wrong(line, expected(), text))
        };
        let maker = number(maker, "maker", names.makers.len())?;
        let model = number(model, "model", names.models.len())?;
        if !seen.insert(path.to_owned()) {
            return Err(list.wrong(line, "each image once, in one of the lists", path));
        }
        cars.push(Car { line, path, maker, model });
    }
    match cars.is_empty() {
        true => Err(list.wrong(1, "a line for each image", "")),
        false => Ok(cars),
    }
}

/// The models that are trained on, each of one maker: labels count them by number.
struct Kinds {
    /// Maker of each model.
    models: BTreeMap<usize, usize>,
    makers: Vec<usize>,
}

impl Kinds {
    fn of(list: &List, cars: &[Car<'_>]) -> Result<Self> {
        let mut models = BTreeMap::new();
        for car in cars {
            let maker = *models.entry(car.model).or_insert(car.maker);
            if maker != car.maker {
                let expected = format!("model {} of maker {maker}, as before", car.model);
                return Err(list.wrong(car.line, expected, car.path));
            }
        }
        let mut makers: Vec<usize> = models.values().copied().collect();
        makers.sort_unstable();
        makers.dedup();
        Ok(Self { models, makers })
    }

    /// Refuses images of other models.
    fn hold(&self, list: &List, cars: &[Car<'_>]) -> Result<()> {
        let known = |car: &&Car<'_>| self.models.get(&car.model) != Some(&car.maker);
        match cars.iter().find(known) {
            None => Ok(()),
            Some(car) => Err(list.wrong(car.line, "a maker and model of train.txt", car.path)),
        }
    }

    fn model(&self, car: &Car<'_>) -> u16 {
        self.models.range(..car.model).count() as u16
    }

    fn maker(&self, car: &Car<'_>) -> u16 {
        self.makers.partition_point(|maker| *maker < car.maker) as u16
    }

    fn task(&self, question: Question, names: &Names) -> Task {
        let (name, categories) = match question {
            Question::Maker => {
                ("maker", distinct(self.makers.iter().map(|m| (*m, names.makers[m - 1].clone()))))
            }
            Question::Model => {
                let name = |(model, maker): (&usize, &usize)| {
                    let (model_name, maker) = (&names.models[model - 1], &names.makers[maker - 1]);
                    // Most models' names begin with their makers'.
                    match model_name.to_lowercase().starts_with(&maker.to_lowercase()) {
                        true => (*model, model_name.clone()),
                        false => (*model, format!("{maker} {model_name}")),
                    }
                };
                ("model", distinct(self.models.iter().map(name)))
            }
            Question::Viewpoint => ("viewpoint", VIEWPOINTS.map(str::to_owned).into()),
        };
        Task { name: name.to_owned(), categories }
    }
}

/// The names; those that several numbers have, with the number.
fn distinct(numbered: impl Iterator<Item = (usize, String)>) -> Vec<String> {
    let numbered: Vec<_> = numbered.collect();
    let again = |name: &str| numbered.iter().filter(|(_, other)| other == name).count() > 1;
    let told = |(number, name): &(usize, String)| match again(name) {
        true => format!("{name} ({number})"),
        false => name.clone(),
    };
    numbered.iter().map(told).collect()
}

fn check_images(root: &Path, list: &List, cars: &[Car<'_>]) -> Result<()> {
    let missing = cars.iter().map(|car| car.path).filter(|path| !root.join(path).is_file());
    match told(&missing.collect::<Vec<_>>()) {
        None => Ok(()),
        Some(missing) => {
            let (count, list) = (cars.len(), list.path.display());
            let reason = format!("lacks {missing}; expected the {count} images of {list}");
            Err(Error::layout(root, reason))
        }
    }
}

/// From where the car is seen, by its label file.
fn viewpoint(root: &Path, car: &Car<'_>) -> Result<u16> {
    let path: PathBuf = root.join(car.path).with_extension("txt");
    let list = List::read(path)?;
    let (line, content) = list.lines().next().unwrap_or((1, ""));
    match content.trim().parse::<i32>() {
        Ok(-1) => Ok(VIEWPOINTS.len() as u16 - 1),
        Ok(number @ 1..=5) => Ok(number as u16 - 1),
        _ => Err(list.wrong(line, "a viewpoint, 1 to 5 or -1", content)),
    }
}

#[cfg(test)]
mod tests;
