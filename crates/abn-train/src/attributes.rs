//! What a network answered to several tasks, and how well it knows each.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::card::Question;
use crate::tally::Tally;
use crate::{Error, Result, csv};

/// The answers to one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskAnswers {
    /// Position in the dataset.
    pub index: usize,
    /// The right answer to each task.
    pub labels: Vec<u32>,
    /// The network's.
    pub predicted: Vec<u32>,
}

/// What a network answered to a dataset of several tasks.
pub struct TaskEvaluation {
    /// Losses and errors; an error is the mean over the tasks.
    pub tally: Tally,
    /// The answers to each image, in the dataset's order.
    pub answers: Vec<TaskAnswers>,
    /// What was asked.
    pub tasks: Vec<Question>,
}

/// How well a network knows one task. Shares are in percent; none where there is nothing to
/// count, and the last four of tasks of two answers only, whose second one is yes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskScore {
    /// The task, such as an attribute.
    pub name: String,
    /// Images whose right answer is yes; with more than two answers, images.
    pub positives: u64,
    /// Images that were answered rightly.
    pub accuracy: Option<f64>,
    /// The mean over the answers of the share of their images that was answered rightly.
    pub balanced_accuracy: Option<f64>,
    /// Of the images that were answered with yes, those where it is right.
    pub precision: Option<f64>,
    /// Of the images where yes is right, those that were answered so.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall: 2·tp / (2·tp + fp + fn).
    pub f1: Option<f64>,
}

impl TaskEvaluation {
    /// How well each task is known.
    pub fn scores(&self) -> Vec<TaskScore> {
        self.tasks.iter().enumerate().map(|(t, task)| self.score(t, task)).collect()
    }

    /// A line for each image and task: index, task, label, predicted.
    pub fn to_csv(&self) -> String {
        let head = csv::line(["index", "task", "label", "predicted"]);
        let rows = self.answers.iter().flat_map(|answer| {
            self.tasks.iter().enumerate().map(move |(t, task)| {
                let [label, predicted] = [answer.labels[t], answer.predicted[t]]
                    .map(|answer| task.answers.get(answer as usize).cloned().unwrap_or_default());
                csv::line([answer.index.to_string(), task.name.clone(), label, predicted])
            })
        });
        rows.fold(head, |text, row| text + &row)
    }

    fn score(&self, t: usize, task: &Question) -> TaskScore {
        let kinds = task.answers.len();
        let mut counts = vec![0u64; kinds * kinds]; // right answers in rows
        for answer in &self.answers {
            let (label, predicted) = (answer.labels[t] as usize, answer.predicted[t] as usize);
            if let Some(count) = counts.get_mut(label * kinds + predicted) {
                *count += 1;
            }
        }
        let share = |part: u64, whole: u64| (whole > 0).then(|| 100.0 * part as f64 / whole as f64);
        let row = |kind: usize| counts[kind * kinds..][..kinds].iter().sum::<u64>();
        let right = |kind: usize| counts[kind * kinds + kind];
        let recalls: Vec<f64> =
            (0..kinds).filter_map(|kind| share(right(kind), row(kind))).collect();
        let balanced_accuracy =
            (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64);
        let images = self.answers.len() as u64;
        let accuracy = share((0..kinds).map(right).sum(), images);
        let name = task.name.clone();
        let Ok([_, wrong_yes, wrong_no, yes]) = <[u64; 4]>::try_from(counts.as_slice()) else {
            let (precision, recall, f1) = (None, None, None);
            let positives = images;
            return TaskScore {
                name,
                positives,
                accuracy,
                balanced_accuracy,
                precision,
                recall,
                f1,
            };
        };
        TaskScore {
            name,
            positives: yes + wrong_no,
            accuracy,
            balanced_accuracy,
            precision: share(yes, yes + wrong_yes),
            recall: share(yes, yes + wrong_no),
            f1: share(2 * yes, 2 * yes + wrong_yes + wrong_no),
        }
    }
}

/// The mean of a column over the tasks that have it.
pub fn mean(scores: &[TaskScore], column: impl Fn(&TaskScore) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = scores.iter().filter_map(column).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// On how many tasks each of two networks is the more accurate: the paper's "odds" (Table 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Odds {
    /// The first is better.
    pub first: usize,
    /// Both are equally good.
    pub ties: usize,
    /// The second is better.
    pub second: usize,
}

impl Odds {
    /// Of two networks' scores on the same tasks, in the same order.
    ///
    /// # Errors
    /// If they are of other tasks, or one has no accuracy.
    pub fn between(first: &[TaskScore], second: &[TaskScore]) -> Result<Self> {
        let names = |scores: &[TaskScore]| -> Vec<String> {
            scores.iter().map(|score| score.name.clone()).collect()
        };
        if names(first) != names(second) {
            return Err(Error::Invalid(format!(
                "no odds between networks of different tasks: {} and {}",
                names(first).join(", "),
                names(second).join(", ")
            )));
        }
        let pair = |(a, b): (&TaskScore, &TaskScore)| {
            a.accuracy.zip(b.accuracy).ok_or_else(|| {
                Error::Invalid(format!("no odds without images of the task {:?}", a.name))
            })
        };
        Ok(Self::of(first.iter().zip(second).map(pair).collect::<Result<Vec<_>>>()?))
    }

    /// Of accuracies task by task, in the same order.
    pub fn of(accuracies: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut odds = Self::default();
        for (first, second) in accuracies {
            match first.total_cmp(&second) {
                std::cmp::Ordering::Greater => odds.first += 1,
                std::cmp::Ordering::Equal => odds.ties += 1,
                std::cmp::Ordering::Less => odds.second += 1,
            }
        }
        odds
    }
}

impl fmt::Display for Odds {
    /// As in `better on 27 of 40 tasks, worse on 12, equal on 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, ties, second } = self;
        let tasks = first + ties + second;
        write!(f, "better on {first} of {tasks} tasks, worse on {second}, equal on {ties}")
    }
}

/// The scores in the `attributes.csv` of a run ([`RunFolder::attributes`](crate::RunFolder::attributes)).
///
/// # Errors
/// If the file cannot be read; [`Error::Damaged`] if it holds something else.
pub fn read(path: &Path) -> Result<Vec<TaskScore>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let damaged = |line: usize, problem: String| Error::Damaged {
        path: path.to_owned(),
        problem: format!("line {line}: {problem}"),
    };
    let mut rows = csv::lines(&text).into_iter();
    if rows.next().is_none_or(|head| head != COLUMNS) {
        return Err(damaged(1, format!("expected {}", COLUMNS.join(","))));
    }
    let mut scores = Vec::new();
    for (line, row) in (2..).zip(rows) {
        let share = |field: &String| match field.as_str() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| damaged(line, format!("expected a share in percent, found {text:?}"))),
        };
        let [name, positives, accuracy, balanced_accuracy, precision, recall, f1] = &row[..] else {
            let (expected, found) = (COLUMNS.len(), row.len());
            return Err(damaged(line, format!("expected {expected} fields, found {found}")));
        };
        let number = |_| damaged(line, format!("expected a number of images, found {positives:?}"));
        scores.push(TaskScore {
            name: name.clone(),
            positives: positives.parse().map_err(number)?,
            accuracy: share(accuracy)?,
            balanced_accuracy: share(balanced_accuracy)?,
            precision: share(precision)?,
            recall: share(recall)?,
            f1: share(f1)?,
        });
    }
    Ok(scores)
}

/// Heads of the columns of an `attributes.csv`.
const COLUMNS: [&str; 7] =
    ["task", "positives", "accuracy", "balanced_accuracy", "precision", "recall", "f1"];

/// A line for each task.
pub(crate) fn to_csv(scores: &[TaskScore]) -> String {
    let head = csv::line(COLUMNS);
    let row = |score: &TaskScore| {
        let TaskScore { name, positives, .. } = score;
        let shares = shares(score).map(|share| share.map_or(String::new(), |s| s.to_string()));
        csv::line([name.clone(), positives.to_string()].into_iter().chain(shares))
    };
    scores.iter().map(row).fold(head, |text, row| text + &row)
}

/// A table's cells: name, positives and percentages, the means last.
pub fn cells(scores: &[TaskScore]) -> Vec<Vec<String>> {
    let percent = |share: Option<f64>| share.map_or("–".into(), |share| format!("{share:.2}"));
    let mut rows: Vec<Vec<String>> = scores
        .iter()
        .map(|score| {
            let head = [score.name.clone(), score.positives.to_string()];
            head.into_iter().chain(shares(score).map(percent)).collect()
        })
        .collect();
    let means = (0..5).map(|column| percent(mean(scores, |score| shares(score)[column])));
    rows.push(["mean".to_owned(), String::new()].into_iter().chain(means).collect());
    rows
}

/// Heads of the columns of [`cells`].
pub const HEADS: [&str; 7] =
    ["task", "positives", "accuracy %", "balanced %", "precision %", "recall %", "F1 %"];

fn shares(score: &TaskScore) -> [Option<f64>; 5] {
    let TaskScore { accuracy, balanced_accuracy, precision, recall, f1, .. } = *score;
    [accuracy, balanced_accuracy, precision, recall, f1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> TaskEvaluation {
        let question = |name: &str, answers: &[&str]| Question {
            name: name.into(),
            answers: answers.iter().map(|&answer| answer.into()).collect(),
        };
        let tasks =
            vec![question("hat", &["no", "yes"]), question("hair", &["none", "short", "long"])];
        // Right, given.
        let given = [
            [(1, 1), (0, 0)],
            [(1, 0), (1, 2)],
            [(0, 1), (1, 1)],
            [(0, 0), (0, 0)],
            [(0, 0), (1, 1)],
        ];
        let answers = given.iter().enumerate().map(|(index, row)| TaskAnswers {
            index,
            labels: row.iter().map(|pair| pair.0).collect(),
            predicted: row.iter().map(|pair| pair.1).collect(),
        });
        TaskEvaluation { tally: Tally::of_tasks(2), answers: answers.collect(), tasks }
    }

    #[test]
    fn scores_by_hand() {
        let scores = evaluation().scores();
        let third = 200.0 / 3.0;
        let expected = TaskScore {
            name: "hat".into(),
            positives: 2,
            accuracy: Some(60.0),
            balanced_accuracy: Some((50.0 + third) / 2.0),
            precision: Some(50.0),
            recall: Some(50.0),
            f1: Some(50.0),
        };
        assert_eq!(scores[0], expected);
        // No long hair among the images: it has no share.
        assert_eq!(scores[1].balanced_accuracy, Some((100.0 + third) / 2.0));
        assert_eq!((scores[1].accuracy, scores[1].f1), (Some(80.0), None));
        assert_eq!(mean(&scores, |score| score.accuracy), Some(70.0));
        assert_eq!(mean(&scores, |score| score.recall), Some(50.0));
        let text = to_csv(&scores);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(2).unwrap().ends_with(",,,"), "{text}");
        assert_eq!(cells(&scores)[2][..3], ["mean", "", "70.00"]);
    }

    #[test]
    fn an_attribute_nobody_has_or_answers_has_no_recall_or_precision() {
        let mut evaluation = evaluation();
        for answer in &mut evaluation.answers {
            (answer.labels[0], answer.predicted[0]) = (0, 0);
        }
        let score = &evaluation.scores()[0];
        assert_eq!((score.precision, score.recall, score.f1), (None, None, None));
        assert_eq!((score.accuracy, score.balanced_accuracy), (Some(100.0), Some(100.0)));
    }

    #[test]
    fn odds_count_tasks_and_keep_ties_apart() {
        let odds = Odds::of([(90.0, 89.0), (70.0, 70.0), (1.0, 2.0), (5.0, 4.0)]);
        assert_eq!(odds, Odds { first: 2, ties: 1, second: 1 });
        assert_eq!(odds.to_string(), "better on 2 of 4 tasks, worse on 1, equal on 1");
        // Of runs only on the same tasks.
        let scores = evaluation().scores();
        let mut better = scores.clone();
        better[1].accuracy = Some(99.0);
        let odds = Odds::between(&scores, &better).unwrap();
        assert_eq!(odds, Odds { first: 0, ties: 1, second: 1 });
        let said = Odds::between(&scores[..1], &scores).unwrap_err().to_string();
        assert!(said.contains("different tasks: hat and hat, hair"), "{said}");
        better[1].accuracy = None;
        let said = Odds::between(&scores, &better).unwrap_err().to_string();
        assert!(said.contains("\"hair\""), "{said}");
    }

    #[test]
    fn a_run_s_scores_read_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attributes.csv");
        let mut scores = evaluation().scores();
        scores[1].name = "hair, \"long\"".into();
        let text = to_csv(&scores);
        std::fs::write(&file, &text).unwrap();
        assert_eq!(read(&file).unwrap(), scores);
        for (from, to, said) in [
            ("task", "attribute", "line 1: expected task,positives"),
            ("hat,2", "hat,two", "line 2: expected a number of images, found \"two\""),
            ("hat,2", "hat", "line 2: expected 7 fields, found 6"),
            ("hat,2,60", "hat,2,sixty", "line 2: expected a share in percent, found \"sixty\""),
        ] {
            std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
            let message = read(&file).unwrap_err().to_string();
            assert!(message.contains("attributes.csv") && message.contains(said), "{message}");
        }
    }
}
