//! Where masks come from.

use std::cell::RefCell;

#[cfg(gpu)]
use candle_core::DType;
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Result;
use crate::device::is_gpu;

/// The seed of a thing that has one (a layer, a part of a step), from that of what it belongs to: unrelated to that
/// of any other thing or seed.
pub fn derive_seed(seed: u64, thing: u64) -> u64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&thing.to_le_bytes());
    ChaCha8Rng::from_seed(key).next_u64()
}

/// A step's seed in a GPU's memory, so that a captured step ([`Graph`](crate::Graph)) has other masks each time it is
/// replayed.
#[derive(Clone, Debug)]
pub struct StepSeed {
    /// Its lower and its upper half, f64.
    #[cfg_attr(not(gpu), allow(dead_code))]
    there: Tensor,
}

thread_local! {
    static CURRENT: RefCell<Option<StepSeed>> = const { RefCell::new(None) };
}

impl StepSeed {
    /// Memory for it on this device, if that is a GPU.
    ///
    /// # Errors
    /// If there is none.
    pub fn on(device: &Device) -> Result<Option<Self>> {
        if !is_gpu(device) {
            return Ok(None);
        }
        #[cfg(gpu)]
        return Ok(Some(Self { there: Tensor::zeros(2, DType::F64, device)? }));
        #[cfg(not(gpu))]
        Ok(None)
    }

    /// The seed from here on. A kernel writes it: nothing is copied from the host.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn set(&self, seed: u64) -> Result<()> {
        #[cfg(gpu)]
        super::cuda::put_seed(&self.there, seed)?;
        let _ = seed;
        Ok(())
    }

    /// Runs `f`, in which the masks of [`dropout_of_step`](super::dropout_of_step) come from this seed, as it will be when
    /// they are drawn, and not from the one given. Holds for this thread.
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<StepSeed>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        f()
    }

    /// The seed in which this thread's masks are drawn, if it lies on a GPU.
    #[cfg(gpu)]
    pub(super) fn current() -> Option<Tensor> {
        CURRENT.with_borrow(|current| current.as_ref().map(|seed| seed.there.clone()))
    }
}
