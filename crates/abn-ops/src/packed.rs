//! Weights in the order the kernels read them, kept from one evaluation to the next.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use candle_core::TensorId;

use crate::Result;

/// A network's weights in the order the kernels read them.
///
/// Each convolution brings its weights into that order before it begins; of one image that can
/// take as long as the convolution itself. Inside [`PackedWeights::reuse`] it is done once and kept.
/// The kept ones take about as much memory as the weights, with 3×3 kernels up to twice as much.
///
/// cuDNN and oneDNN do the same behind the scenes (`torch.utils.mkldnn`, "weight prepacking").
#[derive(Clone, Default)]
pub struct PackedWeights(Arc<Mutex<HashMap<Key, Arc<dyn Any + Send + Sync>>>>);

/// The weight tensor, and which of the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub weight: TensorId,
    pub order: &'static str,
    pub groups: usize,
}

thread_local! {
    static CURRENT: RefCell<Option<PackedWeights>> = const { RefCell::new(None) };
}

impl PackedWeights {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `f`, in whose convolutions that nothing is to differentiate, weights packed before are
    /// taken as they are, and others packed and kept.
    ///
    /// A weight is known by its tensor's id: one that is written to in place between two calls, as
    /// a training step does it, is not seen to have changed. Begin with new ones then.
    pub fn reuse<R>(&self, f: impl FnOnce() -> R) -> R {
        with(Some(self.clone()), f)
    }
}

/// Runs `f` with these kept weights, and then returns to those before, come what may.
pub(crate) fn with<R>(packed: Option<PackedWeights>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<PackedWeights>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(packed));
    f()
}

/// Those of this thread.
pub(crate) fn current() -> Option<PackedWeights> {
    CURRENT.with_borrow(Clone::clone)
}

/// The packed weights kept under `key`, or else those that `pack` makes.
pub(crate) fn kept<W: Send + Sync + 'static>(
    key: Key,
    pack: impl FnOnce() -> Result<W>,
) -> Result<Arc<W>> {
    let Some(PackedWeights(kept)) = current() else { return Ok(Arc::new(pack()?)) };
    let lock = || kept.lock().unwrap_or_else(|e| e.into_inner());
    let found = lock().get(&key).cloned();
    if let Some(found) = found.and_then(|found| found.downcast().ok()) {
        return Ok(found);
    }
    // Not under the lock: packing works on the pool, whose threads may come here meanwhile.
    let packed = Arc::new(pack()?);
    lock().insert(key, packed.clone());
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{flat, random};
    use crate::{Conv2dConfig, Tracked, conv2d, in_pool, no_grad};

    fn convolve(x: &Tracked, weight: &Var, groups: usize) -> Vec<f64> {
        let weight = Tracked::parameter(weight.as_tensor().clone());
        let config = Conv2dConfig { padding: 1, groups, ..Default::default() };
        flat(no_grad(|| conv2d(x, &weight, None, &config)).unwrap().value())
    }

    fn kept(packed: &PackedWeights) -> usize {
        packed.0.lock().unwrap().len()
    }

    /// Weights read by rows, by taps and through Winograd's transform; alone and in groups.
    #[test]
    fn kept_weights_give_the_same_bytes() {
        let packed = PackedWeights::new();
        let cases = [(3, 8, 1, 8), (16, 12, 1, 8), (16, 24, 2, 8), (64, 64, 2, 16), (32, 32, 1, 4)];
        for (case, (ci, co, groups, size)) in cases.into_iter().enumerate() {
            let x = Tracked::constant(random(1, &[1, size, size, ci]));
            let weight = Var::from_tensor(&random(2, &[co, ci / groups, 3, 3])).unwrap();
            let alone = convolve(&x, &weight, groups);
            for _ in 0..2 {
                assert_eq!(packed.reuse(|| convolve(&x, &weight, groups)), alone);
                assert_eq!(kept(&packed), case + 1);
            }
        }
    }

    #[test]
    fn one_weight_is_kept_for_each_way_it_is_read() {
        let packed = PackedWeights::new();
        let weight = Var::from_tensor(&random(2, &[64, 32, 3, 3])).unwrap();
        if crate::host::is_on_gpu(&weight) {
            return; // There, one order serves all.
        }
        // Too few tiles for Winograd's transform, enough of them, and in two groups.
        for (i, (size, ci, groups)) in [(4, 32, 1), (16, 32, 1), (4, 64, 2)].into_iter().enumerate()
        {
            let x = Tracked::constant(random(1, &[1, size, size, ci]));
            let alone = convolve(&x, &weight, groups);
            assert_eq!(packed.reuse(|| convolve(&x, &weight, groups)), alone);
            assert_eq!(kept(&packed), i + 1);
        }
    }

    #[test]
    fn they_are_taken_on_the_pool_too_and_nowhere_else() {
        let packed = PackedWeights::new();
        let x = Tracked::constant(random(1, &[1, 8, 8, 16]));
        let weight = Var::from_tensor(&random(2, &[8, 16, 3, 3])).unwrap();
        let before = packed.reuse(|| in_pool(|| convolve(&x, &weight, 1)));
        assert_eq!(kept(&packed), 1);
        weight.set(&random(3, &[8, 16, 3, 3])).unwrap();
        assert_eq!(packed.reuse(|| convolve(&x, &weight, 1)), before, "as the documentation says");
        let after = convolve(&x, &weight, 1);
        assert_ne!(after, before);
        assert_eq!(PackedWeights::new().reuse(|| convolve(&x, &weight, 1)), after);
    }

    #[test]
    fn what_is_recorded_takes_weights_as_they_are() {
        let packed = PackedWeights::new();
        let x = Tracked::leaf(random(1, &[1, 8, 8, 16]));
        let weight = Tracked::leaf(random(2, &[8, 16, 3, 3]));
        packed.reuse(|| conv2d(&x, &weight, None, &Conv2dConfig::default())).unwrap();
        assert_eq!(kept(&packed), 0);
    }
}
