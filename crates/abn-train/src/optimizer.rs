//! Stochastic gradient descent over all trainable parameters of a network.

use std::collections::BTreeMap;

use abn_ops::SgdConfig;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::{Recipe, Result};

/// A step's learning rate.
#[derive(Clone, Copy)]
pub(crate) enum Rate<'a> {
    /// On the host.
    Here(f64),
    /// Where the parameters are (f64, a scalar), as it is when the device does the step.
    There(&'a Tensor),
}

/// SGD with momentum and weight decay, exactly as PyTorch's `torch.optim.SGD` without dampening.
///
/// For each parameter w with gradient d: g = d + λw, v = μv + g (v = g at the first step), and
/// w ← w − η·v, or w ← w − η·(g + μv) with Nesterov's momentum.
pub struct Sgd {
    /// In the order of their names, so that nothing depends on how the network was built.
    parameters: Vec<(String, Var)>,
    velocity: BTreeMap<String, Tensor>,
    config: SgdConfig,
}

impl Sgd {
    /// An optimizer at rest for these parameters, with a recipe's momentum and weight decay.
    pub fn new(parameters: Vec<(String, Var)>, recipe: &Recipe) -> Self {
        let config = SgdConfig {
            lr: recipe.lr,
            momentum: recipe.momentum,
            weight_decay: recipe.weight_decay,
            nesterov: recipe.nesterov,
        };
        Self { parameters, velocity: BTreeMap::new(), config }
    }

    /// Moves every parameter that has a gradient by one step at learning rate `lr`. A parameter
    /// without a gradient stays as it is, weight decay included, as in PyTorch.
    ///
    /// # Errors
    /// If a gradient's shape is not its parameter's.
    pub fn step(&mut self, gradients: &GradStore, lr: f64) -> Result<()> {
        self.step_at(gradients, Rate::Here(lr))
    }

    /// [`Sgd::step`] at a learning rate that may lie where the parameters do.
    pub(crate) fn step_at(&mut self, gradients: &GradStore, rate: Rate) -> Result<()> {
        let config = self.config;
        self.step_by(gradients, |steps, first| match rate {
            Rate::Here(lr) => abn_ops::sgd_step_all(steps, &SgdConfig { lr, ..config }, first),
            Rate::There(lr) => abn_ops::sgd_step_at(lr, steps, &config, first),
        })
    }

    fn step_by(
        &mut self,
        gradients: &GradStore,
        step_all: impl Fn(&[(&Tensor, &Tensor, &Tensor)], bool) -> abn_ops::Result<()>,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        for (name, parameter) in &self.parameters {
            if gradients.get(parameter).is_some() && !self.velocity.contains_key(name) {
                self.velocity.insert(name.clone(), parameter.zeros_like()?);
                fresh.push(name);
            }
        }
        // All at once: on a GPU that is one kernel for a hundred parameters.
        let (mut first, mut later, mut fresh) =
            (Vec::new(), Vec::new(), fresh.into_iter().peekable());
        for (name, parameter) in &self.parameters {
            let Some(gradient) = gradients.get(parameter) else { continue };
            let step = (parameter.as_tensor(), &self.velocity[name], gradient);
            match fresh.next_if_eq(&name) {
                Some(_) => first.push(step),
                None => later.push(step),
            }
        }
        step_all(&first, true)?;
        step_all(&later, false)?;
        Ok(())
    }

    /// The parameters that have moved, in the order of their names.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &Var> {
        let moved = self.parameters.iter().filter(|(name, _)| self.velocity.contains_key(name));
        moved.map(|(_, parameter)| parameter)
    }

    /// The velocity of each parameter that has moved, by its name.
    pub fn velocity(&self) -> &BTreeMap<String, Tensor> {
        &self.velocity
    }

    /// Goes on from saved velocities, wherever they are.
    ///
    /// # Errors
    /// If one is of no parameter, or of another shape: says which. Or if the parameters' device has
    /// no memory for them.
    pub fn set_velocity(&mut self, mut velocity: BTreeMap<String, Tensor>) -> Result<(), String> {
        for (name, saved) in &mut velocity {
            let parameter = self.parameters.iter().find(|(known, _)| known == name);
            let Some((_, parameter)) = parameter else {
                return Err(format!("the network has no parameter {name:?}"));
            };
            if parameter.dims() != saved.dims() {
                let (want, got) = (parameter.dims(), saved.dims());
                return Err(format!("{name:?} has shape {got:?}, the parameter {want:?}"));
            }
            *saved = saved.to_device(parameter.device()).map_err(|error| error.to_string())?;
        }
        self.velocity = velocity;
        Ok(())
    }
}
