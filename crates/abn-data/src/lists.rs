//! Text files that list images, and the datasets that follow from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Dataset, Sample, Task};
use crate::decode::read_image;
use crate::error::{Error, Result};

/// More than any list of images takes.
const MAX_BYTES: u64 = 256 << 20;
/// Images that a message names, at most.
const NAMED: usize = 3;

/// A text file whose lines tell something.
#[derive(Debug)]
pub(crate) struct List {
    pub path: PathBuf,
    text: String,
}

impl List {
    /// Reads a list; line ends may be those of any system.
    pub fn read(path: PathBuf) -> Result<Self> {
        let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        if size > MAX_BYTES {
            let expected = format!("a list of at most {MAX_BYTES} bytes");
            return Err(Error::format(path, expected, format!("{size} bytes")));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
                Err(Error::line(path, line, "a list in ASCII or UTF-8", "other bytes"))
            }
        }
    }

    /// Number, from 1, and content of each line; empty ones at the end do not count.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.trim_ascii_end().lines();
        lines.enumerate().map(|(index, line)| (index + 1, line))
    }

    /// That this line is not what it should be.
    pub fn wrong(&self, line: usize, expected: impl Into<String>, found: &str) -> Error {
        Error::line(&self.path, line, expected, format!("{found:.60?}"))
    }
}

/// Images by name in a folder, and their labels. Images are decoded when they are asked for.
#[derive(Clone, Debug)]
pub(crate) struct ListedDataset {
    tasks: Arc<[Task]>,
    root: Arc<Path>,
    names: Vec<String>,
    /// (N, T), as small as CelebA's eight million need.
    labels: Vec<u16>,
}

impl ListedDataset {
    /// No images of the folder `root` yet.
    pub fn new(tasks: Arc<[Task]>, root: Arc<Path>) -> Self {
        Self { tasks, root, names: Vec::new(), labels: Vec::new() }
    }

    /// One more image, with a label for each task.
    pub fn push(&mut self, name: &str, labels: impl IntoIterator<Item = u16>) {
        self.names.push(name.to_owned());
        self.labels.extend(labels);
        debug_assert_eq!(self.labels.len(), self.names.len() * self.tasks.len());
    }
}

impl Dataset for ListedDataset {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let labels = self.labels(index)?;
        Ok(Sample { image: read_image(&self.root.join(&self.names[index]))?, labels })
    }

    fn labels(&self, index: usize) -> Result<Vec<u32>> {
        if index >= self.len() {
            return Err(Error::Index { index, len: self.len() });
        }
        let tasks = self.tasks.len();
        let labels = &self.labels[index * tasks..(index + 1) * tasks];
        Ok(labels.iter().copied().map(u32::from).collect())
    }
}

/// How many images these are, and the first of them by name; `None` if there are none.
pub(crate) fn told(names: &[&str]) -> Option<String> {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len() {
        0 => None,
        1 => Some(format!("1 image ({first})")),
        count if count <= NAMED => Some(format!("{count} images ({first})")),
        count => Some(format!("{count} images ({first}, …)")),
    }
}
