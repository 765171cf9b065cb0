//! Reading and making CPU tensors without copies.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor, WithDType,
};

use crate::{Error, Result};

/// Number types the CPU kernels take: `f32` to train, `f64` for gradient checks.
pub trait Element:
    WithDType + std::ops::Neg<Output = Self> + std::iter::Sum + crate::simd::Lanes
{
    /// Conversion from `f64`, rounding.
    fn of(value: f64) -> Self;
    /// Conversion to `f64`, exact.
    fn wide(self) -> f64;
    /// e^self
    fn exp(self) -> Self;
    /// ln(1 + self), exact near 0
    fn ln_1p(self) -> Self;
    /// The storage's elements, if it holds this type.
    fn elements_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($($t:ty = $variant:ident),*) => {$(
        impl Element for $t {
            #[inline(always)]
            fn of(value: f64) -> Self { value as $t }
            #[inline(always)]
            fn wide(self) -> f64 { self as f64 }
            #[inline(always)]
            fn exp(self) -> Self { <$t>::exp(self) }
            #[inline(always)]
            fn ln_1p(self) -> Self { <$t>::ln_1p(self) }
            fn elements_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(data) => Some(data),
                    _ => None,
                }
            }
        }
    )*};
}
element!(f32 = F32, f64 = F64);

/// A contiguous CPU tensor's elements, locked for reading.
pub(crate) struct Host<'a, T> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Deref for Host<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        let Storage::Cpu(cpu) = &*self.storage else { unreachable!("checked by `host`") };
        let all = T::cpu_storage_as_slice(cpu).expect("checked by `host`");
        &all[self.start..self.start + self.len]
    }
}

/// The elements of a contiguous CPU tensor.
///
/// # Errors
/// If the tensor is on another device, of another number type or not contiguous.
pub(crate) fn host<'a, T: Element>(op: &'static str, tensor: &'a Tensor) -> Result<Host<'a, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        return Err(Error::Unsupported { op, what: format!("{:?}", tensor.device()) });
    };
    T::cpu_storage_as_slice(cpu)?;
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::Unsupported { op, what: "a tensor that is not contiguous".into() });
    };
    Ok(Host { storage, start, len: end - start, element: PhantomData })
}

/// A CPU tensor from its elements, without a copy.
pub(crate) fn tensor<T: Element>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// A vector of `len` elements that are not yet written: skips a pass over memory that zeroing
/// would cost.
///
/// # Safety
/// The caller writes every element before reading any.
pub(crate) unsafe fn unwritten<T: Element>(len: usize) -> Vec<T> {
    let mut data = Vec::with_capacity(len);
    // SAFETY: the capacity was just reserved, `T` is a plain number without invalid bit patterns,
    // and the caller writes every element first.
    #[allow(clippy::uninit_vec)]
    unsafe {
        data.set_len(len);
    }
    data
}

/// What the kernels run on: the number type of a tensor on the CPU.
pub(crate) fn cpu_dtype(op: &'static str, tensor: &Tensor) -> Result<DType> {
    match (tensor.device(), tensor.dtype()) {
        (Device::Cpu, dtype @ (DType::F32 | DType::F64)) => Ok(dtype),
        (device, dtype) => Err(Error::Unsupported { op, what: format!("{dtype:?} on {device:?}") }),
    }
}

/// Whether operations on this tensor go the GPU's way.
pub(crate) fn is_on_gpu(tensor: &Tensor) -> bool {
    crate::device::is_gpu(tensor.device())
}

/// Runs an expression with `$t` bound to the tensor's number type.
macro_rules! by_dtype {
    ($op:expr, $tensor:expr, $t:ident => $body:expr) => {
        match $crate::host::cpu_dtype($op, $tensor)? {
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(crate) use by_dtype;

/// Runs one expression for tensors on a GPU (`gpu`) and another for those on the CPU, in which `$t`
/// is bound to the number type. Without a GPU's kernels the first is not even compiled.
#[cfg(gpu)]
macro_rules! by_device {
    ($op:expr, $tensor:expr, gpu => $gpu:expr, $t:ident => $cpu:expr) => {
        if $crate::cuda::takes($tensor) {
            $gpu
        } else {
            $crate::host::by_dtype!($op, $tensor, $t => $cpu)
        }
    };
}
#[cfg(not(gpu))]
macro_rules! by_device {
    ($op:expr, $tensor:expr, gpu => $gpu:expr, $t:ident => $cpu:expr) => {
        $crate::host::by_dtype!($op, $tensor, $t => $cpu)
    };
}
pub(crate) use by_device;

/// Returns an expression's value at once if the tensor is on a GPU, for operations that have nothing
/// in common there with the CPU's. Without a GPU's kernels it is not even compiled.
#[cfg(gpu)]
macro_rules! on_gpu {
    ($tensor:expr => $gpu:expr) => {
        if $crate::cuda::takes($tensor) {
            return $gpu;
        }
    };
}
#[cfg(not(gpu))]
macro_rules! on_gpu {
    ($tensor:expr => $gpu:expr) => {};
}
pub(crate) use on_gpu;

/// Gives `f` the elements of a contiguous CPU tensor to change in place.
///
/// # Errors
/// If the tensor is on another device, of another number type or not contiguous.
pub(crate) fn update<T: Element>(
    op: &'static str,
    tensor: &Tensor,
    f: impl FnOnce(&mut [T]),
) -> Result<()> {
    tensor.inplace_op1(&Update { op, f: Cell::new(Some(f)), element: PhantomData::<T> })?;
    Ok(())
}

struct Update<T, F> {
    op: &'static str,
    f: Cell<Option<F>>,
    element: PhantomData<T>,
}

impl<T: Element, F: FnOnce(&mut [T])> InplaceOp1 for Update<T, F> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (Some(data), Some((start, end))) =
            (T::elements_mut(storage), layout.contiguous_offsets())
        else {
            candle_core::bail!("{}: expected a contiguous tensor of {:?}", self.op, T::DTYPE)
        };
        if let Some(f) = self.f.take() {
            f(&mut data[start..end]);
        }
        Ok(())
    }
}
