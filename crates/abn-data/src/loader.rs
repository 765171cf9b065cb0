//! Batches of an epoch, prepared in the background.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use crate::dataset::{Dataset, Task};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, epoch_order};
use crate::size::Size;
use crate::transform::{CHANNELS, Fit, Placement, Transform};

/// What a [`Loader`] does with a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch_size: usize,
    /// Visit the samples in an order drawn from (seed, epoch), rather than the dataset's.
    pub shuffle: bool,
    /// Crop and flip at random, drawn from (seed, epoch, sample).
    pub augment: bool,
    /// The run's seed.
    pub seed: u64,
    /// Which epoch this is.
    pub epoch: u64,
    /// Leave out a last batch that is smaller than the others.
    pub drop_last: bool,
    /// How many batches may lie ready, at least 1; more only cost memory.
    pub prefetch: usize,
    /// Which part of each batch is wanted, if several processes share them.
    pub shard: Shard,
}

/// One of several processes that share each batch: together, their parts are the batch in its
/// order, with the same augmentation, as if one process had it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the process, from 0.
    pub rank: usize,
    /// How many there are.
    pub of: usize,
}

impl Default for Shard {
    /// One process, which has everything.
    fn default() -> Self {
        Self { rank: 0, of: 1 }
    }
}

impl Shard {
    /// Which of `count` samples are this process's: parts differ by one sample at most, the first
    /// ones being the larger, so that only the first process always has some.
    pub fn range(self, count: usize) -> Range<usize> {
        let of = self.of.max(1);
        let (size, larger) = (count / of, count % of);
        let start = |rank: usize| rank * size + rank.min(larger);
        start(self.rank)..start(self.rank + 1)
    }
}

impl Default for LoaderConfig {
    /// Batches of 128 in the dataset's order, as they are: what evaluation needs.
    fn default() -> Self {
        Self {
            batch_size: 128,
            shuffle: false,
            augment: false,
            seed: 0,
            epoch: 0,
            drop_last: false,
            prefetch: 2,
            shard: Shard::default(),
        }
    }
}

/// A batch as a network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The images, of `shape`.
    pub images: Vec<f32>,
    /// The category of each in each task, (N, T): an image's labels lie together.
    pub labels: Vec<u32>,
    /// Number of tasks (T).
    pub tasks: usize,
    /// The position in the dataset of each.
    pub indices: Vec<usize>,
    /// (N, 3, H, W).
    pub shape: [usize; 4],
}

/// A batch whose pixels are elsewhere: which images, and how each is laid into the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// As [`Batch::indices`].
    pub indices: Vec<usize>,
    /// How each image is laid; none is resized.
    pub placements: Vec<Placement>,
    /// As [`Batch::labels`].
    pub labels: Vec<u32>,
    /// As [`Batch::tasks`].
    pub tasks: usize,
    /// As [`Batch::shape`].
    pub shape: [usize; 4],
}

/// Iterates over the batches of one epoch, or over a [`Shard`]'s parts of them, some of which may be
/// without samples.
///
/// A thread of its own prepares them, decoding and transforming the samples of a batch in
/// parallel, at most `prefetch` ahead. The batches are the same for any number of threads. If a
/// sample cannot be had, its batch is the error, and the last item. Dropping the loader ends the
/// thread, after the batch that it is preparing.
#[derive(Debug)]
pub struct Loader<B = Batch> {
    batches: usize,
    // `None` only while the loader is dropped, or after the last batch.
    receiver: Option<Receiver<Result<B>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Begins to prepare the batches.
    ///
    /// # Errors
    /// If the batch size is 0, the dataset is empty or has no task, the shard's number is not below
    /// how many there are, or no thread can be had.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        transform: Transform,
        config: LoaderConfig,
    ) -> Result<Self> {
        let data = dataset.clone();
        Self::start(&*dataset, config, move |indices| batch(&*data, &transform, &config, indices))
    }
}

impl Loader<Draft> {
    /// Begins to prepare the same batches without their pixels, for a dataset that has an
    /// [`image_shape`](Dataset::image_shape).
    ///
    /// # Errors
    /// As [`Loader::new`], and if images are of several shapes or would be resized.
    pub fn drafts(
        dataset: Arc<dyn Dataset>,
        transform: Transform,
        config: LoaderConfig,
    ) -> Result<Self> {
        let unsuited = |what: &str| Error::Config(format!("drafts of batches of images {what}"));
        let [height, width, _] =
            dataset.image_shape().ok_or_else(|| unsuited("of no common shape"))?;
        let own = Size { height, width };
        if transform.place(own, None)?.resize.is_some() {
            return Err(unsuited("that are resized"));
        }
        let data = dataset.clone();
        Self::start(&*dataset, config, move |indices| {
            draft(&*data, &transform, &config, own, indices)
        })
    }
}

impl<B: Send + 'static> Loader<B> {
    fn start(
        dataset: &dyn Dataset,
        config: LoaderConfig,
        make: impl Fn(&[usize]) -> Result<B> + Send + 'static,
    ) -> Result<Self> {
        let LoaderConfig { batch_size, shuffle, seed, epoch, drop_last, prefetch, shard, .. } =
            config;
        if shard.rank >= shard.of {
            let Shard { rank, of } = shard;
            return Err(Error::Config(format!("part {rank} of {of}, counted from 0")));
        }
        if batch_size == 0 {
            return Err(Error::Config("a batch size of 0; expected at least 1".to_owned()));
        }
        let len = dataset.len();
        if len == 0 {
            return Err(Error::Config("a dataset without samples".to_owned()));
        }
        if dataset.tasks().is_empty() {
            return Err(Error::Config("a dataset without tasks".to_owned()));
        }
        let batches = if drop_last { len / batch_size } else { len.div_ceil(batch_size) };
        let order = if shuffle { epoch_order(len, seed, epoch) } else { (0..len).collect() };
        // What waits in the channel, plus the one that waits to be put there.
        let (sender, receiver) = sync_channel(prefetch.max(1) - 1);
        let thread = std::thread::Builder::new()
            .name("abn-data loader".to_owned())
            .spawn(move || prepare(&config, &order, batches, &sender, make))
            .map_err(|e| Error::Config(format!("cannot start the loader's thread: {e}")))?;
        Ok(Self { batches, receiver: Some(receiver), thread: Some(thread) })
    }
}

impl<B> Loader<B> {
    /// Number of batches in the epoch.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Ends the thread; what it panicked with, if it did.
    fn join(&mut self) -> std::thread::Result<()> {
        // Without a receiver the thread's next send fails, and it returns.
        self.receiver = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<B> Iterator for Loader<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(batch);
        }
        // A dataset that panicked must not look like the end of an epoch.
        if let Err(panic) = self.join() {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

impl<B> Drop for Loader<B> {
    fn drop(&mut self) {
        // A panic of the thread was printed there; panicking in drop would abort.
        drop(self.join());
    }
}

fn prepare<B>(
    config: &LoaderConfig,
    order: &[usize],
    batches: usize,
    sender: &SyncSender<Result<B>>,
    make: impl Fn(&[usize]) -> Result<B>,
) {
    for indices in order.chunks(config.batch_size).take(batches) {
        let batch = make(&indices[config.shard.range(indices.len())]);
        let last = batch.is_err();
        if sender.send(batch).is_err() || last {
            return;
        }
    }
}

fn batch(
    dataset: &dyn Dataset,
    transform: &Transform,
    config: &LoaderConfig,
    indices: &[usize],
) -> Result<Batch> {
    let image_len = transform.output_len();
    let mut images = vec![0.0; indices.len() * image_len];
    let tasks = dataset.tasks().len();
    let mut labels = vec![0; indices.len() * tasks];
    // How many images a thread takes at a time. Photographs take milliseconds each, so at a batch's
    // end no thread may have several left; a small image takes less than handing it to a thread.
    let (shortest, longest) = if transform.fit == Fit::Pad { (8, usize::MAX) } else { (1, 1) };
    let errors: Vec<Option<Error>> = images
        .par_chunks_exact_mut(image_len)
        .zip(labels.par_chunks_exact_mut(tasks))
        .zip(indices)
        .with_min_len(shortest)
        .with_max_len(longest)
        .map(|((image, labels), &index)| {
            sample(dataset, transform, config, index, image, labels).err()
        })
        .collect();
    // The first in the batch's order, whichever thread met one first.
    if let Some(error) = errors.into_iter().flatten().next() {
        return Err(error);
    }
    let Size { height, width } = transform.image_size;
    let shape = [indices.len(), CHANNELS, height, width];
    Ok(Batch { images, labels, tasks, indices: indices.to_vec(), shape })
}

fn draft(
    dataset: &dyn Dataset,
    transform: &Transform,
    config: &LoaderConfig,
    own: Size,
    indices: &[usize],
) -> Result<Draft> {
    let tasks = dataset.tasks();
    let mut placements = Vec::with_capacity(indices.len());
    let mut labels = Vec::with_capacity(indices.len() * tasks.len());
    for &index in indices {
        let of_sample = dataset.labels(index)?;
        check_labels(tasks, &of_sample)
            .map_err(|reason| Error::Sample { sample: index, reason })?;
        labels.extend(of_sample);
        placements.push(transform.place(own, augmentation(config, index))?);
    }
    let Size { height, width } = transform.image_size;
    let shape = [indices.len(), CHANNELS, height, width];
    Ok(Draft { indices: indices.to_vec(), placements, labels, tasks: tasks.len(), shape })
}

/// What a sample's augmentation is drawn from, if it is augmented.
fn augmentation(config: &LoaderConfig, index: usize) -> Option<Stream> {
    config.augment.then(|| Stream::new(Purpose::Augment, config.seed, config.epoch, index as u64))
}

/// Writes a sample's image and its labels.
fn sample(
    dataset: &dyn Dataset,
    transform: &Transform,
    config: &LoaderConfig,
    index: usize,
    image: &mut [f32],
    labels: &mut [u32],
) -> Result<()> {
    let sample = dataset.get(index)?;
    check_labels(dataset.tasks(), &sample.labels)
        .map_err(|reason| Error::Sample { sample: index, reason })?;
    labels.copy_from_slice(&sample.labels);
    transform
        .apply(&sample.image, augmentation(config, index), image)
        .map_err(|e| Error::Sample { sample: index, reason: e.to_string() })
}

/// One label for each task, each of one of its categories.
fn check_labels(tasks: &[Task], labels: &[u32]) -> std::result::Result<(), String> {
    if labels.len() != tasks.len() {
        return Err(format!("{} labels for {} tasks", labels.len(), tasks.len()));
    }
    let wrong = |(task, label): &(&Task, &u32)| **label as usize >= task.categories.len();
    let Some((task, label)) = tasks.iter().zip(labels).find(wrong) else { return Ok(()) };
    let categories = task.categories.len();
    Err(match tasks.len() {
        1 => format!("label {label} is not below the number of classes, {categories}"),
        _ => {
            let name = &task.name;
            format!("label {label} of `{name}` is not below its number of categories, {categories}")
        }
    })
}

#[cfg(test)]
mod tests;
