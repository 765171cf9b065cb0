//! The processes that train together, as one of them sees it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::sleep;
use std::time::Duration;

use abn_ops::Across;
use candle_core::{Device, Tensor};

use super::buckets::SharedReducer;
use super::link::Link;
use super::place::Place;
use super::reducer::{Reducer, TcpReducer};
use super::rendezvous;
use crate::{Error, Result};

/// What gradients and statistics travel over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The CPU's: TCP, by way of rank 0.
    Tcp,
    /// NVIDIA's, from GPU to GPU. Only in programs with the feature `nccl`.
    Nccl,
}

/// How to join a group.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// Default: NCCL on a GPU, TCP on the CPU.
    pub transport: Option<Transport>,
    /// How long to wait for the others at the beginning. Default: 5 minutes.
    pub patience: Duration,
    /// After how long a silent rank is given up. Default: 10 minutes, as rank 0 may be busy with a
    /// report, and others with a larger part.
    pub timeout: Duration,
    /// Bytes of gradients that are summed at a time. Default: 25 MiB, as PyTorch's
    /// `DistributedDataParallel`.
    pub bucket_bytes: usize,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            transport: None,
            patience: Duration::from_secs(300),
            timeout: Duration::from_secs(600),
            bucket_bytes: 25 << 20,
        }
    }
}

/// The processes that train together.
pub struct Group {
    place: Place,
    transport: Transport,
    control: Mutex<Link>,
    statistics: SharedReducer,
    gradients: SharedReducer,
    bucket_bytes: usize,
    /// What broke a sum of statistics: inside an operation there is no other way to tell.
    broken: Arc<Mutex<Option<Error>>>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group(rank {} of {})", self.place.rank, self.place.world)
    }
}

impl Group {
    /// Finds the other processes, which do the same. `device` is what this one computes on.
    ///
    /// # Errors
    /// [`Error::Parallel`] if rank 0 cannot listen or be found, or this program lacks what is asked
    /// for; [`Error::Peer`] naming who did not come in time.
    pub fn join(place: Place, device: &Device, options: &JoinOptions) -> Result<Arc<Self>> {
        let transport = options.transport.unwrap_or(match device {
            Device::Cuda(_) => Transport::Nccl,
            _ => Transport::Tcp,
        });
        if transport == Transport::Nccl && !cfg!(feature = "nccl") {
            return Err(Error::Parallel(
                "this abn was built without NCCL, which sums gradients between GPUs; build it with \
                 `cargo install --path crates/abn-train --features nccl`"
                    .into(),
            ));
        }
        let [control, statistics, gradients] =
            rendezvous::connect(&place, options.patience, options.timeout)?;
        let control = Mutex::new(control);
        let [statistics, gradients] = match transport {
            Transport::Tcp => {
                [statistics, gradients].map(|link| Box::new(TcpReducer(link)) as Box<dyn Reducer>)
            }
            #[cfg(feature = "nccl")]
            Transport::Nccl => {
                let id = |bytes| lock(&control).broadcast(bytes);
                super::nccl::pair(&place, device, id)?
            }
            #[cfg(not(feature = "nccl"))]
            Transport::Nccl => unreachable!("refused above"),
        };
        let shared = |reducer| Arc::new(Mutex::new(reducer));
        Ok(Arc::new(Self {
            place,
            transport,
            control,
            statistics: shared(statistics),
            gradients: shared(gradients),
            bucket_bytes: options.bucket_bytes,
            broken: Arc::default(),
        }))
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// How many processes there are.
    pub fn world(&self) -> usize {
        self.place.world
    }

    /// Rank 0's bytes, for everybody.
    pub(crate) fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.control().broadcast(bytes)
    }

    /// Everybody's bytes at rank 0, in the order of the ranks; nothing at the others.
    pub(crate) fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.control().gather(bytes)
    }

    /// Everybody's sum, in place.
    pub(crate) fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.control().sum(values)
    }

    /// Whether gradients and statistics can be summed at a time. NCCL wants the sums of two
    /// communicators in one order on all ranks, which two threads do not keep.
    pub(crate) fn sums_beside_statistics(&self) -> bool {
        self.transport == Transport::Tcp
    }

    pub(crate) fn gradients(&self) -> (&SharedReducer, usize) {
        (&self.gradients, self.bucket_bytes)
    }

    /// Whom batch norm shares a batch with, of which this process's part may not count.
    pub(crate) fn statistics(&self, counts: bool) -> Arc<dyn Across> {
        let (reducer, broken) = (self.statistics.clone(), self.broken.clone());
        Arc::new(Statistics { reducer, broken, counts })
    }

    /// Why this process fails: what `error` comes from, if that was another's failure.
    pub(crate) fn cause(&self, error: Error) -> Error {
        match lock(&self.broken).take().unwrap_or(error) {
            Error::Peer { rank, problem } => {
                let reason = self.control().reason(rank);
                reason.unwrap_or(Error::Peer { rank, problem })
            }
            error => error,
        }
    }

    /// Tells the others why this process fails.
    pub(crate) fn fail(&self, error: &Error) {
        match error {
            Error::Peer { rank, problem } => self.control().fail(*rank, problem),
            error => self.control().fail(self.rank(), &format!("has failed: {error}")),
        }
    }

    /// Waits until the others need nothing more of this process's sums.
    pub(crate) fn settle(&self) -> Result<()> {
        lock(&self.statistics).settle()?;
        lock(&self.gradients).settle()
    }

    /// Ends all sums, since a process fails: the device would otherwise wait for ranks that are gone, and
    /// this process for the device.
    pub(crate) fn give_up(&self) {
        for reducer in [&self.statistics, &self.gradients] {
            // A thread that is stuck in a sum keeps it; nothing more can be done then.
            for _ in 0..20 {
                match reducer.try_lock() {
                    Ok(mut reducer) => reducer.give_up(),
                    Err(TryLockError::Poisoned(failed)) => failed.into_inner().give_up(),
                    Err(TryLockError::WouldBlock) => {
                        sleep(Duration::from_millis(50));
                        continue;
                    }
                }
                break;
            }
        }
    }

    fn control(&self) -> MutexGuard<'_, Link> {
        lock(&self.control)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

struct Statistics {
    reducer: SharedReducer,
    broken: Arc<Mutex<Option<Error>>>,
    counts: bool,
}

impl Across for Statistics {
    fn sum(&self, values: Tensor) -> candle_core::Result<Tensor> {
        let mut reducer = lock(&self.reducer);
        let sum = reducer.all_reduce(&values).and_then(|sum| reducer.wait().map(|()| sum));
        sum.map_err(|error| {
            let said = candle_core::Error::Msg(error.to_string());
            *lock(&self.broken) = Some(error);
            said
        })
    }

    fn counts(&self) -> bool {
        self.counts
    }
}
