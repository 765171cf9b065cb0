//! Runs a model through a fixture's events and measures how far it is from the fixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use abn_backbones::BuildOptions;
use abn_core::{Classifier, Mixed, Mode, ParamStore};
use abn_multitask::MultiTask;
use abn_ops::{SgdConfig, Tracked, no_grad, sgd_step};
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

use crate::fixture::{Fixture, Losses};

/// One quantity's deviation from the fixture.
#[derive(Debug)]
pub struct Check {
    /// The quantity; for norms of many tensors with the name of the worst.
    pub what: String,
    /// Relative difference.
    pub deviation: f64,
    /// What the deviation may be.
    pub bound: f64,
}

impl Check {
    /// Whether the quantity is of a forward pass on the fixture's own weights: outputs and the
    /// batch statistics they left.
    pub fn is_of_a_forward_pass(&self) -> bool {
        ["train.", "eval.", "buffer_l2"].iter().any(|prefix| self.what.starts_with(prefix))
    }
}

/// All deviations of one fixture.
#[derive(Debug)]
pub struct Report {
    name: String,
    /// Each quantity's deviation.
    pub checks: Vec<Check>,
}

impl Report {
    /// What is out of bounds.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        let outside = |check: &&Check| check.deviation.is_nan() || check.deviation > check.bound;
        self.checks.iter().filter(outside)
    }
}

impl fmt::Display for Report {
    /// The fixture's name, then each deviation and its bound, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for Check { what, deviation, bound } in &self.checks {
            write!(f, " {what} {deviation:.1e} (≤ {bound:.1e});")?;
        }
        Ok(())
    }
}

/// What may differ how much.
///
/// A tolerance is ten times PyTorch's own deviation in float32, and at least 1e-5. Norms of
/// gradients, statistics and weights have no deviation of their own in the fixtures: theirs is the
/// largest of what they follow from.
struct Tolerance<'a> {
    deviations: &'a BTreeMap<String, f64>,
    /// Instead of all that: one bound for everything (float64 runs).
    fixed: Option<f64>,
}

impl Tolerance<'_> {
    fn of(&self, what: &str) -> f64 {
        self.bound(self.deviations.get(what).copied().unwrap_or_default())
    }

    fn of_largest(&self, prefixes: &[&str]) -> f64 {
        let follows = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let related = self.deviations.iter().filter(|(name, _)| follows(name));
        self.bound(related.fold(0.0, |largest, (_, deviation)| deviation.max(largest)))
    }

    fn bound(&self, deviation: f64) -> f64 {
        self.fixed.unwrap_or((10.0 * deviation).max(1e-5))
    }
}

/// Where a fixture is run, and in which number types.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where.
    pub device: Device,
    /// Number type.
    pub dtype: DType,
    /// With feature maps in bf16 ([`Mixed`]).
    pub bf16: bool,
}

impl Setup {
    /// One type for everything.
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype, bf16: false }
    }

    /// On the CPU.
    pub fn cpu(dtype: DType) -> Self {
        Self::new(Device::Cpu, dtype)
    }
}

/// Runs the fixture's events: forward, backward, statistics, evaluation, SGD steps.
///
/// Every bound is `fixed`, if that is given (for f64).
///
/// # Errors
/// If the model cannot be built, or has other parameters than the fixture.
pub fn run(fixture: &Fixture, setup: &Setup, fixed: Option<f64>) -> Result<Report> {
    let tolerance = Tolerance { deviations: &fixture.float32_deviation, fixed };
    let (store, model) = build(fixture, setup)?;
    let image = fixture.images()?.to_device(&setup.device)?.to_dtype(setup.dtype)?;
    let (image, labels) = (Tracked::constant(image), fixture.labels()?);
    let mut checks = Vec::new();

    let (output, first_losses, first_gradients) = model.train_step(&image, &labels)?;
    compare_output("train", &output, fixture, &tolerance, &mut checks)?;
    compare_gradients(&first_gradients, &store, fixture, &tolerance, &mut checks)?;
    let statistics = norms(&store.buffers())?;
    let expected = &fixture.buffer_l2_after_first_forward;
    let bound = tolerance.of_largest(&["train.", "eval."]);
    checks.push(worst("buffer_l2", &statistics, expected, bound)?);

    let output = no_grad(|| model.evaluate(&image))?;
    compare_output("eval", &output, fixture, &tolerance, &mut checks)?;

    let config = SgdConfig {
        lr: fixture.sgd.lr,
        momentum: fixture.sgd.momentum,
        weight_decay: fixture.sgd.weight_decay,
        nesterov: false,
    };
    let parameters = store.parameters();
    let velocities = parameters.iter().map(|(_, var)| var.zeros_like());
    let velocities = velocities.collect::<candle_core::Result<Vec<_>>>()?;
    let (mut trajectory, mut gradients) = (vec![first_losses], first_gradients);
    for step in 0..fixture.sgd.steps {
        if step > 0 {
            let (_, losses, new) = model.train_step(&image, &labels)?;
            trajectory.push(losses);
            gradients = new;
        }
        for ((_, var), velocity) in parameters.iter().zip(&velocities) {
            // PyTorch leaves a parameter alone that has no gradient, weight decay included.
            if let Some(gradient) = gradients.get(var.as_tensor()) {
                sgd_step(var.as_tensor(), velocity, gradient, &config, step == 0)?;
            }
        }
    }
    let deviation = trajectory_deviation(&trajectory, &fixture.loss_trajectory)?;
    let bound = tolerance.of("loss_trajectory");
    checks.push(Check { what: "loss_trajectory".into(), deviation, bound });
    let bound = tolerance.of_largest(&["grad.", "loss_trajectory"]);
    let weights = norms(&parameters)?;
    checks.push(worst("param_l2_after", &weights, &fixture.param_l2_after, bound)?);
    Ok(Report { name: fixture.name.clone(), checks })
}

/// What double precision must agree to: the fixtures' tensors are stored as float32.
const DOUBLE: f64 = 1e-6;

/// Whether what is out of bounds in single precision is rounding: an input of a ReLU so close to
/// zero that it falls on the other side changes gradients by far more than rounding itself, and
/// ten times what PyTorch happened to see does not bound that. Then the forward passes, which have
/// no such jump, are within bounds, and *everything* agrees in double precision, far more closely
/// than any bound in single precision asks for; `Ok` says how closely.
///
/// # Errors
/// What speaks against it.
pub fn is_rounding(fixture: &Fixture, single: &Report, device: &Device) -> Result<String, String> {
    if single.failures().next().is_none() {
        return Ok(String::new());
    }
    if let Some(forward) = single.failures().find(|check| check.is_of_a_forward_pass()) {
        return Err(format!("{} has no jump that could explain it", forward.what));
    }
    match run(fixture, &Setup::new(device.clone(), DType::F64), Some(DOUBLE)) {
        Ok(double) if double.failures().next().is_none() => Ok(format!("in float64 {double}")),
        Ok(double) => Err(format!("nor is float64 within bounds: {double}")),
        Err(error) => Err(format!("in float64: {error:#}")),
    }
}

/// The fixture's model with the fixture's weights.
fn build(fixture: &Fixture, setup: &Setup) -> Result<(ParamStore, Network)> {
    let store = ParamStore::new(0, setup.dtype, setup.device.clone());
    let (model, cost) = if fixture.is_multitask() {
        let ((spec, options), tasks) = (fixture.multitask()?, fixture.tasks());
        let model = abn_multitask::build(&spec, &tasks, &options, store.var_builder())?;
        (Network::Tasks(model), abn_multitask::cost(&spec, &tasks, &options)?)
    } else {
        let options = BuildOptions {
            bn_momentum: fixture.bn_momentum,
            dropout: Some(0.0),
            ..BuildOptions::new(fixture.num_classes)
        };
        let (spec, variant) = (fixture.model()?, fixture.variant()?);
        let model = spec.build(variant, &options, store.var_builder())?;
        (Network::Classes(model), spec.cost(variant, fixture.num_classes)?)
    };
    let shapes = |tensors: &[(String, candle_core::Var)]| -> BTreeMap<String, Vec<usize>> {
        tensors.iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect()
    };
    same_keys("parameters", &shapes(&store.parameters()), &fixture.parameters)?;
    same_keys("buffers", &shapes(&store.buffers()), &fixture.buffers)?;
    ensure!(
        store.parameter_count() == fixture.parameter_count,
        "{} parameters instead of {}",
        store.parameter_count(),
        fixture.parameter_count
    );
    ensure!(cost.parameters == fixture.parameter_count as u64, "the cost says {cost:?}");
    store.load(fixture.initial_weights()?, true)?;
    let model = match model {
        model if !setup.bf16 => model,
        Network::Classes(model) => Network::Classes(Box::new(Mixed::bf16(model, &setup.device)?)),
        Network::Tasks(model) => Network::Tasks(Box::new(Mixed::bf16(model, &setup.device)?)),
    };
    Ok((store, model))
}

fn same_keys(
    what: &str,
    ours: &BTreeMap<String, Vec<usize>>,
    theirs: &BTreeMap<String, Vec<usize>>,
) -> Result<()> {
    let ours: BTreeSet<_> = ours.iter().collect();
    let theirs: BTreeSet<_> = theirs.iter().collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let unexpected: Vec<_> = ours.difference(&theirs).collect();
    ensure!(
        missing.is_empty() && unexpected.is_empty(),
        "{what}: missing {missing:?}, unexpected {unexpected:?}"
    );
    Ok(())
}

/// A network of whichever kind.
enum Network {
    Classes(Box<dyn Classifier>),
    Tasks(Box<dyn MultiTask>),
}

/// Outputs by their names in the fixtures.
type Outputs = Vec<(&'static str, Tensor)>;

impl Network {
    fn train_step(&self, image: &Tracked, labels: &Tensor) -> Result<(Outputs, Losses, GradStore)> {
        let mode = Mode::Train { seed: 0 };
        match self {
            Self::Classes(model) => {
                let output = model.forward(image, mode)?;
                let loss = abn_core::loss(&output, labels)?;
                let losses = Losses {
                    att: loss.attention.as_ref().map(scalar).transpose()?,
                    per: scalar(&loss.perception)?,
                    total: scalar(&loss.total)?,
                };
                let outputs = of_classes(output);
                Ok((outputs, losses, loss.total.backward()?))
            }
            Self::Tasks(model) => {
                let mut gradients = GradStore::default();
                let step = model.backward_into(image, labels, mode, 1.0, &mut gradients)?;
                let losses = Losses {
                    att: step.attention()?,
                    per: step.perception()?,
                    total: step.total()?,
                };
                Ok((of_tasks(step.output)?, losses, gradients))
            }
        }
    }

    fn evaluate(&self, image: &Tracked) -> Result<Outputs> {
        match self {
            Self::Classes(model) => Ok(of_classes(model.forward(image, Mode::Eval)?)),
            Self::Tasks(model) => of_tasks(model.forward(image, Mode::Eval)?),
        }
    }
}

fn of_classes(output: abn_core::Output) -> Outputs {
    let mut outputs = vec![("per_logits", output.logits.into_value())];
    if let Some(attention) = output.attention {
        outputs.push(("att_logits", attention.logits.into_value()));
        outputs.push(("attention", attention.map.into_value()));
    }
    outputs
}

fn of_tasks(output: abn_multitask::Output) -> Result<Outputs> {
    let join = |logits: Vec<Tracked>| -> Result<Tensor> {
        Ok(Tensor::cat(&logits.iter().map(Tracked::value).collect::<Vec<_>>(), 1)?)
    };
    let mut outputs = vec![("per_logits", join(output.logits)?)];
    if let Some(attention) = output.attention {
        outputs.push(("att_logits", join(attention.logits)?));
        outputs.push(("attention", attention.maps.into_value()));
    }
    Ok(outputs)
}

fn compare_output(
    when: &str,
    output: &Outputs,
    fixture: &Fixture,
    tolerance: &Tolerance,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let has_map = fixture.tensors.contains_key(&format!("{when}.attention"));
    ensure!(has_map == (output.len() == 3), "attention in one of the two");
    for (name, tensor) in output {
        let what = format!("{when}.{name}");
        let expected = fixture.tensors.get(&what).with_context(|| format!("no `{what}`"))?;
        let (deviation, bound) = (distance(tensor, expected)?, tolerance.of(&what));
        checks.push(Check { what, deviation, bound });
    }
    Ok(())
}

fn compare_gradients(
    gradients: &GradStore,
    store: &ParamStore,
    fixture: &Fixture,
    tolerance: &Tolerance,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let mut found = BTreeMap::new();
    for (name, var) in store.parameters() {
        let gradient = gradients.get(var.as_tensor());
        let expected =
            fixture.grad_l2.get(&name).with_context(|| format!("no grad_l2 of {name}"))?;
        ensure!(
            gradient.is_some() == expected.is_some(),
            "{name}: gradient {}, expected norm {expected:?}",
            if gradient.is_some() { "present" } else { "absent" }
        );
        let Some(gradient) = gradient else { continue };
        let what = format!("grad.{name}");
        if let Some(expected) = fixture.tensors.get(&what) {
            let (deviation, bound) = (distance(gradient, expected)?, tolerance.of(&what));
            checks.push(Check { what, deviation, bound });
        }
        found.insert(name, norm(gradient)?);
    }
    let expected = fixture.grad_l2.iter().filter_map(|(name, l2)| Some((name.clone(), (*l2)?)));
    let expected: BTreeMap<String, f64> = expected.collect();
    checks.push(worst("grad_l2", &found, &expected, tolerance.of_largest(&["grad."]))?);
    Ok(())
}

/// The largest difference of two sets of norms, relative to the norm of the layer's tensors
/// together: where a layer's bias or mean is a sum that cancels (the gradient of a bias before
/// batch norm is 0 but for rounding), its rounding errors are as large as its neighbours'.
fn worst(
    what: &str,
    found: &BTreeMap<String, f64>,
    expected: &BTreeMap<String, f64>,
    bound: f64,
) -> Result<Check> {
    ensure!(found.keys().eq(expected.keys()), "{what}: other names than the fixture's");
    let layer = |name: &str| name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned();
    let mut squares = BTreeMap::<String, f64>::new();
    for (name, norm) in expected {
        *squares.entry(layer(name)).or_default() += norm * norm;
    }
    let mut worst = Check { what: what.to_owned(), deviation: 0.0, bound };
    for (name, expected) in expected {
        let deviation = (found[name] - expected).abs() / squares[&layer(name)].sqrt();
        if deviation.is_nan() || deviation > worst.deviation {
            worst = Check { what: format!("{what}[{name}]"), deviation, bound };
        }
    }
    Ok(worst)
}

fn trajectory_deviation(found: &[Losses], expected: &[Losses]) -> Result<f64> {
    ensure!(found.len() == expected.len(), "the fixture has {} steps", expected.len());
    let mut deviation: f64 = 0.0;
    for (found, expected) in found.iter().zip(expected) {
        ensure!(found.att.is_some() == expected.att.is_some(), "attention loss in one of the two");
        let pairs = [(found.per, expected.per), (found.total, expected.total)];
        for (found, expected) in pairs.into_iter().chain(found.att.zip(expected.att)) {
            let difference = ((found - expected) / expected).abs();
            deviation = if difference.is_nan() { f64::NAN } else { deviation.max(difference) };
        }
    }
    Ok(deviation)
}

fn scalar(value: &Tracked) -> Result<f64> {
    Ok(here(value.value())?.to_scalar::<f64>()?)
}

/// On the CPU, in f64.
fn here(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}

fn norms(tensors: &[(String, candle_core::Var)]) -> Result<BTreeMap<String, f64>> {
    tensors.iter().map(|(name, var)| Ok((name.clone(), norm(var.as_tensor())?))).collect()
}

fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(here(tensor)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// ‖ours − expected‖ / ‖expected‖; where nothing but zeros is expected (a control's map), 0 if ours
/// are zeros too.
fn distance(ours: &Tensor, expected: &Tensor) -> Result<f64> {
    ensure!(ours.dims() == expected.dims(), "{:?} instead of {:?}", ours.dims(), expected.dims());
    let expected = here(expected)?;
    let difference = norm(&(here(ours)? - &expected)?)?;
    Ok(if difference == 0.0 { 0.0 } else { difference / norm(&expected)? })
}
