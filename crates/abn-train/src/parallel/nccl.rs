//! Sums between GPUs by NVIDIA's NCCL.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr};
use candle_core::cuda_backend::cudarc::nccl::result::NcclError;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, NcclType, ReduceOp, sys};
use candle_core::cuda_backend::{CudaDType, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Storage, Tensor};

use super::place::Place;
use super::reducer::Reducer;
use crate::{Error, Result};

/// One communicator, on a stream of its own, so that sums go on beside the backward pass.
struct NcclReducer {
    /// `None` once it is given up.
    comm: Option<Comm>,
    /// The stream that everything else runs on.
    compute: Arc<CudaStream>,
    /// What sums read and write that the other stream has not waited for: all memory is freed for
    /// the other stream's next use, which may come sooner.
    in_use: Vec<Tensor>,
}

// SAFETY: a communicator may be used from any thread, by one at a time, which `&mut self` and the
// mutex around each reducer see to; NCCL's own state is behind the pointer, and nothing of it is bound
// to the thread that made it.
unsafe impl Send for NcclReducer {}

/// Two communicators over all ranks: statistics of batch norm are summed by the training thread, while
/// another sums gradients, and the order of calls on one must be the same everywhere. `broadcast` gives
/// everybody rank 0's bytes.
///
/// # Errors
/// If NCCL cannot connect the GPUs.
pub(super) fn pair(
    place: &Place,
    device: &Device,
    broadcast: impl Fn(Vec<u8>) -> Result<Vec<u8>>,
) -> Result<[Box<dyn Reducer>; 2]> {
    let compute = device.as_cuda_device()?.cuda_stream();
    let reducer = || -> Result<Box<dyn Reducer>> {
        let ours = match place.rank {
            0 => Id::new().map_err(nccl)?.internal().map(|c| c as u8).to_vec(),
            _ => Vec::new(),
        };
        let id: [u8; 128] = broadcast(ours)?
            .try_into()
            .map_err(|_| Error::Parallel("rank 0 has sent no NCCL id".into()))?;
        compute.context().bind_to_thread().map_err(driver)?;
        let stream = compute.fork().map_err(driver)?;
        let id = Id::uninit(id.map(|byte| byte as _));
        let comm = Comm::from_rank(stream, place.rank, place.world, id).map_err(nccl)?;
        Ok(Box::new(NcclReducer { comm: Some(comm), compute: compute.clone(), in_use: Vec::new() }))
    };
    Ok([reducer()?, reducer()?])
}

fn nccl(NcclError(result): NcclError) -> Error {
    let text = |text: *const c_char| match text.is_null() {
        true => String::new(),
        // SAFETY: NCCL's strings end in a zero, and nobody here calls NCCL meanwhile.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
    };
    // SAFETY: the one takes any result; the other no communicator, for what came last in this process.
    let (what, last) = unsafe {
        (text(sys::ncclGetErrorString(result)), text(sys::ncclGetLastError(std::ptr::null_mut())))
    };
    let what = what.split(" (").next().unwrap_or_default();
    let last = if last.is_empty() { String::new() } else { format!(": {last}") };
    Error::Parallel(format!(
        "NCCL cannot sum between the GPUs: {what}{last} (with NCCL_DEBUG=INFO it tells more)"
    ))
}

fn driver(error: candle_core::cuda_backend::cudarc::driver::DriverError) -> Error {
    Error::Parallel(format!("the GPU's driver refuses: {error}"))
}

impl NcclReducer {
    fn sum<T: CudaDType + DeviceRepr + NcclType>(&mut self, values: &Tensor) -> Result<Tensor> {
        let Some(comm) = &self.comm else {
            return Err(Error::Parallel("sums between the GPUs were given up".into()));
        };
        let device = values.device().as_cuda_device()?.clone();
        let len = values.elem_count();
        let (read, layout) = values.storage_and_layout();
        let (Storage::Cuda(read), Some((start, end))) = (&*read, layout.contiguous_offsets())
        else {
            return Err(Error::Parallel("NCCL sums contiguous tensors on a GPU".into()));
        };
        let ours = read.as_cuda_slice::<T>()?.slice(start..end);
        // SAFETY: NCCL writes all of it before anything that `wait` lets run reads it.
        let mut sum = unsafe { device.alloc::<T>(len)? };
        comm.context().bind_to_thread().map_err(driver)?;
        comm.stream().join(&self.compute).map_err(driver)?;
        let told = comm.all_reduce(&ours, &mut sum, &ReduceOp::Sum);
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(sum, device));
        let sum = Tensor::from_storage(storage, len, BackpropOp::none(), false);
        self.in_use.extend([values.clone(), sum.clone()]);
        told.map(|_| sum).map_err(nccl)
    }
}

impl Reducer for NcclReducer {
    fn all_reduce(&mut self, values: &Tensor) -> Result<Tensor> {
        match values.dtype() {
            DType::F32 => self.sum::<f32>(values),
            DType::F64 => self.sum::<f64>(values),
            other => Err(Error::Parallel(format!("no sum of {other:?} over the ranks"))),
        }
    }

    fn wait(&mut self) -> Result<()> {
        if let Some(comm) = &self.comm {
            self.compute.join(&comm.stream()).map_err(driver)?;
        }
        self.in_use.clear();
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        match &self.comm {
            Some(comm) => comm.stream().synchronize().map_err(driver),
            None => Ok(()),
        }
    }

    fn give_up(&mut self) {
        let Some(comm) = self.comm.take() else { return };
        let stream = comm.stream();
        // Its drop ends what the GPU still waits for.
        drop(comm);
        // Of a driver that refuses, those hear who use the device next.
        self.compute.context().record_err(self.compute.join(&stream));
        self.in_use.clear();
    }
}

impl Drop for NcclReducer {
    fn drop(&mut self) {
        self.give_up();
    }
}
