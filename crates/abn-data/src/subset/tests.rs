use super::*;
use crate::dataset::{Normalisation, Splits};
use crate::memory::MemoryDataset;
use crate::transform::Fit;

/// One-pixel images 0, 1, 2, … of these classes.
fn numbered(labels: &[u8]) -> Arc<dyn Dataset> {
    let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let pixels = (0..labels.len()).map(|i| i as u8).collect();
    Arc::new(MemoryDataset::new([1, 1, 1], pixels, labels.to_vec(), names.into()).unwrap())
}

fn pixels(dataset: &dyn Dataset) -> Vec<(u8, u32)> {
    let sample = |index| {
        let Sample { image, labels } = dataset.get(index).unwrap();
        assert_eq!(dataset.labels(index).unwrap(), labels);
        (image.data[0], labels[0])
    };
    (0..dataset.len()).map(sample).collect()
}

#[test]
fn the_first_of_each_class_come_in_the_order_of_the_files() {
    let train = numbered(&[1, 0, 1, 1, 0, 2, 0, 1]);
    let splits = Splits {
        name: "numbered".to_owned(),
        train: train.clone(),
        test: train,
        stats: Normalisation::IMAGENET,
        fit: Fit::Pad,
        image_size: 1.into(),
    };
    let two = splits.first_per_class(2).unwrap();
    assert_eq!(pixels(&*two.train), [(0, 1), (1, 0), (2, 1), (4, 0), (5, 2)]);
    assert_eq!(two.train.class_names(), ["a", "b", "c"]);
    assert_eq!(two.test.len(), 8);
    assert_eq!(splits.first_per_class(100).unwrap().train.len(), 8);
    // A view of a view counts from the view.
    assert_eq!(pixels(&*two.first_per_class(1).unwrap().train), [(0, 1), (1, 0), (5, 2)]);
    assert!(splits.first_per_class(0).unwrap_err().to_string().contains("0 images of each class"));
}

#[test]
fn positions_outside_are_errors() {
    let whole = numbered(&[0, 1, 2]);
    let subset = Subset::new(whole.clone(), vec![2, 0, 2]).unwrap();
    assert_eq!(pixels(&subset), [(2, 2), (0, 0), (2, 2)]);
    assert_eq!(subset.indices(), [2, 0, 2]);
    assert!(matches!(subset.get(3), Err(Error::Index { index: 3, len: 3 })));
    assert!(matches!(subset.label(3), Err(Error::Index { index: 3, len: 3 })));
    assert!(matches!(Subset::new(whole, vec![0, 3]), Err(Error::Index { index: 3, len: 3 })));
}

/// A dataset that asks two things of its one image.
struct Twofold(Vec<Task>);

impl Dataset for Twofold {
    fn len(&self) -> usize {
        1
    }
    fn tasks(&self) -> &[Task] {
        &self.0
    }
    fn get(&self, index: usize) -> Result<Sample> {
        let image = crate::Image { width: 1, height: 1, channels: 1, data: vec![0] };
        Ok(Sample { image, labels: self.labels(index)? })
    }
    fn labels(&self, _: usize) -> Result<Vec<u32>> {
        Ok(vec![0, 1])
    }
}

#[test]
fn of_several_tasks_there_is_no_first_of_each_class() {
    let task =
        |name: &str| Task { name: name.to_owned(), categories: vec!["no".into(), "yes".into()] };
    let whole: Arc<dyn Dataset> = Arc::new(Twofold(vec![task("hat"), task("smile")]));
    let refused = Subset::first_per_class(&whole, 1).unwrap_err().to_string();
    assert!(refused.contains("each class were asked of a dataset of 2 tasks"), "{refused}");
    let view = Subset::new(whole, vec![0, 0]).unwrap();
    assert_eq!((view.tasks().len(), view.tasks()[1].name.as_str()), (2, "smile"));
    assert_eq!(view.labels(1).unwrap(), [0, 1]);
}
