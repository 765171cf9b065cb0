//! Training steps as CUDA graphs: told to the GPU once for each number of images, and replayed. One that is done in
//! parts is one graph, launched when its last part has come. With several processes the graph ends with the
//! gradients, which are then summed and used as without one: sums over processes are not captured.

use std::collections::BTreeMap;

use abn_ops::{Graph, StepSeed, filled};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use crate::part::Part;
use crate::tally::Tally;
use crate::{Error, Recipe, Result, TrainOptions};

/// Steps of a shape that are done one by one before one is captured: they load kernels, measure
/// algorithms, and make what stays (velocities, memory to work in).
const WARM_UP: usize = 3;

/// The graphs of a run.
///
/// A graph reads images, labels, learning rate and the masks' seeds from memory of its own, into which each
/// part's are copied first; everything else that it reads and writes (weights, statistics, velocities, averages, the
/// meter) stays where it is. So it is the same kernels on the same numbers as a step without one.
pub(crate) struct Replay {
    device: Device,
    /// By the images of the step and of each part.
    shapes: BTreeMap<(usize, Vec<usize>), Shape>,
    /// No more steps are captured.
    refused: bool,
    /// With several processes: where graphs leave the gradient of each parameter that has one.
    kept: Option<Kept>,
}

/// Parameters, and memory for their gradients.
pub(crate) type Kept = Vec<(Tensor, Var)>;

enum Shape {
    /// Steps so far.
    Warming(usize),
    Captured(Box<Captured>),
}

struct Captured {
    graph: Graph,
    inputs: Vec<Input>,
    rate: Rate,
    /// On the host, part by part.
    counted: Vec<Tally>,
}

/// What a graph reads of a part of its step.
pub(crate) struct Input {
    images: Var,
    labels: Var,
    /// Of the dropout masks.
    seed: Option<StepSeed>,
}

impl Input {
    /// For so many images like those of `part`.
    fn new(part: &Part, images: usize) -> Result<Self> {
        let (_, c, h, w) = part.images.dims4()?;
        let (device, tasks) = (part.images.device(), part.labels.dims()[1]);
        Ok(Self {
            images: Var::zeros((images, c, h, w), DType::F32, device)?,
            labels: Var::zeros((images, tasks), DType::U32, device)?,
            seed: StepSeed::on(device)?,
        })
    }

    fn set(&self, part: &Part, seed: u64) -> Result<()> {
        self.images.set(&part.images)?;
        self.labels.set(&part.labels)?;
        Ok(self.seed.as_ref().map_or(Ok(()), |there| there.set(seed))?)
    }

    /// Runs `work` on the part, whose masks come from the seed that lies here.
    pub fn run<R>(&self, work: impl FnOnce(Part) -> R) -> R {
        let part = Part {
            images: self.images.as_tensor().clone(),
            labels: self.labels.as_tensor().clone(),
            // Of these a step on a GPU asks how many there are.
            known: vec![0; self.labels.elem_count()],
            indices: Vec::new(),
        };
        match &self.seed {
            Some(seed) => seed.within(|| work(part)),
            None => work(part),
        }
    }
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

/// A part of a step.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// Images of the step, over all processes.
    pub whole: usize,
    /// This process's images of each part.
    pub images: &'a [usize],
    /// Its number, from 0.
    pub number: usize,
}

impl Turn<'_> {
    /// Whether the step ends with it.
    pub fn is_last(self) -> bool {
        self.number + 1 == self.images.len()
    }
}

/// What became of a part.
pub(crate) enum Replayed {
    /// It lies where a graph reads it, and if it is the last the device was told to do the step; with what is
    /// counted of the part on the host. With several processes the step is done but for its end, and has these
    /// gradients.
    Done(Tally, Option<GradStore>),
    /// It is still to be done.
    NotYet,
    /// Neither this step nor those after it are captured: why. Told once.
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
        } else if options.group.is_some() && recipe.sync_batch_norm {
            Err("batch norm's statistics are summed over the processes (sync_batch_norm)")
        } else {
            let kept = options.group.as_ref().map(|_| Kept::new());
            let device = device.clone();
            Ok(Some(Self { device, shapes: BTreeMap::new(), refused: false, kept }))
        }
    }

    /// Tells which parameters have gradients, as a step without a graph has shown. With several processes, there is
    /// memory for these from then on.
    ///
    /// # Errors
    /// If there is none.
    pub fn make_room<'a>(&mut self, moved: impl Iterator<Item = &'a Var>) -> Result<()> {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.is_empty()) {
            for parameter in moved {
                let room = Var::zeros(parameter.shape(), DType::F32, &self.device)?;
                kept.push((parameter.as_tensor().clone(), room));
            }
        }
        Ok(())
    }

    /// Does a part of a step from a graph, if it can. `work` does a whole step, on the parts and at the learning
    /// rate that it is given, telling nobody but the device, and gives what it counted of each on the host; with
    /// several processes, all but its end, leaving the gradients where it is told. `seed` is that of this
    /// part's masks.
    ///
    /// # Errors
    /// If the device fails. That a step cannot be captured is none.
    pub fn part(
        &mut self,
        part: &Part,
        turn: Turn,
        lr: f64,
        seed: u64,
        work: impl FnOnce(&[Input], &Tensor, Option<&Kept>) -> Result<Vec<Tally>>,
    ) -> Result<Replayed> {
        // A process without images computes on others in their place.
        if self.refused || turn.images.contains(&0) {
            return Ok(Replayed::NotYet);
        }
        let shape = (turn.whole, turn.images.to_vec());
        let shape = self.shapes.entry(shape).or_insert(Shape::Warming(0));
        let kept = self.kept.as_ref();
        if let Shape::Warming(steps) = shape {
            if *steps < WARM_UP || turn.number > 0 {
                *steps += usize::from(turn.is_last());
                return Ok(Replayed::NotYet);
            }
            let work = |inputs: &[Input], lr: &Tensor| work(inputs, lr, kept);
            match Captured::new(&self.device, part, turn, lr, work) {
                Ok(step) => *shape = Shape::Captured(Box::new(step)),
                Err(error) => {
                    self.refused = true;
                    return Ok(Replayed::Refused(error.to_string()));
                }
            }
        }
        let Shape::Captured(step) = shape else { return Ok(Replayed::NotYet) };
        step.inputs[turn.number].set(part, seed)?;
        let counted = step.counted[turn.number].clone();
        if !turn.is_last() {
            return Ok(Replayed::Done(counted, None));
        }
        step.rate.set(lr)?;
        step.graph.launch()?;
        let gradients = kept.map(|kept| {
            let mut gradients = GradStore::default();
            for (parameter, gradient) in kept {
                gradients.insert(parameter, gradient.as_tensor().clone());
            }
            gradients
        });
        Ok(Replayed::Done(counted, gradients))
    }
}

impl Captured {
    fn new(
        device: &Device,
        part: &Part,
        turn: Turn,
        lr: f64,
        work: impl FnOnce(&[Input], &Tensor) -> Result<Vec<Tally>>,
    ) -> Result<Self> {
        let inputs = turn.images.iter().map(|&images| Input::new(part, images));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let there = Var::from_tensor(&Tensor::new(lr, device)?)?;
        let mut counted = Vec::new();
        let graph = Graph::capture(device, || {
            counted = work(&inputs, there.as_tensor())?;
            Ok::<_, Error>(())
        })?;
        Ok(Self { graph, inputs, rate: Rate { there, value: lr }, counted })
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
        let mut replay = Replay { device: Device::Cpu, shapes, refused: false, kept: None };
        let part = Part {
            images: Tensor::zeros((2, 3, 4, 4), DType::F32, &Device::Cpu).unwrap(),
            labels: Tensor::zeros((2, 1), DType::U32, &Device::Cpu).unwrap(),
            known: vec![0; 2],
            indices: vec![0, 1],
        };
        let mut step = |number| {
            let turn = Turn { whole: 4, images: &[2, 2], number };
            replay.part(&part, turn, 0.1, 1, |_, _, _| Ok(Vec::new())).unwrap()
        };
        for _ in 0..WARM_UP {
            assert!([0, 1].map(&mut step).iter().all(|done| matches!(done, Replayed::NotYet)));
        }
        let Replayed::Refused(why) = step(0) else { panic!("captured on the CPU") };
        assert!(why.contains("graph"), "{why}");
        // The rest of the step is done without, like all others.
        assert!([1, 0, 1].map(step).iter().all(|done| matches!(done, Replayed::NotYet)));
    }
}
