//! Two batches by turns: while the network computes on one, the other is brought over.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use abn_data::Batch;
use abn_ops::{Inlet, Lane};

use crate::part::Part;
use crate::{Error, Result};

/// How many batches take turns.
const TURNS: usize = 2;

/// Memory on the device for what the loader prepares.
pub(crate) trait Berth: Send + 'static {
    /// What is brought.
    type Cargo: Send + 'static;

    /// Begins to bring it over; called on the belt's thread.
    fn load(&mut self, cargo: Self::Cargo) -> Result<()>;

    /// What was brought, for what the device is told to compute until [`let_go`](Self::let_go).
    fn part(&self) -> Result<Part>;

    /// The device has been told all that is computed on it.
    fn let_go(&self) -> Result<()>;
}

/// What a [`Belt`] carries a cargo in.
pub(crate) trait Cargo: Send + Sized + 'static {
    /// Where it lies.
    type Berth: Berth<Cargo = Self>;
}

/// Brings over what a loader prepares, on a thread of its own, one ahead.
pub(crate) struct Belt<C: Cargo> {
    loaded: Option<Receiver<Result<C::Berth>>>,
    empty: Option<Sender<C::Berth>>,
    /// That of the part that was given last.
    used: Option<C::Berth>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Cargo> Belt<C> {
    /// Begins. `berth` makes memory for one cargo.
    pub fn new(
        loader: impl Iterator<Item = abn_data::Result<C>> + Send + 'static,
        berth: impl Fn() -> Result<C::Berth>,
    ) -> Result<Self> {
        let (empty, to_load) = channel();
        let (to_use, loaded) = sync_channel(TURNS);
        for _ in 0..TURNS {
            let _ = empty.send(berth()?);
        }
        let thread = std::thread::Builder::new()
            .name("abn-train feed".to_owned())
            .spawn(move || load_all(loader, &to_load, &to_use))
            .map_err(|e| Error::Invalid(format!("cannot start the feed's thread: {e}")))?;
        Ok(Self { loaded: Some(loaded), empty: Some(empty), used: None, thread: Some(thread) })
    }

    pub fn next(&mut self) -> Option<Result<Part>> {
        if let Some(used) = self.used.take() {
            if let Err(error) = used.let_go() {
                return Some(Err(error));
            }
            // The thread is gone after the last one.
            let _ = self.empty.as_ref()?.send(used);
        }
        match self.loaded.as_ref()?.recv() {
            Ok(Ok(berth)) => {
                let part = berth.part();
                self.used = Some(berth);
                Some(part)
            }
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => {
                // A data set that panicked must not look like the end of an epoch.
                if let Err(panic) = self.join() {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }

    fn join(&mut self) -> std::thread::Result<()> {
        // Without the other ends the thread's next message fails, and it returns.
        (self.loaded, self.empty) = (None, None);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<C: Cargo> Drop for Belt<C> {
    fn drop(&mut self) {
        // A panic of the thread was printed there; panicking in drop would abort.
        drop(self.join());
    }
}

fn load_all<B: Berth>(
    loader: impl Iterator<Item = abn_data::Result<B::Cargo>>,
    empty: &Receiver<B>,
    loaded: &SyncSender<Result<B>>,
) {
    for cargo in loader {
        let Ok(mut berth) = empty.recv() else { return };
        let berth = cargo.map_err(Error::from).and_then(|cargo| berth.load(cargo).map(|()| berth));
        let last = berth.is_err();
        if loaded.send(berth).is_err() || last {
            return;
        }
    }
}

/// A whole batch.
pub(crate) struct Carried {
    images: Inlet<f32>,
    labels: Inlet<u32>,
    shape: [usize; 4],
    tasks: usize,
    known: Vec<u32>,
    indices: Vec<usize>,
}

impl Carried {
    /// Room for so many numbers.
    pub fn new(lane: &Lane, pixels: usize, labels: usize) -> Result<Self> {
        let (images, labels) = (Inlet::new(lane, pixels)?, Inlet::new(lane, labels)?);
        let (known, indices) = Default::default();
        Ok(Self { images, labels, shape: [0; 4], tasks: 1, known, indices })
    }
}

impl Cargo for Batch {
    type Berth = Carried;
}

impl Berth for Carried {
    type Cargo = Batch;

    fn load(&mut self, batch: Batch) -> Result<()> {
        self.images.fill(&batch.images)?;
        self.labels.fill(&batch.labels)?;
        (self.shape, self.tasks) = (batch.shape, batch.tasks);
        (self.known, self.indices) = (batch.labels, batch.indices);
        Ok(())
    }

    fn part(&self) -> Result<Part> {
        let labels = self.labels.take((self.shape[0], self.tasks))?;
        let [n, c, h, w] = self.shape;
        let images = self.images.take((n, c, h, w))?;
        Ok(Part { images, labels, known: self.known.clone(), indices: self.indices.clone() })
    }

    fn let_go(&self) -> Result<()> {
        self.images.release()?;
        Ok(self.labels.release()?)
    }
}
