//! Pinned memory, and a stream of copies.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaStream, PinnedHostSlice, result, sys,
};
use candle_core::{Device, Tensor};

use super::{Carried, OP};
use crate::Result;
use crate::cuda::address_mut;

/// Streams of a device.
#[derive(Clone)]
pub struct Copies {
    copies: Arc<CudaStream>,
    computation: Arc<CudaStream>,
}

impl Copies {
    /// `None` for what is no GPU.
    pub fn new(device: &Device) -> Result<Option<Self>> {
        let Device::Cuda(device) = device else { return Ok(None) };
        let computation = device.cuda_stream();
        let copies = computation.context().new_stream().w()?;
        Ok(Some(Self { copies, computation }))
    }
}

/// What fills a tensor's memory.
pub struct Carrier<T: Carried> {
    streams: Copies,
    pinned: PinnedHostSlice<T>,
    /// Where the tensor is, which lives as long.
    to: u64,
    /// The last copy is done.
    filled: CudaEvent,
    /// The computation is done with what was filled.
    free: CudaEvent,
}

impl<T: Carried> Carrier<T> {
    pub fn new(streams: &Copies, place: &Tensor) -> Result<Self> {
        let context = streams.copies.context();
        // The host may wait for a copy, and then sleeps.
        let waited_for = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let filled = context.new_event(Some(waited_for)).w()?;
        let free = context.new_event(None).w()?;
        // SAFETY: it is only read by copies, after `fill` has written what they read.
        let pinned = unsafe { context.alloc_pinned::<T>(place.elem_count()) }.w()?;
        let to = address_mut(OP, place)?;
        // The memory is the other stream's from now on.
        free.record(&streams.computation).w()?;
        Ok(Self { streams: streams.clone(), pinned, to, filled, free })
    }

    pub fn fill(&mut self, numbers: &[T]) -> Result<()> {
        let Copies { copies, .. } = &self.streams;
        copies.context().bind_to_thread().w()?;
        // The copy before has read its memory.
        self.filled.synchronize().w()?;
        let bytes = size_of_val(numbers);
        // SAFETY: nobody else has the pinned memory, which has room for the numbers (`Inlet::fill`
        // looks), and no copy reads it any more.
        let pinned = unsafe {
            let to = pinned_pointer(&mut self.pinned)?;
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, numbers.len());
            std::slice::from_raw_parts(to.cast::<u8>(), bytes)
        };
        copies.wait(&self.free).w()?;
        // SAFETY: the tensor's memory is as large and nobody's until it is taken; the pinned memory
        // stays as it is until `filled`.
        unsafe { result::memcpy_htod_async(self.to, pinned, copies.cu_stream()) }.w()?;
        self.filled.record(copies).w()?;
        Ok(())
    }

    pub fn await_filled(&self) -> Result<()> {
        Ok(self.streams.computation.wait(&self.filled).w()?)
    }

    pub fn let_go(&self) -> Result<()> {
        Ok(self.free.record(&self.streams.computation).w()?)
    }
}

/// Where pinned memory begins, which no copy of cudarc's own uses.
fn pinned_pointer<T: Carried>(pinned: &mut PinnedHostSlice<T>) -> Result<*mut T> {
    Ok(pinned.as_mut_ptr().w()?)
}

impl<T: Carried> Drop for Carrier<T> {
    fn drop(&mut self) {
        // Neither memory is freed under a copy. An error shows at the next use of the device.
        let context = self.streams.copies.context();
        context.record_err(self.streams.copies.synchronize());
    }
}
