use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::dataset::{Image, Normalisation, Sample};
use crate::folder::FolderDataset;
use crate::memory::MemoryDataset;
use crate::transform::Fit;

const CLASSES: usize = 10;

/// `len` grey images of 28×28; every pixel of image i is i, its label is i mod 10.
fn numbered(len: u8) -> Arc<dyn Dataset> {
    let pixels = (0..len).flat_map(|i| [i; 784]).collect();
    let labels = (0..len).map(|i| i % 10).collect();
    let names: Vec<String> = (0..CLASSES).map(|i| i.to_string()).collect();
    Arc::new(MemoryDataset::new([28, 28, 1], pixels, labels, names.into()).unwrap())
}

fn transform() -> Transform {
    Transform::standard(Fit::Pad, 32, Normalisation::FASHION_MNIST)
}

fn epoch(dataset: &Arc<dyn Dataset>, config: LoaderConfig) -> Vec<Batch> {
    let loader = Loader::new(dataset.clone(), transform(), config).unwrap();
    let batches = loader.batches();
    let epoch: Vec<Batch> = loader.map(|batch| batch.unwrap()).collect();
    assert_eq!(epoch.len(), batches);
    epoch
}

const TRAINING: LoaderConfig = LoaderConfig {
    batch_size: 32,
    shuffle: true,
    augment: true,
    seed: 5,
    epoch: 1,
    drop_last: false,
    prefetch: 2,
    shard: Shard { rank: 0, of: 1 },
};

#[test]
fn drafts_are_the_batches_without_their_pixels() {
    let data = numbered(100);
    for config in [TRAINING, LoaderConfig { augment: false, batch_size: 7, ..TRAINING }] {
        let drafts = Loader::drafts(data.clone(), transform(), config).unwrap();
        assert_eq!(drafts.batches(), 100_usize.div_ceil(config.batch_size));
        for (draft, batch) in drafts.zip(epoch(&data, config)) {
            let draft = draft.unwrap();
            assert_eq!((&draft.indices, &draft.labels), (&batch.indices, &batch.labels));
            assert_eq!((draft.tasks, draft.shape), (batch.tasks, batch.shape));
            for (n, (placement, &index)) in draft.placements.iter().zip(&draft.indices).enumerate()
            {
                let Placement { resize: None, corner: (top, left), mirror } = *placement else {
                    panic!("{placement:?}")
                };
                // Every pixel of the image has the image's number; the rest is black.
                let levels = transform().levels(0);
                for (i, &value) in batch.images[n * 3072..][..1024].iter().enumerate() {
                    let (y, x) = ((i / 32) as isize, (i % 32) as isize);
                    let x = if mirror { 31 - x } else { x };
                    let shown = (top..top + 28).contains(&y) && (left..left + 28).contains(&x);
                    assert_eq!(value, levels[if shown { index } else { 0 }]);
                }
            }
        }
    }
    let photo = Transform::standard(Fit::Resize, 32, Normalisation::IMAGENET);
    let refused = Loader::drafts(data, photo, TRAINING).unwrap_err().to_string();
    assert!(refused.contains("resized"), "{refused}");
}

#[test]
fn an_epoch_visits_every_sample_once() {
    let data = numbered(100);
    let batches = epoch(&data, TRAINING);
    let sizes: Vec<usize> = batches.iter().map(|b| b.labels.len()).collect();
    assert_eq!(sizes, [32, 32, 32, 4]);
    assert_eq!(batches[3].shape, [4, 3, 32, 32]);
    assert_eq!(batches[3].images.len(), 4 * 3 * 32 * 32);
    let mut indices: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_ne!(indices, (0..100).collect::<Vec<_>>());
    indices.sort_unstable();
    assert_eq!(indices, (0..100).collect::<Vec<_>>());
    for batch in &batches {
        for (i, &index) in batch.indices.iter().enumerate() {
            assert_eq!(batch.labels[i] as usize, index % 10);
            let pixel = (index as f32 / 255.0 - 0.2860) / 0.3530;
            let centre = batch.images[i * 3072 + 16 * 32 + 16];
            assert!((centre - pixel).abs() < 1e-5, "sample {index}: {centre}, expected {pixel}");
        }
    }
}

#[test]
fn without_shuffling_the_order_is_the_datasets_and_drop_last_drops() {
    let data = numbered(100);
    let config = LoaderConfig { batch_size: 30, drop_last: true, ..LoaderConfig::default() };
    let batches = epoch(&data, config);
    let indices: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(indices, (0..90).collect::<Vec<_>>());
    let too_large = LoaderConfig { batch_size: 101, ..config };
    assert_eq!(epoch(&data, too_large), []);
}

#[test]
fn the_batches_do_not_depend_on_the_number_of_threads() {
    let data = numbered(100);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let order = epoch_order(100, TRAINING.seed, TRAINING.epoch);
        pool.install(|| {
            order
                .chunks(32)
                .map(|indices| batch(&*data, &transform(), &TRAINING, indices).unwrap())
                .collect::<Vec<_>>()
        })
    };
    let one = with_threads(1);
    assert_eq!(one, with_threads(4));
    assert_eq!(one, epoch(&data, TRAINING));
}

#[test]
fn a_samples_augmentation_depends_on_seed_epoch_and_index_only() {
    let data = numbered(100);
    let image_of = |config: LoaderConfig, index: usize| {
        let batches = epoch(&data, config);
        let batch = batches.iter().find(|b| b.indices.contains(&index)).unwrap();
        let at = batch.indices.iter().position(|&i| i == index).unwrap();
        batch.images[at * 3072..(at + 1) * 3072].to_vec()
    };
    let images: Vec<_> = (50..60).map(|index| image_of(TRAINING, index)).collect();
    let again = LoaderConfig { batch_size: 7, shuffle: false, prefetch: 5, ..TRAINING };
    assert_eq!(images, (50..60).map(|index| image_of(again, index)).collect::<Vec<_>>());
    for other in [LoaderConfig { epoch: 2, ..TRAINING }, LoaderConfig { seed: 6, ..TRAINING }] {
        assert_ne!(images, (50..60).map(|index| image_of(other, index)).collect::<Vec<_>>());
    }
}

#[test]
fn a_bad_image_is_the_last_item_and_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        std::fs::create_dir(root.path().join(class)).unwrap();
        for i in 0..20 {
            let file = root.path().join(class).join(format!("{i:02}.png"));
            image::RgbImage::new(5, 4).save(file).unwrap();
        }
    }
    // Two bad ones in the second batch: the first in order is reported.
    std::fs::write(root.path().join("a/13.png"), "no image").unwrap();
    std::fs::write(root.path().join("a/15.png"), "no image").unwrap();
    let data = Arc::new(FolderDataset::open(root.path()).unwrap());
    let transform = Transform::standard(Fit::Resize, 32, Normalisation::IMAGENET);
    let config = LoaderConfig { batch_size: 10, ..LoaderConfig::default() };
    let items: Vec<_> = Loader::new(data, transform, config).unwrap().collect();
    assert_eq!(items.len(), 2);
    assert!(items[0].is_ok());
    let message = items[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("13.png"), "{message}");
}

/// Counts what is asked of it.
struct Counting {
    tasks: Vec<Task>,
    asked: AtomicUsize,
    panics_at: usize,
    labels: Vec<u32>,
}

impl Counting {
    fn new(panics_at: usize, label: u32) -> Arc<Self> {
        let task = Task::classes(vec!["only".to_owned()]);
        Self::of_tasks(vec![task], vec![label], panics_at)
    }

    fn of_tasks(tasks: Vec<Task>, labels: Vec<u32>, panics_at: usize) -> Arc<Self> {
        Arc::new(Self { tasks, asked: AtomicUsize::new(0), panics_at, labels })
    }
}

impl Dataset for Counting {
    fn len(&self) -> usize {
        1000
    }
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }
    fn get(&self, index: usize) -> Result<Sample> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_ne!(index, self.panics_at, "a bug in a dataset");
        let image = Image { width: 28, height: 28, channels: 1, data: vec![0; 784] };
        Ok(Sample { image, labels: self.labels(index)? })
    }
    fn labels(&self, _: usize) -> Result<Vec<u32>> {
        Ok(self.labels.clone())
    }
}

fn two_tasks() -> Vec<Task> {
    let task = |name: &str, categories: &[&str]| Task {
        name: name.to_owned(),
        categories: categories.iter().map(ToString::to_string).collect(),
    };
    vec![task("maker", &["a", "b"]), task("model", &["a1", "a2", "b1"])]
}

#[test]
fn labels_of_several_tasks_lie_image_by_image() {
    let data: Arc<dyn Dataset> = Counting::of_tasks(two_tasks(), vec![1, 2], usize::MAX);
    assert_eq!((data.class_names().len(), data.num_classes(), data.label(0).unwrap()), (2, 2, 1));
    let config = LoaderConfig { batch_size: 3, ..LoaderConfig::default() };
    let first = Loader::new(data, transform(), config).unwrap().next().unwrap().unwrap();
    assert_eq!((first.tasks, first.labels), (2, vec![1, 2, 1, 2, 1, 2]));
    assert_eq!(first.shape, [3, 3, 32, 32]);
}

#[test]
fn each_label_is_held_to_its_own_task() {
    let message = |labels: Vec<u32>| {
        let data = Counting::of_tasks(two_tasks(), labels, usize::MAX);
        let mut loader = Loader::new(data, transform(), LoaderConfig::default()).unwrap();
        loader.next().unwrap().unwrap_err().to_string()
    };
    let expected = "sample 0: label 2 of `maker` is not below its number of categories, 2";
    assert_eq!(message(vec![2, 2]), expected);
    let expected = "sample 0: label 3 of `model` is not below its number of categories, 3";
    assert_eq!(message(vec![1, 3]), expected);
    assert_eq!(message(vec![1]), "sample 0: 1 labels for 2 tasks");
    let none = Counting::of_tasks(vec![], vec![], usize::MAX);
    let refused = Loader::new(none, transform(), LoaderConfig::default()).unwrap_err();
    assert_eq!(refused.to_string(), "a dataset without tasks");
}

#[test]
fn prefetching_is_bounded_and_dropping_stops_it() {
    let data = Counting::new(usize::MAX, 0);
    let config = LoaderConfig { batch_size: 10, prefetch: 3, ..LoaderConfig::default() };
    let mut loader = Loader::new(data.clone(), transform(), config).unwrap();
    assert!(loader.next().is_some());
    // One taken, three ready: the thread comes to exactly this, and no further.
    let deadline = Instant::now() + Duration::from_secs(20);
    while data.asked.load(Ordering::SeqCst) < 40 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(data.asked.load(Ordering::SeqCst), 40);
    drop(loader);
    // The thread is gone: nothing else holds the dataset.
    assert_eq!(Arc::strong_count(&data), 1);
    assert_eq!(data.asked.load(Ordering::SeqCst), 40);
}

#[test]
#[should_panic(expected = "a bug in a dataset")]
fn a_panic_in_a_dataset_is_not_taken_for_the_end() {
    let data = Counting::new(25, 0);
    let config = LoaderConfig { batch_size: 10, ..LoaderConfig::default() };
    for batch in Loader::new(data, transform(), config).unwrap() {
        assert!(batch.is_ok());
    }
}

#[test]
fn settings_and_labels_that_cannot_be_are_errors() {
    let config = LoaderConfig { batch_size: 0, ..LoaderConfig::default() };
    let message = Loader::new(numbered(3), transform(), config).unwrap_err().to_string();
    assert!(message.contains("batch size of 0"), "{message}");
    assert!(Loader::new(numbered(0), transform(), LoaderConfig::default()).is_err());

    let data = Counting::new(usize::MAX, 1);
    let first = Loader::new(data, transform(), LoaderConfig::default()).unwrap().next();
    let message = first.unwrap().unwrap_err().to_string();
    assert_eq!(message, "sample 0: label 1 is not below the number of classes, 1");
}

#[test]
fn the_parts_of_all_processes_are_the_batches() {
    let data = numbered(97);
    let whole = epoch(&data, TRAINING);
    for of in [1, 2, 3, 5, 40] {
        let shards: Vec<_> = (0..of)
            .map(|rank| epoch(&data, LoaderConfig { shard: Shard { rank, of }, ..TRAINING }))
            .collect();
        for (number, batch) in whole.iter().enumerate() {
            let parts: Vec<&Batch> = shards.iter().map(|shard| &shard[number]).collect();
            // Order, augmentation and labels are the whole's.
            let indices: Vec<_> = parts.iter().flat_map(|part| part.indices.clone()).collect();
            let images: Vec<_> = parts.iter().flat_map(|part| part.images.clone()).collect();
            let labels: Vec<_> = parts.iter().flat_map(|part| part.labels.clone()).collect();
            assert_eq!(indices, batch.indices, "{of} parts");
            assert!(images == batch.images && labels == batch.labels, "{of} parts");
            let sizes: Vec<_> = parts.iter().map(|part| part.shape[0]).collect();
            assert!(
                sizes.is_sorted_by(|a, b| a >= b) && sizes[0] - sizes[of - 1] <= 1,
                "{sizes:?}"
            );
            assert!(sizes[0] > 0);
        }
    }
}

#[test]
fn a_part_that_is_none_is_refused() {
    for (rank, of) in [(1, 1), (0, 0), (5, 3)] {
        let config = LoaderConfig { shard: Shard { rank, of }, ..TRAINING };
        let said = Loader::new(numbered(9), transform(), config).unwrap_err().to_string();
        assert!(said.contains(&format!("part {rank} of {of}")), "{said}");
    }
}
