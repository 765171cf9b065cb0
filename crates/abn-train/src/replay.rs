//! Training steps as CUDA graphs: told to the GPU once for each number of images, and replayed.

use std::collections::BTreeMap;

use abn_ops::{Graph, StepSeed, filled};
use candle_core::{DType, Device, Tensor, Var};

use crate::part::Part;
use crate::tally::Tally;
use crate::{Error, Recipe, Result, TrainOptions};

/// Steps of a shape that are done one by one before one is captured: they load kernels, measure
/// algorithms, and make what stays (velocities, memory to work in).
const WARM_UP: usize = 3;

/// The graphs of a run.
///
/// A graph reads images, labels, learning rate and the masks' seed from memory of its own, into which each
/// step's are copied first; everything else that it reads and writes (weights, statistics, velocities, averages, the
/// meter) stays where it is. So it is the same kernels on the same numbers as a step without one.
pub(crate) struct Replay {
    device: Device,
    /// By the number of images.
    shapes: BTreeMap<usize, Shape>,
    /// No more steps are captured.
    refused: bool,
}

enum Shape {
    /// Steps so far.
    Warming(usize),
    Captured(Box<Step>),
}

struct Step {
    graph: Graph,
    images: Var,
    labels: Var,
    rate: Rate,
    /// Of the dropout masks.
    seed: Option<StepSeed>,
    counted: Tally,
}

/// A learning rate on the device.
struct Rate {
    there: Var,
    value: f64,
}

impl Rate {
    fn set(&mut self, value: f64) -> Result<()> {
        if value.to_bits() != self.value.to_bits() {
            self.there.set(&filled(value, (), DType::F64, self.there.device())?)?;
            self.value = value;
        }
        Ok(())
    }
}

/// What became of a step.
pub(crate) enum Replayed {
    /// The device was told to do it, with what was counted on the host.
    Done(Tally),
    /// It is still to be done.
    NotYet,
    /// Neither this one nor those after it are captured: why. Told once.
    Refused(String),
}

impl Replay {
    /// For a run that wants steps captured (none so far); or why its steps cannot be.
    pub fn wanted(
        recipe: &Recipe,
        options: &TrainOptions,
        device: &Device,
    ) -> Result<Option<Self>, &'static str> {
        if !options.cuda_graph {
            Ok(None)
        } else if !abn_ops::is_gpu(device) {
            Err("they are a GPU's (--device cuda)")
        } else if options.group.is_some() {
            Err("several processes train together")
        } else if recipe.accumulate > 1 {
            Err("a step is done in parts (accumulate)")
        } else {
            let device = device.clone();
            Ok(Some(Self { device, shapes: BTreeMap::new(), refused: false }))
        }
    }

    /// Does a step from a graph, if it can. `work` does it on the part and at the learning rate that it
    /// is given, telling nobody but the device, and gives what it counted on the host; `seed` is that of the
    /// masks which it draws.
    ///
    /// # Errors
    /// If the device fails. That a step cannot be captured is none.
    pub fn step(
        &mut self,
        part: &Part,
        lr: f64,
        seed: u64,
        work: impl FnOnce(Part, &Tensor) -> Result<Tally>,
    ) -> Result<Replayed> {
        if self.refused {
            return Ok(Replayed::NotYet);
        }
        let shape = self.shapes.entry(part.len()).or_insert(Shape::Warming(0));
        if let Shape::Warming(steps) = shape {
            if *steps < WARM_UP {
                *steps += 1;
                return Ok(Replayed::NotYet);
            }
            match Step::capture(&self.device, part, lr, work) {
                Ok(step) => *shape = Shape::Captured(Box::new(step)),
                Err(error) => {
                    self.refused = true;
                    return Ok(Replayed::Refused(error.to_string()));
                }
            }
        }
        let Shape::Captured(step) = shape else { return Ok(Replayed::NotYet) };
        step.images.set(&part.images)?;
        step.labels.set(&part.labels)?;
        step.rate.set(lr)?;
        step.seed.as_ref().map_or(Ok(()), |there| there.set(seed))?;
        step.graph.launch()?;
        Ok(Replayed::Done(step.counted.clone()))
    }
}

impl Step {
    fn capture(
        device: &Device,
        part: &Part,
        lr: f64,
        work: impl FnOnce(Part, &Tensor) -> Result<Tally>,
    ) -> Result<Self> {
        let images = Var::zeros(part.images.shape(), DType::F32, device)?;
        let labels = Var::zeros(part.labels.shape(), DType::U32, device)?;
        let there = Var::from_tensor(&Tensor::new(lr, device)?)?;
        let inputs = Part {
            images: images.as_tensor().clone(),
            labels: labels.as_tensor().clone(),
            known: part.known.clone(),
            indices: Vec::new(),
        };
        let seed = StepSeed::on(device)?;
        let mut counted = Tally::default();
        let work = || {
            counted = work(inputs, there.as_tensor())?;
            Ok::<_, Error>(())
        };
        let graph = Graph::capture(device, || match &seed {
            Some(seed) => seed.within(work),
            None => work(),
        })?;
        Ok(Self { graph, images, labels, rate: Rate { there, value: lr }, seed, counted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_no_graphs_and_is_asked_for_none() {
        let (recipe, mut options) = (Recipe::default(), TrainOptions::default());
        let wanted = |options: &TrainOptions| {
            Replay::wanted(&recipe, options, &Device::Cpu).map(|replay| replay.is_some())
        };
        assert_eq!(wanted(&options), Ok(false));
        options.cuda_graph = true;
        assert_eq!(wanted(&options), Err("they are a GPU's (--device cuda)"));
    }

    #[test]
    fn a_step_that_cannot_be_captured_is_refused_once() {
        let shapes = BTreeMap::new();
        let mut replay = Replay { device: Device::Cpu, shapes, refused: false };
        let part = Part {
            images: Tensor::zeros((2, 3, 4, 4), DType::F32, &Device::Cpu).unwrap(),
            labels: Tensor::zeros((2, 1), DType::U32, &Device::Cpu).unwrap(),
            known: vec![0; 2],
            indices: vec![0, 1],
        };
        let mut step = || replay.step(&part, 0.1, 1, |_, _| Ok(Tally::default())).unwrap();
        for _ in 0..WARM_UP {
            assert!(matches!(step(), Replayed::NotYet));
        }
        let Replayed::Refused(why) = step() else { panic!("captured on the CPU") };
        assert!(why.contains("graph"), "{why}");
        assert!(matches!(step(), Replayed::NotYet));
    }
}
