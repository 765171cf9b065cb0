//! NVIDIA's driver, by way of candle's device.

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, result, sys,
};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Shape, Storage, Tensor};

use super::Grid;
use super::launch::Arguments;
use crate::{Error, Result};

/// The kernels of a number type, and the name under which candle keeps them once they are loaded.
fn module(dtype: DType) -> (&'static str, &'static str) {
    match dtype {
        DType::BF16 => ("abn_bf16", include_str!(concat!(env!("OUT_DIR"), "/kernels_bf16.ptx"))),
        DType::F64 => ("abn_f64", include_str!(concat!(env!("OUT_DIR"), "/kernels_f64.ptx"))),
        _ => ("abn_f32", include_str!(concat!(env!("OUT_DIR"), "/kernels_f32.ptx"))),
    }
}

/// Opens a GPU for this crate's use: all work in one stream of its own, and freed memory kept for the
/// next step.
///
/// candle's event tracking is off, which records and waits for two events with every kernel's every
/// tensor once a process has a second stream. Whoever makes one orders its work with this one's
/// (`CudaDevice::cuda_stream`) by events of their own.
pub(crate) fn open(ordinal: usize) -> candle_core::Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: there is one stream, as said above.
    unsafe { device.disable_event_tracking() };
    let stream = device.cuda_stream();
    let mut all = u64::MAX;
    // SAFETY: the pool is the device's own, and its threshold is a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device()).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut all).cast())
            .w()?;
    }
    candle_core::cuda::set_gemm_reduced_precision_f32(crate::tf32());
    Ok(Device::Cuda(device))
}

/// The most bytes that the device's pool has held, and captured graphs beside it.
pub(crate) fn peak_memory(device: &CudaDevice) -> candle_core::Result<u64> {
    let stream = device.cuda_stream();
    let this = stream.context().cu_device();
    stream.context().bind_to_thread().w()?;
    let (mut pool, mut graphs) = (0u64, 0u64);
    // SAFETY: the pool is the device's own, and both attributes are 64-bit numbers.
    unsafe {
        let of = result::device::get_default_mem_pool(this).w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
        result::mem_pool::get_attribute(of, attribute, std::ptr::from_mut(&mut pool).cast()).w()?;
        let attribute = sys::CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
        let to = std::ptr::from_mut(&mut graphs).cast();
        sys::cuDeviceGetGraphMemAttribute(this, attribute, to).result().w()?;
    }
    Ok(pool + graphs)
}

/// Memory that is no tensor's.
pub(crate) struct Buffer {
    // Freed with it.
    _memory: CudaSlice<u8>,
    pointer: u64,
    len: usize,
}

impl Buffer {
    /// Of that many bytes.
    pub fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        // SAFETY: it is only written to before it is read, by those who use it.
        let memory = unsafe { device.alloc::<u8>(len)? };
        let pointer = memory.device_ptr(&device.cuda_stream()).0;
        Ok(Self { _memory: memory, pointer, len })
    }

    pub fn pointer(&self) -> *mut std::ffi::c_void {
        self.pointer as *mut _
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

pub fn unwritten(device: &CudaDevice, dtype: DType, shape: Shape) -> Result<Tensor> {
    // An allocation of nothing is an error.
    let len = shape.elem_count().max(1);
    // SAFETY: what is read is written before, as `super::unwritten` asks.
    let slice = unsafe {
        match dtype {
            DType::F32 => CudaStorageSlice::F32(device.alloc(len)?),
            DType::F64 => CudaStorageSlice::F64(device.alloc(len)?),
            DType::BF16 => CudaStorageSlice::BF16(device.alloc(len)?),
            DType::U32 => CudaStorageSlice::U32(device.alloc(len)?),
            DType::U8 => CudaStorageSlice::U8(device.alloc(len)?),
            other => {
                let what = format!("{other:?} on a GPU");
                return Err(Error::Unsupported { op: "allocation", what });
            }
        }
    };
    let storage = Storage::Cuda(CudaStorage { slice, device: device.clone() });
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// Where a storage begins.
pub fn address(op: &'static str, storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F64(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        _ => return Err(Error::Unsupported { op, what: "this number type on a GPU".into() }),
    })
}

/// As [`address`], to be written.
pub fn address_mut(storage: &mut CudaStorage) -> candle_core::Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match &mut storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr_mut(&stream).0,
        CudaStorageSlice::F64(slice) => slice.device_ptr_mut(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr_mut(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr_mut(&stream).0,
        _ => candle_core::bail!("no kernel writes this number type"),
    })
}

pub fn launch(
    op: &'static str,
    kernel: &'static str,
    device: &CudaDevice,
    dtype: DType,
    grid: Grid,
    arguments: &Arguments,
) -> Result<()> {
    let (name, ptx) = module(dtype);
    let function = device.get_or_load_custom_func(kernel, name, ptx)?;
    let mut builder = function.builder();
    for &start in &arguments.starts {
        // The driver copies as many bytes from there as the argument has.
        builder.arg(&arguments.words[start]);
    }
    let too_large = |what| Error::config(op, format!("{what} are more than a GPU takes"));
    let size = |n: usize, most: u32| {
        u32::try_from(n).ok().filter(|&n| n <= most).ok_or_else(|| too_large(format!("{n} blocks")))
    };
    let [x, y, z] = grid.blocks;
    let config = LaunchConfig {
        grid_dim: (size(x, i32::MAX as u32)?, size(y, 65535)?, size(z, 65535)?),
        block_dim: (grid.threads[0] as u32, grid.threads[1] as u32, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the arguments are made of words, as every kernel takes them; tensors are of the types
    // and sizes that the operation's code names, which the tests check on the CPU.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
