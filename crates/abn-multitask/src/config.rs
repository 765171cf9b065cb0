//! Which of the published models.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use abn_core::Mechanism;

use crate::{Error, Result, Task};

/// The published models for facial attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The paper's, released in Chainer: g·M, attention scores by the maximum of each map, a 2-way
    /// softmax for each attribute.
    #[default]
    Chainer,
    /// The authors' later one in PyTorch: one logit for each attribute, attention scores by the
    /// mean of each map; g·(1 + M) is an option of it.
    V1,
}

impl Form {
    /// Its settings.
    pub fn config(self) -> Config {
        let (answer, pooling) = match self {
            Self::Chainer => (AnswerForm::Softmax, Pooling::Max),
            Self::V1 => (AnswerForm::Logit, Pooling::Mean),
        };
        Config { answer, pooling, mechanism: Mechanism::Multiply, tasks_per_pass: None }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Chainer => "chainer",
            Self::V1 => "v1",
        })
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "chainer" => Ok(Self::Chainer),
            "v1" => Ok(Self::V1),
            _ => Err(Error::UnknownName {
                what: "multi-task form",
                name: name.to_owned(),
                expected: "`chainer` (the paper's) or `v1` (the authors' later one)",
            }),
        }
    }
}

/// How a task with two answers is answered. One with more has a logit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// By one logit: yes if it is above 0. Its loss is binary cross-entropy.
    Logit,
    /// By two logits, no and yes. Their loss is softmax cross-entropy.
    Softmax,
}

/// How the attention branch's class maps become its scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of each map.
    Mean,
    /// The maximum of each map.
    Max,
}

/// The settings of a model for several tasks; [`Form::config`] has the published ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// How tasks with two answers are answered.
    pub answer: AnswerForm,
    /// How the attention branch scores. Not used by the baseline.
    pub pooling: Pooling,
    /// Equation (4), g·M, or as in equation (2), g·(1 + M). Not used by the baseline.
    pub mechanism: Mechanism,
    /// How many tasks the perception branch does at a time; `None`: all. Fewer take less memory,
    /// in evaluation and in [`MultiTask::backward_into`](crate::MultiTask::backward_into), and
    /// give the same numbers.
    pub tasks_per_pass: Option<NonZeroUsize>,
}

impl Config {
    /// Logits of a task's answer.
    pub(crate) fn outputs(&self, task: &Task) -> usize {
        match self.answer {
            AnswerForm::Logit if task.is_binary() => 1,
            _ => task.categories,
        }
    }
}
