//! Sums between GPUs by NVIDIA's NCCL.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr};
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, NcclType, ReduceOp};
use candle_core::cuda_backend::{CudaDType, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Storage, Tensor};

use super::place::Place;
use super::reducer::Reducer;
use crate::{Error, Result};

/// One communicator, on a stream of its own, so that sums go on beside the backward pass.
struct NcclReducer {
    comm: Comm,
    /// The stream that everything else runs on.
    compute: Arc<CudaStream>,
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
        Ok(Box::new(NcclReducer { comm, compute: compute.clone() }))
    };
    Ok([reducer()?, reducer()?])
}

fn nccl(error: candle_core::cuda_backend::cudarc::nccl::result::NcclError) -> Error {
    Error::Parallel(format!(
        "NCCL cannot sum between the GPUs ({error:?}; NCCL_DEBUG=INFO tells more)"
    ))
}

fn driver(error: candle_core::cuda_backend::cudarc::driver::DriverError) -> Error {
    Error::Parallel(format!("the GPU's driver refuses: {error}"))
}

impl NcclReducer {
    fn sum<T: CudaDType + DeviceRepr + NcclType>(&mut self, values: &Tensor) -> Result<Tensor> {
        let device = values.device().as_cuda_device()?.clone();
        let len = values.elem_count();
        let (storage, layout) = values.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            return Err(Error::Parallel("NCCL sums contiguous tensors on a GPU".into()));
        };
        let ours = storage.as_cuda_slice::<T>()?.slice(start..end);
        // SAFETY: NCCL writes all of it before anything that `wait` lets run reads it.
        let mut sum = unsafe { device.alloc::<T>(len)? };
        self.comm.context().bind_to_thread().map_err(driver)?;
        self.comm.stream().join(&self.compute).map_err(driver)?;
        self.comm.all_reduce(&ours, &mut sum, &ReduceOp::Sum).map_err(nccl)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(sum, device));
        Ok(Tensor::from_storage(storage, len, BackpropOp::none(), false))
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
        self.compute.join(&self.comm.stream()).map_err(driver)
    }
}
