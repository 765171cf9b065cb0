//! `cargo xtask bench multitask`: a training step for many tasks, in one pass and in the loop.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use abn_core::{Mode, ParamStore};
use abn_multitask::{BuildOptions, Form, MultiTask, Task, Variant};
use abn_ops::Tracked;
use abn_train::DeviceChoice;
use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use super::as_text;
use super::step::{serve, some_images, update, with_velocities};
use super::versus::median;
use super::worker::Worker;

const WARM_UP: usize = 1;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// What is measured, and how.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    problem: Problem,

    /// Ways: `loop`, `all` (tasks in one pass), or a number of tasks in a pass
    #[arg(long, value_delimiter = ',', default_values_t = Way::DEFAULT)]
    ways: Vec<Way>,

    /// Rounds of each way, of one step each
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Write the measurements to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The model and its batch.
#[derive(clap::Args, Clone, Debug, Serialize)]
struct Problem {
    /// The backbone
    #[arg(long, default_value = "resnet18")]
    network: String,
    /// The form: `chainer` (the paper's) or `v1`
    #[arg(long, default_value = "chainer")]
    form: String,
    /// Number of tasks
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    tasks: u16,
    /// Images in a batch
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..))]
    batch: u16,
    /// Side of the images
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(32..))]
    size: u16,
    /// Threads
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value_t)]
    #[serde(serialize_with = "as_text")]
    device: DeviceChoice,
}

/// Take multi-task steps as standard input asks; started by `bench multitask`
#[derive(clap::Args, Debug)]
#[command(hide = true)]
pub struct WorkerArgs {
    #[command(flatten)]
    problem: Problem,
    #[arg(long)]
    way: Way,
}

/// How the perception branch does the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One after the other, then backward through all: the authors' way.
    Loop,
    /// In one pass.
    All,
    /// So many in a pass, forward and backward.
    Some(NonZeroUsize),
}

impl Way {
    const DEFAULT: [Self; 6] = [
        Self::Loop,
        Self::All,
        Self::Some(NonZeroUsize::new(20).unwrap()),
        Self::Some(NonZeroUsize::new(10).unwrap()),
        Self::Some(NonZeroUsize::new(4).unwrap()),
        Self::Some(NonZeroUsize::MIN),
    ];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop => f.pad("loop"),
            Self::All => f.pad("all"),
            Self::Some(tasks) => f.pad(&tasks.to_string()),
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loop" => Ok(Self::Loop),
            "all" => Ok(Self::All),
            number => number.parse().map(Self::Some).map_err(|_| {
                format!("`{number}`: expected `loop`, `all` or a number of tasks in a pass")
            }),
        }
    }
}

/// A model, its optimizer and its batch.
struct Trainer {
    model: Box<dyn MultiTask>,
    way: Way,
    store: ParamStore,
    parameters: Vec<(Var, Tensor)>,
    images: Tracked,
    labels: Tensor,
    steps: u64,
}

impl Trainer {
    fn new(problem: &Problem, way: Way, device: &Device) -> Result<Self> {
        let store = ParamStore::new(0, DType::F32, device.clone());
        let mut config = problem.form.parse::<Form>()?.config();
        config.tasks_per_pass = match way {
            Way::Loop => Some(NonZeroUsize::MIN),
            Way::All => None,
            Way::Some(tasks) => Some(tasks),
        };
        let (count, batch) = (usize::from(problem.tasks), usize::from(problem.batch));
        let tasks: Vec<Task> = (0..count).map(|t| Task::binary(format!("task {t}"))).collect();
        let spec = abn_backbones::find(&problem.network)?;
        let options = BuildOptions::new(Variant::Abn, config);
        let model = abn_multitask::build(&spec, &tasks, &options, store.var_builder())?;
        let labels = (0..batch * count).map(|i| (i * 37 / 5 % 2) as u32);
        let labels = Tensor::from_iter(labels, &Device::Cpu)?.reshape((batch, count))?;
        let images = Tracked::constant(some_images(batch, problem.size.into(), device)?);
        let parameters = with_velocities(&store)?;
        Ok(Self { model, way, store, parameters, images, labels, steps: 0 })
    }

    /// The loss and the gradients.
    fn gradients(&self) -> Result<(f64, GradStore)> {
        let mode = Mode::Train { seed: self.steps };
        if self.way == Way::Loop {
            let output = self.model.forward(&self.images, mode)?;
            let loss = abn_multitask::loss(self.model.tasks(), &output, &self.labels)?.total;
            drop(output);
            let gradients = loss.backward()?;
            return Ok((loss.value().to_scalar::<f32>()?.into(), gradients));
        }
        let mut gradients = GradStore::default();
        let step =
            self.model.backward_into(&self.images, &self.labels, mode, 1.0, &mut gradients)?;
        Ok((step.total()?, gradients))
    }

    /// Seconds of a step: forward, both losses, backward, SGD.
    fn step(&mut self) -> Result<f64> {
        let start = Instant::now();
        let (_, gradients) = self.gradients()?;
        update(&self.parameters, &gradients, self.steps == 0)?;
        self.steps += 1;
        Ok(start.elapsed().as_secs_f64())
    }
}

pub fn work(args: &WorkerArgs) -> Result<()> {
    let device = args.problem.device.open(0)?;
    serve(&args.way.to_string(), args.problem.threads.into(), &device, || {
        let mut trainer = Trainer::new(&args.problem, args.way, &device)?;
        Ok(move || trainer.step())
    })
}

#[derive(Serialize)]
struct Report {
    problem: Problem,
    rounds: u16,
    /// Relative differences of one pass from the loop, in the first step.
    loss_difference: f64,
    /// The largest of a parameter's gradient, in L2 norm.
    gradient_difference: f64,
    ways: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    way: String,
    median_seconds: f64,
    /// The loop's seconds by these.
    ratio: Option<f64>,
    peak_rss_bytes: Option<u64>,
    seconds: Vec<f64>,
}

pub fn run(args: &Args) -> Result<()> {
    let Problem { network, form, tasks, batch, size, threads, device } = &args.problem;
    println!(
        "{network}, {form}, {tasks} tasks, batch {batch}, {size}x{size}, {device}, {threads} threads: \
         forward, both losses, backward, SGD"
    );
    let mut workers = Vec::new();
    for way in &args.ways {
        let what = format!("the worker of `{way}`");
        let mut worker = Worker::start(&what, command(&args.problem, *way)?)?.0;
        worker.steps(WARM_UP)?;
        workers.push((worker, Vec::new()));
    }
    // One after the other: none may disturb what another measures.
    for _ in 0..args.rounds {
        for (worker, seconds) in &mut workers {
            seconds.extend(worker.steps(1)?);
        }
    }
    let the_loop = args.ways.iter().position(|way| *way == Way::Loop);
    let the_loop = the_loop.map(|i| median(&workers[i].1));
    println!(
        "{:>14}  {:>10}  {:>12}  {:>10}",
        "tasks per pass", "s a step", "loop / this", "peak MiB"
    );
    let mut rows = Vec::new();
    for (way, (worker, seconds)) in args.ways.iter().zip(workers) {
        let (median_seconds, peak_rss_bytes) = (median(&seconds), worker.quit()?.peak_rss_bytes);
        let ratio = the_loop.map(|the_loop| the_loop / median_seconds);
        println!(
            "{way:>14}  {median_seconds:>10.3}  {:>12}  {:>10}",
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            peak_rss_bytes.map_or("-".to_owned(), |b| format!("{:.0}", b as f64 / MEBIBYTE)),
        );
        rows.push(Row { way: way.to_string(), median_seconds, ratio, peak_rss_bytes, seconds });
    }
    let (loss_difference, gradient_difference) = differences(&args.problem)?;
    println!(
        "one pass against the loop, relative: loss {loss_difference:.1e}, \
         the worst parameter's gradient {gradient_difference:.1e}"
    );
    if let Some(path) = &args.json {
        let (problem, rounds) = (args.problem.clone(), args.rounds);
        let report = Report { problem, rounds, loss_difference, gradient_difference, ways: rows };
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn command(problem: &Problem, way: Way) -> Result<Command> {
    let Problem { network, form, tasks, batch, size, threads, device } = problem;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "multitask-worker", "--network", network, "--form", form]);
    for (name, value) in
        [("--tasks", tasks), ("--batch", batch), ("--size", size), ("--threads", threads)]
    {
        command.args([name, &value.to_string()]);
    }
    command.args(["--way", &way.to_string(), "--device", &device.to_string()]);
    Ok(command)
}

/// How far one pass is from the loop: the loss, and the worst parameter's gradient.
fn differences(problem: &Problem) -> Result<(f64, f64)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(problem.threads.into()).build()?;
    let device = problem.device.open(0)?;
    let first = |way| -> Result<_> {
        let trainer = Trainer::new(problem, way, &device)?;
        let (loss, gradients) = pool.install(|| trainer.gradients())?;
        let gradient = |(name, var): (String, Var)| {
            let gradient = gradients.get(&var).with_context(|| format!("no gradient of {name}"))?;
            Ok((name, gradient.clone()))
        };
        let gradients = trainer.store.parameters().into_iter().map(gradient);
        Ok((loss, gradients.collect::<Result<Vec<_>>>()?))
    };
    let ((expected, loop_gradients), (found, gradients)) = (first(Way::Loop)?, first(Way::All)?);
    let norm = |x: Tensor| -> Result<f64> {
        Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
    };
    let mut worst = 0.0_f64;
    for ((_, expected), (_, found)) in loop_gradients.iter().zip(&gradients) {
        worst = worst.max(norm((found - expected)?)? / norm(expected.clone())?);
    }
    Ok((((found - expected) / expected).abs(), worst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_told_by_name() {
        for way in Way::DEFAULT {
            assert_eq!(way.to_string().parse::<Way>().unwrap(), way);
        }
        for wrong in ["0", "none", "-1"] {
            assert!(wrong.parse::<Way>().unwrap_err().contains("number of tasks"), "{wrong}");
        }
    }

    #[test]
    fn one_pass_is_the_loop() {
        let problem = Problem {
            network: "resnet8".into(),
            form: "v1".into(),
            tasks: 5,
            batch: 4,
            size: 32,
            threads: 2,
            device: DeviceChoice::Cpu,
        };
        let (loss, gradient) = differences(&problem).unwrap();
        assert!(loss <= 1e-5 && gradient <= 1e-5, "{loss:e} {gradient:e}");
    }
}
