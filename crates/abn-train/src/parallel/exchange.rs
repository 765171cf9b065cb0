//! Evaluation in parts: every image once, and the whole at rank 0.

use serde::{Deserialize, Serialize};

use super::team::Team;
use crate::attributes::{TaskAnswers, TaskEvaluation};
use crate::evaluation::{Answer, Evaluation};
use crate::network::Tested;
use crate::tally::Tally;
use crate::{Error, Result};

/// One rank's part, in numbers that JSON keeps exactly.
#[derive(Serialize, Deserialize)]
struct Part {
    tally: Tally,
    answers: Vec<Vec<u64>>,
}

impl Team {
    /// All parts of an evaluation at rank 0, as if it had seen every image itself, in the dataset's
    /// order; at the others their own part. `None`, everywhere, if one was stopped.
    ///
    /// Counts are exactly those of one process; losses are those of other batches and so differ by
    /// rounding.
    pub fn whole(&self, tested: Option<Tested>) -> Result<Option<Tested>> {
        let Some(group) = self.group() else { return Ok(tested) };
        let parts = self.collect(group, &tested.as_ref().map(part))?;
        let complete = self.told(|| Ok(parts.iter().all(Option::is_some)))?;
        let Some(mut tested) = tested.filter(|_| complete) else { return Ok(None) };
        for part in parts.into_iter().flatten().skip(1) {
            add(&mut tested, part)?;
        }
        match &mut tested {
            Tested::Classes(evaluation) => evaluation.answers.sort_by_key(|answer| answer.index),
            Tested::Tasks(evaluation) => evaluation.answers.sort_by_key(|answer| answer.index),
        }
        Ok(Some(tested))
    }
}

fn part(tested: &Tested) -> Part {
    let tally = tested.tally().clone();
    let answers = match tested {
        Tested::Classes(evaluation) => {
            let numbers = |answer: &Answer| {
                let Answer { index, label, predicted, probability, rank } = *answer;
                let [label, predicted, rank] = [label, predicted, rank].map(u64::from);
                vec![index as u64, label, predicted, u64::from(probability.to_bits()), rank]
            };
            evaluation.answers.iter().map(numbers).collect()
        }
        Tested::Tasks(evaluation) => {
            let numbers = |answer: &TaskAnswers| {
                let given = answer.labels.iter().chain(&answer.predicted).map(|&n| u64::from(n));
                std::iter::once(answer.index as u64).chain(given).collect()
            };
            evaluation.answers.iter().map(numbers).collect()
        }
    };
    Part { tally, answers }
}

fn add(tested: &mut Tested, part: Part) -> Result<()> {
    let torn = || Error::Parallel("a rank's answers are of another network".into());
    match tested {
        Tested::Classes(Evaluation { tally, answers, .. }) => {
            tally.add_all(&part.tally);
            for numbers in part.answers {
                let [index, label, predicted, probability, rank] =
                    numbers.try_into().map_err(|_| torn())?;
                let probability = f32::from_bits(probability as u32);
                let [label, predicted, rank] = [label, predicted, rank].map(|n: u64| n as u32);
                answers.push(Answer { index: index as usize, label, predicted, probability, rank });
            }
        }
        Tested::Tasks(TaskEvaluation { tally, answers, tasks }) => {
            tally.add_all(&part.tally);
            for numbers in part.answers {
                let (&index, given) = numbers.split_first().ok_or_else(torn)?;
                if given.len() != 2 * tasks.len() {
                    return Err(torn());
                }
                let given: Vec<u32> = given.iter().map(|&n| n as u32).collect();
                let (labels, predicted) = given.split_at(tasks.len());
                let (labels, predicted) = (labels.to_vec(), predicted.to_vec());
                answers.push(TaskAnswers { index: index as usize, labels, predicted });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(index: usize) -> Answer {
        let probability = if index == 3 { f32::NAN } else { 0.1 + index as f32 };
        Answer { index, label: 2, predicted: 1, probability, rank: index as u32 }
    }

    #[test]
    fn a_part_travels_exactly() {
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let of = |indices: &[usize]| {
            let mut tally = Tally::default();
            tally.set_numbers(&[indices.len() as f64, 1.0, -1.0, 0.1 + 0.2, 1.0 / 3.0, 0.0]);
            let answers = indices.iter().map(|&index| answer(index)).collect();
            Tested::Classes(Evaluation { tally, answers, classes: classes.clone() })
        };
        let text = serde_json::to_string(&part(&of(&[3, 1]))).unwrap();
        let mut sum = of(&[0]);
        add(&mut sum, serde_json::from_str(&text).unwrap()).unwrap();
        let Tested::Classes(sum) = sum else { unreachable!() };
        assert_eq!(sum.tally.images, 3);
        assert_eq!(sum.tally.wrong, 2);
        assert_eq!(sum.answers[2], answer(1));
        assert!(sum.answers[1].probability.is_nan() && sum.answers[1].index == 3);
        let short = Part { tally: Tally::default(), answers: vec![vec![1, 2]] };
        assert!(add(&mut of(&[0]), short).is_err());
    }
}
