//! A user's own images: `<class>/*.{png,jpg,jpeg}`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Dataset, Normalisation, Sample, Splits, Task};
use crate::decode::read_image;
use crate::error::{Error, Result};
use crate::listing::{class_folders, images_in};
use crate::subset::Subset;
use crate::transform::Fit;

/// Side of the images when the network does not say.
pub(crate) const IMAGE_SIZE: usize = 224;
/// Where there is no test split, every how manyth image of a class is held out for it.
const HELD_OUT: usize = 5;

/// One folder per class, in the order of their names; within it the images, likewise.
///
/// Images are decoded when they are asked for. Only the paths are held in memory.
#[derive(Clone, Debug)]
pub struct FolderDataset {
    tasks: [Task; 1],
    files: Vec<(PathBuf, u32)>,
}

impl FolderDataset {
    /// Lists `root/<class>/*.{png,jpg,jpeg}`. Files beside the class folders, files of other
    /// kinds and names that begin with a dot are passed over.
    ///
    /// # Errors
    /// If the folder cannot be read, holds no class folder, or a class folder holds no image.
    pub fn open(root: &Path) -> Result<Self> {
        let class_names = class_folders(root)?;
        Self::list(root, &class_names, class_names.clone())
    }

    /// As [`open`](Self::open), with the labels of `class_names` (those of the training split):
    /// a class may be absent here, but none may be new.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if there is a class folder that `class_names` lacks.
    pub fn open_with_classes(root: &Path, class_names: &[String]) -> Result<Self> {
        let found = class_folders(root)?;
        if let Some(new) = found.iter().find(|name| !class_names.contains(name)) {
            let known = class_names.join(", ");
            return Err(Error::layout(
                root.join(new),
                format!("class `{new}` has no training images; the training classes are {known}"),
            ));
        }
        Self::list(root, &found, class_names.to_vec())
    }

    /// These files, each with its label.
    ///
    /// # Errors
    /// If a label is not below the number of classes.
    pub fn from_files(class_names: Vec<String>, files: Vec<(PathBuf, u32)>) -> Result<Self> {
        let classes = class_names.len();
        match files.iter().position(|(_, label)| *label as usize >= classes) {
            None => Ok(Self { tasks: [Task::classes(class_names)], files }),
            Some(sample) => {
                let (path, label) = files[sample].clone();
                Err(Error::Label { path, sample, label, classes })
            }
        }
    }

    /// The file of each sample, and its label.
    pub fn files(&self) -> &[(PathBuf, u32)] {
        &self.files
    }

    fn file(&self, index: usize) -> Result<&(PathBuf, u32)> {
        self.files.get(index).ok_or(Error::Index { index, len: self.files.len() })
    }

    fn list(root: &Path, folders: &[String], class_names: Vec<String>) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            let label = class_names.iter().position(|name| name == folder);
            let label = label.and_then(|label| u32::try_from(label).ok());
            let label =
                label.ok_or_else(|| Error::Config(format!("class `{folder}` has no label")))?;
            let images = images_in(&root.join(folder))?;
            files.extend(images.into_iter().map(|path| (path, label)));
        }
        Ok(Self { tasks: [Task::classes(class_names)], files })
    }
}

impl Dataset for FolderDataset {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (path, label) = self.file(index)?;
        Ok(Sample { image: read_image(path)?, labels: vec![*label] })
    }

    fn labels(&self, index: usize) -> Result<Vec<u32>> {
        Ok(vec![self.file(index)?.1])
    }
}

/// The splits `root/train` and `root/test` (or `root/val`); or, if `root` holds the class folders
/// themselves, all images but every fifth of each class, and those.
pub(crate) fn splits(root: &Path) -> Result<Splits> {
    let (train, test) = match split_folders(root)? {
        Some((train, test)) => {
            let train = FolderDataset::open(&train)?;
            let test = FolderDataset::open_with_classes(&test, train.class_names())?;
            (Arc::new(train) as Arc<dyn Dataset>, Arc::new(test) as Arc<dyn Dataset>)
        }
        None => held_out(root)?,
    };
    Ok(Splits {
        name: "folder".to_owned(),
        train,
        test,
        stats: Normalisation::IMAGENET,
        fit: Fit::Resize,
        image_size: IMAGE_SIZE.into(),
    })
}

/// The folders of the two splits, or none if `root` holds the class folders.
fn split_folders(root: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let expected = "expected train/<class>/ and test/<class>/, or just <class>/, with png or jpg \
                    images";
    if !root.is_dir() {
        return Err(Error::layout(root, format!("no such folder; {expected}")));
    }
    let folder = |names: &[&str]| names.iter().map(|n| root.join(n)).find(|path| path.is_dir());
    let (train, test) = (folder(&["train"]), folder(&["test", "val"]));
    // A folder of images is a class, even if it is called `train`: there are photographs of trains.
    let is_class = |path: &PathBuf| images_in(path).is_ok() && class_folders(path).is_err();
    if [&train, &test].into_iter().flatten().all(is_class) {
        return Ok(None);
    }
    let needed = |folder: Option<PathBuf>, name| {
        folder.ok_or_else(|| Error::layout(root, format!("no folder `{name}`; {expected}")))
    };
    Ok(Some((needed(train, "train")?, needed(test, "test")?)))
}

/// All images but every fifth of each class, and those.
///
/// Counted by name, so that the splits are the same wherever the folder is, and adding a class
/// changes no other.
fn held_out(root: &Path) -> Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    let all = FolderDataset::open(root)?;
    let mut counts = vec![0; all.num_classes()];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, (_, label)) in all.files.iter().enumerate() {
        let count = &mut counts[*label as usize];
        *count += 1;
        if *count % HELD_OUT == 0 { test.push(index) } else { train.push(index) }
    }
    if test.is_empty() {
        let reason = format!(
            "no test/ folder, and no class has {HELD_OUT} images, of which one could be held out"
        );
        return Err(Error::layout(root, reason));
    }
    let all: Arc<dyn Dataset> = Arc::new(all);
    Ok((Arc::new(Subset::new(all.clone(), train)?), Arc::new(Subset::new(all, test)?)))
}

#[cfg(test)]
mod tests;
