//! CelebA (Liu, Luo, Wang and Tang, ICCV 2015), aligned and cropped: 202,599 photographs of faces,
//! 178×218, with forty attributes that each is there or not.
//!
//! - `list_attr_celeba.txt`: the number of images, the names of the attributes, and a line for each
//!   image: its name and 1 or −1 for each attribute.
//! - `list_eval_partition.txt`: a line for each image: its name and 0 (training), 1 (validation) or
//!   2 (test).
//! - `img_align_celeba/`: the images.
//!
//! An attribute is a task of two categories, `no` and `yes`. Faces are aligned, so the whole image is
//! resized to the network's input, and nothing of it is cut off.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::dataset::{Dataset, Normalisation, Splits, Task};
use crate::error::{Error, Result};
use crate::listing::{entries, is_image};
use crate::lists::{List, ListedDataset, told};
use crate::places::Places;
use crate::transform::Fit;

const IMAGES: &str = "img_align_celeba";
const ATTRIBUTES: [&str; 2] = ["list_attr_celeba.txt", "Anno/list_attr_celeba.txt"];
const PARTITION: [&str; 2] = ["list_eval_partition.txt", "Eval/list_eval_partition.txt"];
const SIDE: usize = 224;
const HELP: &str = "CelebA needs your agreement to its terms: `cargo xtask fetch celeba` says how; put \
                    img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt into one \
                    folder (or Img/, Anno/ and Eval/ as distributed) and name it as the data folder";

/// The partitions that a split is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    name: &'static str,
    train: &'static [u8],
    test: u8,
}

/// Trained on training and validation images, tested on test images: the paper's.
pub(crate) const PAPER: Protocol = Protocol { name: "celeba", train: &[0, 1], test: 2 };

/// Trained on training images, tested on validation images: to choose settings by.
pub(crate) const VALIDATION: Protocol = Protocol { name: "celeba-val", train: &[0], test: 1 };

/// The dataset, from `folder` or `datasets/celeba/raw`.
pub(crate) fn splits(protocol: &Protocol, folder: Option<&Path>) -> Result<Splits> {
    let places = Places::new(protocol.name, folder, &["datasets/celeba/raw"], HELP);
    let places = places.with_folders(&["celeba", "CelebA"]);
    let attributes = Attributes::parse(List::read(places.find(&ATTRIBUTES)?)?)?;
    let partition = List::read(places.find(&PARTITION)?)?;
    let partitions = partitions(&partition, &attributes)?;
    let root = places.with_folders(&["Img"]).find_folder(IMAGES)?.join(IMAGES);
    check_images(&root, &attributes)?;

    let root: Arc<Path> = root.into();
    let split = |which: &[u8]| {
        let mut split = ListedDataset::new(attributes.tasks.clone(), root.clone());
        for (row, name) in attributes.names.iter().enumerate() {
            if which.contains(&partitions[row]) {
                split.push(name, attributes.labels(row));
            }
        }
        match split.is_empty() {
            true => {
                let expected = format!("images of partition {}", which[0]);
                Err(Error::format(&partition.path, expected, "none"))
            }
            false => Ok(Arc::new(split)),
        }
    };
    Ok(Splits {
        name: protocol.name.to_owned(),
        train: split(protocol.train)?,
        test: split(&[protocol.test])?,
        stats: Normalisation::IMAGENET,
        fit: Fit::Whole,
        image_size: SIDE.into(),
    })
}

/// What `list_attr_celeba.txt` tells.
struct Attributes {
    list: List,
    tasks: Arc<[Task]>,
    names: Vec<String>,
    /// By image and attribute.
    present: Vec<bool>,
}

impl Attributes {
    fn parse(list: List) -> Result<Self> {
        let mut lines = list.lines();
        let (_, first) = lines.next().unwrap_or((1, ""));
        let count: Option<usize> = first.trim().parse().ok();
        let count = count.ok_or_else(|| list.wrong(1, "the number of images", first))?;
        let (_, second) = lines.next().unwrap_or((2, ""));
        let attributes: Vec<&str> = second.split_whitespace().collect();
        if attributes.is_empty() {
            return Err(list.wrong(2, "the names of the attributes", second));
        }
        let mut seen = HashSet::new();
        if let Some(again) = attributes.iter().find(|name| !seen.insert(**name)) {
            return Err(list.wrong(2, "each attribute once", again));
        }
        let (mut names, mut present, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (line, content) in lines {
            let mut columns = content.split_whitespace();
            let name = columns.next().unwrap_or_default();
            if !is_plain(name) {
                return Err(list.wrong(line, "the name of an image", name));
            }
            if !seen.insert(name) {
                return Err(list.wrong(line, "each image once", name));
            }
            let found = columns.clone().count();
            if found != attributes.len() {
                let expected = format!("a name and {} values", attributes.len());
                return Err(list.wrong(line, expected, &format!("{found} values")));
            }
            for (value, attribute) in columns.zip(&attributes) {
                present.push(match value {
                    "1" => true,
                    "-1" => false,
                    other => {
                        return Err(list.wrong(line, format!("1 or -1 for {attribute}"), other));
                    }
                });
            }
            names.push(name.to_owned());
        }
        if names.len() != count || names.is_empty() {
            let expected = format!("{}, the number of the images below", names.len().max(1));
            return Err(list.wrong(1, expected, first.trim()));
        }
        let task = |name: &&str| Task {
            name: (*name).to_owned(),
            categories: vec!["no".to_owned(), "yes".to_owned()],
        };
        let tasks = attributes.iter().map(task).collect();
        Ok(Self { tasks, names, present, list })
    }

    /// The labels of the image in this row.
    fn labels(&self, row: usize) -> impl Iterator<Item = u16> {
        let count = self.tasks.len();
        self.present[row * count..(row + 1) * count].iter().copied().map(u16::from)
    }
}

/// Whether it is the name of an image, and no path that leads elsewhere.
fn is_plain(name: &str) -> bool {
    is_image(name.as_ref()) && !name.contains(['/', '\\'])
}

/// The partition of each image, in the order of the attributes' rows.
fn partitions(list: &List, attributes: &Attributes) -> Result<Vec<u8>> {
    const NONE: u8 = u8::MAX;
    let rows: HashMap<&str, usize> =
        attributes.names.iter().enumerate().map(|(row, name)| (name.as_str(), row)).collect();
    let mut partitions = vec![NONE; rows.len()];
    for (line, content) in list.lines() {
        let (name, partition) = match content.split_whitespace().collect::<Vec<_>>()[..] {
            [name, partition] => (name, partition),
            _ => return Err(list.wrong(line, "`NAME PARTITION`", content)),
        };
        let expected = format!("an image of {}", attributes.list.path.display());
        let row = *rows.get(name).ok_or_else(|| list.wrong(line, expected, name))?;
        if partitions[row] != NONE {
            return Err(list.wrong(line, "each image once", name));
        }
        partitions[row] = match partition {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            other => {
                let expected = "partition 0 (training), 1 (validation) or 2 (test)";
                return Err(list.wrong(line, expected, other));
            }
        };
    }
    let without = |(_, partition): &(_, &u8)| **partition == NONE;
    let without = attributes.names.iter().zip(&partitions).filter(without);
    match told(&without.map(|(name, _)| name.as_str()).collect::<Vec<_>>()) {
        None => Ok(partitions),
        Some(images) => {
            let expected = format!("a partition for each of {} images", partitions.len());
            Err(Error::format(&list.path, expected, format!("none for {images}")))
        }
    }
}

/// Holds the folder to the list: the same images in both.
fn check_images(root: &Path, attributes: &Attributes) -> Result<()> {
    let mut present = Vec::new();
    for entry in entries(root)? {
        if !entry.is_folder && is_image(&entry.name) {
            present.push(entry.name.to_string_lossy().into_owned());
        }
    }
    let listed: HashSet<&str> = attributes.names.iter().map(String::as_str).collect();
    let extra: Vec<&str> =
        present.iter().map(String::as_str).filter(|name| !listed.contains(name)).collect();
    let present: HashSet<&str> = present.iter().map(String::as_str).collect();
    let missing: Vec<&str> = attributes
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| !present.contains(name))
        .collect();
    let problem = match (told(&missing), told(&extra)) {
        (None, None) => return Ok(()),
        (Some(missing), None) => format!("lacks {missing}"),
        (None, Some(extra)) => format!("has {extra} too many"),
        (Some(missing), Some(extra)) => format!("lacks {missing} and has {extra} too many"),
    };
    let (count, list) = (attributes.names.len(), attributes.list.path.display());
    Err(Error::layout(root, format!("{problem}; expected the {count} images of {list}, no others")))
}

#[cfg(test)]
mod tests;
