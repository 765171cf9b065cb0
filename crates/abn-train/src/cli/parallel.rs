//! `abn train` as one of several processes, or as the one that starts them.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use abn_train::DeviceChoice;
use abn_train::parallel::{Ended, Group, JoinOptions, Launch, Place, Transport, launch};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Args, ValueEnum};

use super::Compute;

/// An exit status of a command about which everything is said.
#[derive(Debug)]
pub struct Silent(pub u8);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit status {}", self.0)
    }
}

impl std::error::Error for Silent {}

#[derive(Args)]
pub struct ParallelArgs {
    /// Train on so many GPUs of this host, each with its part of every batch. For several hosts,
    /// start `abn train` with torchrun. With `--device cpu`: processes on the CPU, to try it out
    #[arg(long, value_name = "N")]
    gpus: Option<NonZeroUsize>,
    /// What sums gradients between processes [default: nccl on GPUs, tcp on the CPU]
    #[arg(long, hide = true)]
    reducer: Option<Reducer>,
    /// Gradients that are summed at a time
    #[arg(long, hide = true, value_name = "BYTES", default_value_t = JoinOptions::default().bucket_bytes)]
    bucket_bytes: usize,
    /// How long to wait for the other processes at the beginning
    #[arg(long, hide = true, value_name = "SECONDS", default_value_t = JoinOptions::default().patience.as_secs())]
    patience: u64,
    /// After how long a silent process is given up
    #[arg(long, hide = true, value_name = "SECONDS", default_value_t = JoinOptions::default().timeout.as_secs())]
    peer_timeout: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reducer {
    Tcp,
    Nccl,
}

impl ParallelArgs {
    /// How many processes this one is to start, and be none of them itself.
    pub fn to_launch(&self) -> Result<Option<usize>> {
        let Some(count) = self.gpus.map(NonZeroUsize::get) else { return Ok(None) };
        match Place::from_environment()? {
            None => Ok((count > 1).then_some(count)),
            Some(Place { local_world: Some(there), .. }) if there != count => {
                bail!(
                    "--gpus {count}, but {there} processes were started on this host: leave it out"
                )
            }
            Some(_) => Ok(None),
        }
    }

    /// Starts the processes, as this one was started, and waits for them.
    pub fn launch(&self, compute: &Compute, processes: usize, stop: Arc<AtomicBool>) -> Result<()> {
        // Without any, a process says what is missing.
        let there = abn_train::gpus();
        if compute.device != Some(DeviceChoice::Cpu) && there > 0 && there < processes {
            bail!(
                "--gpus {processes}, but there {}; CUDA_VISIBLE_DEVICES says which are shown",
                if there == 1 { "is one".to_owned() } else { format!("are {there}") }
            );
        }
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let arguments = std::env::args_os().skip(1).collect();
        let grace = Duration::from_secs(20);
        match launch(&Launch { processes, program, arguments, stop, grace })? {
            Ended::Well => Ok(()),
            Ended::Stopped => Err(Silent(crate::INTERRUPTED).into()),
            Ended::Told => Err(Silent(1).into()),
        }
    }

    /// Sets up this process; with the others, if it is one of several.
    pub fn join(&self, compute: &Compute) -> Result<(Device, Option<Arc<Group>>)> {
        let default =
            if self.gpus.is_some() { DeviceChoice::Cuda(None) } else { DeviceChoice::Cpu };
        let choice = compute.device.unwrap_or(default);
        let Some(place) = Place::from_environment()?.filter(|place| place.world > 1) else {
            compute.set_up_process(None)?;
            return Ok((choice.open(0)?, None));
        };
        if let (DeviceChoice::Cuda(Some(_)), Some(2..)) = (choice, place.local_world) {
            bail!(
                "--device {choice} is one GPU for several processes; `--device cuda` gives each its own"
            );
        }
        compute.set_up_process(place.local_world)?;
        let device = choice.open(place.local_rank)?;
        let transport = self.reducer.map(|reducer| match reducer {
            Reducer::Tcp => Transport::Tcp,
            Reducer::Nccl => Transport::Nccl,
        });
        let options = JoinOptions {
            transport,
            patience: Duration::from_secs(self.patience),
            timeout: Duration::from_secs(self.peer_timeout.max(1)),
            bucket_bytes: self.bucket_bytes,
        };
        Ok((device.clone(), Some(Group::join(place, &device, &options)?)))
    }
}
