//! What is timed, and what it is asked to be: the bars of an H100.

use abn_train::Precision;
use serde::Serialize;

use crate::bench::as_text;

/// A network whose training step is timed: ABN for 100 classes.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub network: &'static str,
    /// Images of a step.
    pub batch: usize,
    /// Their side.
    pub size: usize,
    /// What our speed in TF32 is to be, in PyTorch's, eager, in TF32.
    pub of_eager: f64,
    /// What our speed in bf16 is to be, in that of the fastest way of PyTorch's.
    pub of_best: f64,
}

/// The networks of the bars.
pub const CASES: [Case; 4] = [
    Case { network: "resnet110", batch: 256, size: 32, of_eager: 2.0, of_best: 1.0 },
    Case { network: "wrn-28-10", batch: 256, size: 32, of_eager: 1.0, of_best: 1.0 },
    Case { network: "resnext29-8x64d", batch: 256, size: 32, of_eager: 1.0, of_best: 1.0 },
    Case { network: "resnet50", batch: 128, size: 224, of_eager: 1.0, of_best: 1.0 },
];

/// To see that the bench runs, where no speed is to be seen.
pub const SMALL: [Case; 1] =
    [Case { network: "resnet8", batch: 2, size: 16, of_eager: 0.0, of_best: 0.0 }];

/// How this project computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ours {
    /// In which numbers.
    #[serde(serialize_with = "as_text")]
    pub precision: Precision,
    /// Steps as a CUDA graph.
    pub graph: bool,
}

impl Ours {
    /// In a few words.
    pub fn name(self) -> String {
        format!("{}{}", self.precision, if self.graph { ", graph" } else { "" })
    }

    /// For the worker.
    pub fn args(self) -> Vec<String> {
        let mut args = vec!["--precision".to_owned(), self.precision.to_string()];
        if self.graph {
            args.push("--cuda-graph".into());
        }
        args
    }
}

/// How PyTorch computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Theirs {
    /// In which numbers.
    #[serde(serialize_with = "as_text")]
    pub precision: Precision,
    /// Memory format of images and weights.
    pub channels_last: bool,
    /// Mode of `torch.compile`.
    pub compile: Option<&'static str>,
}

impl Theirs {
    const fn eager(precision: Precision) -> Self {
        Self { precision, channels_last: false, compile: None }
    }

    /// In a few words.
    pub fn name(self) -> String {
        let mut name = self.precision.to_string();
        if self.channels_last {
            name += ", channels-last";
        }
        match self.compile {
            None => name + ", eager",
            Some("default") => name + ", compiled",
            Some(mode) => name + ", compiled (" + mode + ")",
        }
    }

    /// For the worker.
    pub fn args(self) -> Vec<String> {
        let mut args = vec!["--precision".to_owned(), self.precision.to_string()];
        if self.channels_last {
            args.push("--channels-last".into());
        }
        if let Some(mode) = self.compile {
            args.extend(["--compile".into(), mode.into()]);
        }
        args
    }
}

/// What a pair counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bar {
    /// Nothing; it is told.
    None,
    /// [`Case::of_eager`]
    Eager,
    /// [`Case::of_best`], if it is the fastest way of PyTorch's.
    Best,
}

/// Two that run in alternation.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub ours: Ours,
    pub theirs: Theirs,
    pub bar: Bar,
}

const F32: Ours = Ours { precision: Precision::F32, graph: true };
const TF32: Ours = Ours { precision: Precision::Tf32, graph: true };
const BF16: Ours = Ours { precision: Precision::Bf16, graph: true };
/// What the graph is worth.
const TF32_STEP_BY_STEP: Ours = Ours { precision: Precision::Tf32, graph: false };
const COMPILED: Option<&str> = Some("default");
/// With CUDA graphs.
const GRAPHS: Option<&str> = Some("reduce-overhead");

/// What is timed against what. Of ours, each way that occurs here is timed where there is no PyTorch.
pub const PAIRS: [Pair; 10] = [
    pair(F32, Theirs::eager(Precision::F32), Bar::None),
    pair(TF32_STEP_BY_STEP, Theirs::eager(Precision::Tf32), Bar::None),
    pair(TF32, Theirs::eager(Precision::Tf32), Bar::Eager),
    pair(BF16, Theirs::eager(Precision::Bf16), Bar::Best),
    pair(BF16, channels_last(Precision::Tf32, None), Bar::Best),
    pair(BF16, channels_last(Precision::Bf16, None), Bar::Best),
    pair(BF16, compiled(Precision::Tf32, COMPILED), Bar::Best),
    pair(BF16, compiled(Precision::Bf16, COMPILED), Bar::Best),
    pair(BF16, channels_last(Precision::Bf16, COMPILED), Bar::Best),
    pair(BF16, channels_last(Precision::Bf16, GRAPHS), Bar::Best),
];

const fn pair(ours: Ours, theirs: Theirs, bar: Bar) -> Pair {
    Pair { ours, theirs, bar }
}

const fn channels_last(precision: Precision, compile: Option<&'static str>) -> Theirs {
    Theirs { precision, channels_last: true, compile }
}

const fn compiled(precision: Precision, compile: Option<&'static str>) -> Theirs {
    Theirs { precision, channels_last: false, compile }
}

/// Of the pairs, the first of each way of ours: enough to see that both sides run.
pub fn few_pairs() -> Vec<Pair> {
    let first = |ours| PAIRS.into_iter().find(|pair| pair.ours == ours);
    our_ways().into_iter().filter_map(first).collect()
}

/// Each way of ours, once.
pub fn our_ways() -> Vec<Ours> {
    let mut ways: Vec<Ours> = PAIRS.iter().map(|pair| pair.ours).collect();
    ways.dedup();
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_exists_and_every_way_is_named_once() {
        for case in CASES.iter().chain(&SMALL) {
            assert!(abn_backbones::find(case.network).is_ok(), "{}", case.network);
        }
        let names = PAIRS.iter().map(|pair| pair.ours.name() + &pair.theirs.name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), PAIRS.len());
        assert_eq!(our_ways(), [F32, TF32_STEP_BY_STEP, TF32, BF16]);
    }
}
