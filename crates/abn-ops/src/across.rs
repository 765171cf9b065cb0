//! Batches that several processes share: each has a part, and batch norm's statistics are those of
//! the whole.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::Tensor;

/// Adds up over the processes that share a batch. Every process calls it as often and in the same
/// order, since all compute the same network.
pub trait Across: Send + Sync {
    /// The sum of everybody's `values`, on their device: flat, f64, of the same length everywhere.
    /// The result has the same bits everywhere.
    ///
    /// # Errors
    /// If another process cannot be reached.
    fn sum(&self, values: Tensor) -> candle_core::Result<Tensor>;

    /// Whether this process's part counts. It does not where a process that has no part of a small
    /// last batch computes on something in its place, to keep step with the others.
    fn counts(&self) -> bool {
        true
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Across>>> = const { RefCell::new(None) };
}

/// Runs `f`, in whose training passes batch norm has the statistics of the whole batch, of which
/// this process has a part: PyTorch's `SyncBatchNorm`. The gradients of its parameters stay those of
/// the part, to be summed like all others. Holds for this thread.
pub fn synchronised<R>(across: Arc<dyn Across>, f: impl FnOnce() -> R) -> R {
    with(Some(across), f)
}

/// Runs `f` with these others, and then returns to those before, come what may.
pub(crate) fn with<R>(across: Option<Arc<dyn Across>>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Across>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(across));
    f()
}

/// Those of this thread.
pub(crate) fn current() -> Option<Arc<dyn Across>> {
    CURRENT.with_borrow(Clone::clone)
}
