//! `cargo xtask gpu-check`: all that a GPU has to show, in one command.
//!
//! Each part runs in processes of its own, which see the one device that is checked: a part that fails,
//! or takes the driver down with it, leaves the others their turn. What a part found is kept in a file of the
//! folder for results; the report is made of all of them, so that a check may be done in several commands.

mod bench;
mod device;
mod fashion;
mod files;
mod ops;
mod outcome;
mod pack;
mod parity;
pub mod part;
mod plan;
mod pytorch;
mod report;
mod small;
mod steps;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use device::{Described, Target};
use outcome::Outcome;
use pytorch::PyTorch;

/// Check and time everything on a GPU: operations, parity, training steps, speed
///
/// Writes a page (gpu-check.md) and the figures as JSON into the folder for results, and fails unless all held
/// that was asked. Parts that were done there before, on the same GPU, stay in the report.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The GPU: `cuda` or `cuda:N`; or `emulated`, the GPU's code on the CPU, which takes small settings
    /// (needs --features cuda-emulation)
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    device: Target,

    /// Which parts [default: all; fashion-mnist where its folder is named]
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    parts: Vec<Part>,

    /// A Python that has torch (see tests/reference/README.md); time PyTorch beside this, in alternation
    #[arg(long, value_name = "PYTHON")]
    against_pytorch: Option<PathBuf>,

    /// Give up a way of PyTorch's that is not ready to be timed after so long, in seconds: compiling takes minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,

    /// Folder with Fashion-MNIST's four files: train on all of it, three seeds
    #[arg(long, value_name = "DIR")]
    fashion_mnist: Option<PathBuf>,

    /// Time these networks only: resnet110, wrn-28-10, resnext29-8x64d, resnet50; or resnet8, with which nothing but
    /// that it runs is seen
    #[arg(long, value_delimiter = ',', value_name = "NETWORKS")]
    networks: Vec<String>,

    /// Fewer rounds of every measurement, fewer fixtures, shorter runs
    #[arg(long)]
    quick: bool,

    /// As on a GPU, with the smallest settings, and with PyTorch on the CPU. Where a library stands for the GPU's
    /// (xtask/rehearse-gpu.sh) it shows that every part runs to its end; its speeds say nothing
    #[arg(long, hide = true)]
    rehearse: bool,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "runs/gpu-check")]
    out: PathBuf,

    /// Instead of checking: build what this command needs elsewhere into a folder, for a machine
    /// that has a GPU, its driver and CUDA's libraries, but neither this repository nor Rust
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The tests of all operations, forward and gradients.
    Ops,
    /// The networks against the authors' numbers.
    Parity,
    /// Ten training steps on the CPU and on the GPU.
    Steps,
    /// Speed and memory of a training step.
    Bench,
    /// Whole runs on the full Fashion-MNIST.
    FashionMnist,
}

impl Part {
    const ALL: [Self; 5] = [Self::Ops, Self::Parity, Self::Steps, Self::Bench, Self::FashionMnist];

    fn title(self) -> &'static str {
        match self {
            Self::Ops => "operations",
            Self::Parity => "parity",
            Self::Steps => "training steps, CPU against GPU",
            Self::Bench => "speed",
            Self::FashionMnist => "Fashion-MNIST",
        }
    }

    fn run(self, check: &Check) -> Result<Vec<Outcome>> {
        match self {
            Self::Ops => ops::run(check),
            Self::Parity => parity::run(check),
            Self::Steps => steps::run(check),
            Self::Bench => bench::run(check),
            Self::FashionMnist => fashion::run(check),
        }
    }
}

/// What all parts are told.
struct Check<'a> {
    args: &'a Args,
    device: Described,
    pytorch: Option<PyTorch>,
}

impl Check<'_> {
    fn target(&self) -> Target {
        self.args.device
    }

    /// Whether some of it is to be left out.
    fn quick(&self) -> bool {
        self.args.quick || self.target() == Target::Emulated
    }

    /// Whether the settings are the smallest, since a CPU does the work: no speed means anything.
    fn small(&self) -> bool {
        self.args.rehearse || self.target() == Target::Emulated
    }

    /// Keeps what a part has found so far: what ends this process then takes only what is not yet done.
    fn keep(&self, so_far: &Outcome) -> Result<()> {
        so_far.write(&self.args.out, &self.device)?;
        report::write(&self.args.out, &self.device)
    }
}

/// Runs the command.
///
/// # Errors
/// If the device cannot be used, a part fails, or something did not hold that was asked.
pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.pack {
        return pack::run(args.device, folder);
    }
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let parts = asked(args)?;
    // Once for all parts: without a device, none can be.
    let device = device::describe(args.device)?;
    println!("{device}");
    let beside = [Part::Bench, Part::FashionMnist].iter().any(|part| parts.contains(part));
    let python = args.against_pytorch.as_deref().filter(|_| beside);
    let find = |python| PyTorch::find(python, args.device, args.rehearse);
    let pytorch = python.map(find).transpose()?;
    if let Some(found) = &pytorch {
        println!("beside PyTorch {}", found.version);
    }
    if let Some(folder) =
        args.fashion_mnist.as_deref().filter(|_| parts.contains(&Part::FashionMnist))
    {
        abn_data::open("fashion-mnist", Some(folder))?;
    }
    let check = Check { args, device, pytorch };
    let mut failed = Vec::new();
    for part in parts {
        println!("\n{}", part.title());
        let start = Instant::now();
        let outcomes =
            part.run(&check).unwrap_or_else(|error| vec![Outcome::failed(part.title(), &error)]);
        for outcome in outcomes {
            print!("{outcome}");
            if !outcome.held() {
                failed.push(outcome.name.clone());
            }
            check.keep(&outcome)?;
        }
        println!("{:.0} s", start.elapsed().as_secs_f64());
    }
    println!("\nwritten to {}", out.join(report::PAGE).display());
    if !failed.is_empty() {
        bail!("not everything held: {}", failed.join(", "));
    }
    Ok(())
}

/// The parts, in their order.
fn asked(args: &Args) -> Result<Vec<Part>> {
    let there = |part: &Part| *part != Part::FashionMnist || args.fashion_mnist.is_some();
    if args.parts.is_empty() {
        return Ok(Part::ALL.into_iter().filter(there).collect());
    }
    if let Some(part) = args.parts.iter().find(|part| !there(part)) {
        bail!("{} needs --fashion-mnist DIR, the folder with its four files", part.title());
    }
    Ok(Part::ALL.into_iter().filter(|part| args.parts.contains(part)).collect())
}
