//! What a network answered to a dataset, and what follows from it.

use std::cmp::{Ordering, Reverse};
use std::path::Path;

use serde::Serialize;

use crate::tally::Tally;
use crate::{Error, Result, csv};

/// The answer to one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Position in the dataset.
    pub index: usize,
    /// The right class.
    pub label: u32,
    /// The class with the highest score, of equals the first: the answer.
    pub predicted: u32,
    /// The answer's probability.
    pub probability: f32,
    /// How many classes were thought likelier than the right one; equals count if they come
    /// first. 0 for a right answer.
    pub rank: u32,
}

/// What a network answered to a dataset.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Losses and errors.
    pub tally: Tally,
    /// The answer to each image, in the dataset's order.
    pub answers: Vec<Answer>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// How often each class was taken for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: Vec<String>,
    /// Row by row: those of a right class, by answer.
    counts: Vec<u64>,
}

/// How well one class is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The class.
    pub name: String,
    /// Images of it.
    pub images: u64,
    /// Those that were answered rightly.
    pub right: u64,
    /// Their share in percent; none if there are no images.
    pub accuracy: Option<f64>,
}

impl Answer {
    /// The answer that these scores give.
    pub(crate) fn new(index: usize, label: u32, scores: &[f32], probabilities: &[f32]) -> Self {
        let predicted = highest(scores);
        let own = scores.get(label as usize).copied().unwrap_or(f32::NAN);
        // A score that is no number counts as higher, so that it hides no error.
        let before = |(class, score): (usize, &f32)| match score.partial_cmp(&own) {
            Some(Ordering::Less) => false,
            Some(Ordering::Equal) => class < label as usize,
            Some(Ordering::Greater) | None => class != label as usize,
        };
        Self {
            index,
            label,
            predicted: predicted as u32,
            probability: probabilities.get(predicted).copied().unwrap_or(f32::NAN),
            rank: scores.iter().enumerate().filter(|&entry| before(entry)).count() as u32,
        }
    }
}

/// Index of the highest score, the first of equals.
pub(crate) fn highest(scores: &[f32]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

impl Evaluation {
    /// Share of the images in percent whose right class is not among the `k` likeliest.
    pub fn top_error(&self, k: u32) -> f64 {
        let missed = self.answers.iter().filter(|answer| answer.rank >= k).count();
        100.0 * missed as f64 / self.answers.len().max(1) as f64
    }

    /// Top-5 error in percent, where there are more than five classes.
    pub fn top5_error(&self) -> Option<f64> {
        (self.classes.len() > 5).then(|| self.top_error(5))
    }

    /// How often each class was taken for each.
    pub fn confusion(&self) -> Confusion {
        let k = self.classes.len();
        let mut counts = vec![0; k * k];
        for answer in &self.answers {
            if let Some(count) =
                counts.get_mut(answer.label as usize * k + answer.predicted as usize)
            {
                *count += 1;
            }
        }
        Confusion { classes: self.classes.clone(), counts }
    }

    /// A line for each image: its index, right class, answer and the answer's probability. Classes
    /// by number; the first class is 0.
    pub fn to_csv(&self) -> String {
        let head = csv::line(["index", "label", "predicted", "probability"]);
        let row = |answer: &Answer| {
            let Answer { index, label, predicted, probability, .. } = answer;
            format!("{index},{label},{predicted},{probability}\n")
        };
        self.answers.iter().map(row).fold(head, |text, row| text + &row)
    }
}

impl Confusion {
    /// Names of the classes, in the order of rows and columns.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// For each right class, how many images got each answer.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks_exact(self.classes.len().max(1))
    }

    /// How well each class is known.
    pub fn accuracies(&self) -> Vec<ClassAccuracy> {
        let accuracy = |(class, (name, row)): (usize, (&String, &[u64]))| {
            let (images, right) = (row.iter().sum(), row[class]);
            let accuracy = (images > 0).then(|| 100.0 * right as f64 / images as f64);
            ClassAccuracy { name: name.clone(), images, right, accuracy }
        };
        self.classes.iter().zip(self.rows()).enumerate().map(accuracy).collect()
    }

    /// The wrong answers (right class, answer, images) that were given most often, at most `count`
    /// of them; of equals those of earlier classes.
    pub fn worst(&self, count: usize) -> Vec<(&str, &str, u64)> {
        let k = self.classes.len();
        let wrong = (0..self.counts.len()).filter(|i| self.counts[*i] > 0 && i / k != i % k);
        let mut wrong: Vec<_> = wrong.collect();
        wrong.sort_by_key(|&i| Reverse(self.counts[i]));
        let name = |class: usize| self.classes[class].as_str();
        wrong.iter().take(count).map(|&i| (name(i / k), name(i % k), self.counts[i])).collect()
    }

    /// A line for each right class, a column for each answer, with the names of the classes.
    pub fn to_csv(&self) -> String {
        let names = self.classes.iter().map(String::as_str);
        let head = csv::line(std::iter::once("class").chain(names));
        let row = |(name, row): (&String, &[u64])| {
            csv::line(std::iter::once(name.clone()).chain(row.iter().map(u64::to_string)))
        };
        self.classes.iter().zip(self.rows()).map(row).fold(head, |text, row| text + &row)
    }

    /// Reads a file that [`to_csv`](Self::to_csv) wrote.
    ///
    /// # Errors
    /// If it cannot be read, or is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        let wrong = || Error::Invalid(format!("{} is no confusion matrix", path.display()));
        Self::from_csv(&text).ok_or_else(wrong)
    }

    fn from_csv(text: &str) -> Option<Self> {
        let lines = csv::lines(text);
        let (head, rows) = lines.split_first()?;
        let classes = head.get(1..)?.to_vec();
        let mut counts = Vec::with_capacity(classes.len() * classes.len());
        for row in rows {
            let (name, row) = row.split_first()?;
            let known = classes.get(counts.len() / classes.len().max(1)) == Some(name);
            if !known || row.len() != classes.len() {
                return None;
            }
            for count in row {
                counts.push(count.parse().ok()?);
            }
        }
        (counts.len() == classes.len() * classes.len()).then_some(Self { classes, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(label: u32, scores: &[f32]) -> Answer {
        Answer::new(0, label, scores, scores)
    }

    #[test]
    fn the_first_of_equal_scores_is_the_answer() {
        assert_eq!(highest(&[0.0, 2.0, 2.0, 1.0]), 1);
        assert_eq!(highest(&[f32::NEG_INFINITY, 0.0]), 1);
        assert_eq!(highest(&[3.0]), 0);
    }

    #[test]
    fn the_rank_counts_who_comes_before() {
        let scores = [0.1, 0.5, 0.2, 0.5, 0.0];
        let ranks: Vec<_> = (0..5).map(|label| answer(label, &scores).rank).collect();
        assert_eq!(ranks, [3, 0, 2, 1, 4]);
        let told = answer(2, &scores);
        assert_eq!((told.predicted, told.probability), (1, 0.5));
        for label in 0..3 {
            let broken = answer(label, &[f32::NAN; 3]);
            assert_eq!(broken.rank, 2, "a score that is no number is nobody's hit");
        }
        assert_eq!(answer(0, &[1.0, f32::NAN]).rank, 1);
    }

    /// Seven images of three classes, one of which has none.
    fn evaluation() -> Evaluation {
        let given = [(0, 0), (0, 0), (0, 2), (2, 2), (2, 0), (2, 0), (0, 0)];
        let answers = given.iter().enumerate().map(|(index, &(label, predicted))| Answer {
            index,
            label,
            predicted,
            probability: 0.75,
            rank: if label == predicted { 0 } else { 1 + index as u32 % 2 },
        });
        let classes = ["cat", "big, \"bad\"", "dog"].map(String::from).to_vec();
        Evaluation { tally: Tally::default(), answers: answers.collect(), classes }
    }

    #[test]
    fn confusion_has_truth_in_rows_and_answers_in_columns() {
        let confusion = evaluation().confusion();
        let rows: Vec<_> = confusion.rows().collect();
        assert_eq!(rows, [[3, 0, 1], [0, 0, 0], [2, 0, 1]]);
        let accuracies = confusion.accuracies();
        let shares: Vec<_> = accuracies.iter().map(|class| class.accuracy).collect();
        assert_eq!(shares, [Some(75.0), None, Some(100.0 / 3.0)]);
        assert_eq!((accuracies[0].images, accuracies[0].right), (4, 3));
        assert_eq!(confusion.worst(9), [("dog", "cat", 2), ("cat", "dog", 1)]);
        assert_eq!(confusion.worst(1).len(), 1);
        let expected = "class,cat,\"big, \"\"bad\"\"\",dog\ncat,3,0,1\n\"big, \"\"bad\"\"\",0,0,0\ndog,2,0,1\n";
        assert_eq!(confusion.to_csv(), expected);
        assert_eq!(Confusion::from_csv(expected), Some(confusion));
        let missing = expected.replace('1', "one");
        let short = expected.lines().next().unwrap();
        for other in [&missing, short, "", "class,a\na,1\na,1\n"] {
            assert_eq!(Confusion::from_csv(other), None, "{other:?}");
        }
    }

    #[test]
    fn errors_are_shares_of_the_images() {
        let evaluation = evaluation();
        assert_eq!(evaluation.top_error(1), 300.0 / 7.0);
        assert_eq!(evaluation.top_error(2), 100.0 / 7.0);
        assert_eq!(evaluation.top_error(3), 0.0);
        assert_eq!(evaluation.top5_error(), None);
        let text = evaluation.to_csv();
        assert_eq!(text.lines().nth(3), Some("2,0,2,0.75"));
        assert_eq!(text.lines().count(), 8);
    }
}
