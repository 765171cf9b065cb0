//! One step of ABN, in a process of its own so that peak memory is the network's.
//!
//! Talks over standard input and output as `tests/reference/bench_step.py` does.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use abn_backbones::{BuildOptions, Variant};
use abn_core::{Classifier, Mixed, Mode, ParamStore};
use abn_explain::{Attention, Explain, GradCam, resize};
use abn_ops::{Graph, PackedWeights, SgdConfig, StepSeed, Tracked, no_grad};
use abn_train::{DeviceChoice, Precision};
use anyhow::{Context, Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;
use serde_json::json;

pub(super) const SGD: SgdConfig =
    SgdConfig { lr: 0.01, momentum: 0.9, weight_decay: 1e-4, nesterov: false };

/// Run steps as standard input asks; started by `bench train`, `bench eval` and `bench explain`
#[derive(clap::Args, Debug)]
#[command(hide = true)]
pub struct Args {
    network: String,
    #[arg(long)]
    pass: Pass,
    #[arg(long)]
    batch: usize,
    #[arg(long)]
    threads: usize,
    /// Side of the images.
    #[arg(long, default_value_t = 32)]
    size: usize,
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Replay training steps as a CUDA graph.
    #[arg(long)]
    cuda_graph: bool,
    /// Dropout probability, if not the network's own.
    #[arg(long)]
    dropout: Option<f64>,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Forward, both losses, backward, SGD.
    Train,
    /// Classes and attention map.
    Eval,
    /// Class scores alone, which in ABN cost an attention map too.
    Forward,
    /// Attention maps, as `abn-explain` gives them.
    Attention,
    /// Grad-CAM of a network without attention branch, enlarged to the images and scaled to 0 to 1.
    #[value(name = "grad-cam")]
    #[serde(rename = "grad-cam")]
    GradCam,
}

impl Pass {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Forward => "forward",
            Self::Attention => "attention",
            Self::GradCam => "grad-cam",
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let Args { batch: images, size, dropout, .. } = *args;
    let batch = Batch { images, size, classes: 100, dropout };
    let variant = if args.pass == Pass::GradCam { Variant::Baseline } else { Variant::Abn };
    let device = args.device.open(0)?;
    args.precision.set_up(&device)?;
    serve(&args.network, args.threads, &device, || {
        let mut trainer = Trainer::new(&args.network, variant, batch, &device)?;
        if args.precision == Precision::Bf16 {
            trainer.model = Box::new(Mixed::bf16(trainer.model, &device)?);
        }
        // The CPU has none.
        let captures = args.cuda_graph && args.pass == Pass::Train && abn_ops::is_gpu(&device);
        let device = device.clone();
        Ok(move || {
            if captures && trainer.steps == BEFORE_CAPTURE {
                trainer.capture(&device)?;
            }
            trainer.pass(args.pass)
        })
    })
}

/// Steps before one is captured: kernels are loaded, algorithms measured, memory taken that stays.
const BEFORE_CAPTURE: u64 = 3;

/// Takes steps on so many threads as standard input asks. On the CPU each gives its seconds; a GPU is
/// waited for after the last of them only, as in training, and they share what it took.
pub(super) fn serve<S: FnMut() -> Result<f64> + Send>(
    what: &str,
    threads: usize,
    device: &Device,
    start: impl FnOnce() -> Result<S>,
) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let mut step = start()?;
    let mut steps = |count: usize| -> Result<Vec<f64>> {
        if device.is_cpu() {
            return (0..count).map(|_| step()).collect();
        }
        device.synchronize()?;
        let start = Instant::now();
        (0..count).try_for_each(|_| step().map(drop))?;
        device.synchronize()?;
        Ok(vec![start.elapsed().as_secs_f64() / count as f64; count.min(1)])
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", json!({ "ready": what }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["quit"] => break,
            ["step", count] => {
                let count: usize = count.parse()?;
                let seconds = abn_ops::in_pool(|| steps(count))?;
                writeln!(output, "{}", json!({ "seconds": seconds }))?;
            }
            _ => bail!("expected `step N` or `quit`, got {line:?}"),
        }
    }
    let device = abn_ops::peak_memory(device)?;
    let ended = json!({
        "peak_rss_bytes": peak_rss()?,
        "peak_device_bytes": device,
        "refused": abn_ops::cudnn_refused(),
        "replayed": Some(abn_ops::graphs_launched()).filter(|&count| count > 0),
    });
    writeln!(output, "{ended}")?;
    Ok(())
}

/// What a step is taken on.
#[derive(Clone, Copy)]
pub struct Batch {
    /// Number of images.
    pub images: usize,
    /// Their side.
    pub size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Dropout probability, if not the network's own.
    pub dropout: Option<f64>,
}

/// A network and its optimizer, for timing.
pub struct Trainer {
    model: Box<dyn Classifier>,
    /// Each parameter and its velocity.
    parameters: Vec<(Var, Tensor)>,
    images: Tensor,
    labels: Tensor,
    classes: Vec<u32>,
    steps: u64,
    /// Of a training step's dropout masks, where it lies on a GPU.
    seed: Option<StepSeed>,
    /// Of a training step.
    graph: Option<Graph>,
    /// Of the answers.
    packed: PackedWeights,
}

impl Trainer {
    /// A network with initial weights.
    pub fn new(network: &str, variant: Variant, batch: Batch, device: &Device) -> Result<Self> {
        let Batch { images: count, size, classes, dropout } = batch;
        let store = ParamStore::new(0, DType::F32, device.clone());
        let options = BuildOptions { dropout, ..BuildOptions::new(classes) };
        let model = abn_backbones::find(network)?.build(variant, &options, store.var_builder())?;
        let (parameters, images) = (with_velocities(&store)?, some_images(count, size, device)?);
        let classes: Vec<_> = (0..count).map(|i| (i * 37 % classes) as u32).collect();
        let labels = Tensor::from_slice(&classes, count, device)?;
        let (seed, packed) = (StepSeed::on(device)?, PackedWeights::new());
        Ok(Self { model, parameters, images, labels, classes, steps: 0, seed, graph: None, packed })
    }

    /// Seconds of a step.
    pub(super) fn pass(&mut self, pass: Pass) -> Result<f64> {
        match pass {
            Pass::Train => self.step(),
            Pass::Eval => self.answer(),
            Pass::Forward => self.forward(),
            Pass::Attention => self.attention(),
            Pass::GradCam => self.grad_cam(),
        }
    }

    /// Seconds of a forward pass.
    fn forward(&self) -> Result<f64> {
        let start = Instant::now();
        let images = Tracked::constant(self.images.clone());
        black_box(self.packed.reuse(|| no_grad(|| self.model.forward(&images, Mode::Eval)))?);
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds of attention maps.
    fn attention(&self) -> Result<f64> {
        let start = Instant::now();
        let maps = || Attention.maps(&*self.model, &self.images, &self.classes);
        black_box(self.packed.reuse(maps)?);
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds of Grad-CAM, as the `grad-cam` package gives it: of the images' size, in 0 to 1.
    fn grad_cam(&self) -> Result<f64> {
        let (_, _, height, width) = self.images.dims4()?;
        let start = Instant::now();
        let maps = GradCam::default().maps(&*self.model, &self.images, &self.classes)?;
        black_box(resize::bilinear(&resize::normalised(&maps)?, height, width)?);
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds of an answer: probabilities and attention map.
    fn answer(&self) -> Result<f64> {
        let start = Instant::now();
        let images = Tracked::constant(self.images.clone());
        let output = self.packed.reuse(|| no_grad(|| self.model.forward(&images, Mode::Eval)))?;
        black_box((abn_ops::softmax(output.logits.value())?, output.attention));
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds of a training step: forward, both losses, backward, SGD.
    pub fn step(&mut self) -> Result<f64> {
        let start = Instant::now();
        if let Some(seed) = &self.seed {
            seed.set(self.steps)?;
        }
        match &self.graph {
            Some(graph) => graph.launch()?,
            None => self.train()?,
        }
        self.steps += 1;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Has the device replay this step from here on.
    fn capture(&mut self, device: &Device) -> Result<()> {
        self.graph = Some(Graph::capture(device, || self.train())?);
        Ok(())
    }

    fn train(&self) -> Result<()> {
        let images = Tracked::constant(self.images.clone());
        let forward = || self.model.forward(&images, Mode::Train { seed: self.steps });
        let output = match &self.seed {
            Some(seed) => seed.within(forward),
            None => forward(),
        }?;
        let loss = abn_core::loss(&output, &self.labels)?.total;
        drop(output);
        // Nothing comes from the host: a captured step would not copy it again.
        let gradients = loss.backward_from(abn_ops::scalar(1.0, self.images.device())?)?;
        update(&self.parameters, &gradients, self.steps == 0)
    }
}

/// Each parameter and a velocity of zeros.
pub(super) fn with_velocities(store: &ParamStore) -> Result<Vec<(Var, Tensor)>> {
    let with_velocity = |(_, var): (String, Var)| {
        let velocity = var.zeros_like()?;
        Ok((var, velocity))
    };
    store.parameters().into_iter().map(with_velocity).collect()
}

/// SGD over all parameters. One without part in the loss has no gradient, and is passed over as by PyTorch.
pub(super) fn update(
    parameters: &[(Var, Tensor)],
    gradients: &GradStore,
    first: bool,
) -> Result<()> {
    let step = |(parameter, velocity)| Some((parameter, velocity, gradients.get(parameter)?));
    let steps: Vec<_> =
        parameters.iter().map(|(p, v)| (p.as_tensor(), v)).filter_map(step).collect();
    Ok(abn_ops::sgd_step_all(&steps, &SGD, first)?)
}

/// Any images will do, as long as they differ.
pub(super) fn some_images(count: usize, size: usize, device: &Device) -> Result<Tensor> {
    let values = (0..count * 3 * size * size).map(|i| (i as f32 * 0.7123).sin() * 1.5);
    Ok(Tensor::from_iter(values, device)?.reshape((count, 3, size, size))?)
}

/// The most memory this process has held, in bytes; `None` where the system does not say.
fn peak_rss() -> Result<Option<u64>> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return Ok(None);
    };
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"))
        .context("/proc/self/status has no VmHWM")?;
    Ok(Some(kibibytes.trim().parse::<u64>()? * 1024))
}
