//! CPU tensors on a GPU, kernel by kernel: each is carried over, the kernel runs there, what it wrote is
//! carried back. As slow as it sounds; so the operations' own tests, which know CPU tensors only, run on
//! a real GPU (`ABN_STAGE_CUDA=1`, with the features `cuda` and `cuda-emulation`).

use std::sync::OnceLock;

use candle_core::{Device, Tensor};

use super::{Arg, Grid};
use crate::{Error, Result};

/// Whether CPU tensors are carried to a GPU.
pub fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("ABN_STAGE_CUDA").is_some_and(|v| v == "1"))
}

/// The first GPU, in full f32: the tests ask for its digits.
fn device() -> Result<Device> {
    static DEVICE: OnceLock<std::result::Result<Device, String>> = OnceLock::new();
    let open = || {
        crate::set_tf32(false);
        crate::cuda_device(0).map_err(|error| error.to_string())
    };
    let device = DEVICE.get_or_init(open).clone();
    device.map_err(|reason| Error::Device { ordinal: 0, reason })
}

/// A copy of a tensor, however it lies in memory.
pub fn carry(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&device()?)?)
}

/// Tensors that were carried over.
#[derive(Default)]
pub struct Stage {
    /// Of the CPU, and its copy.
    tensors: Vec<(Tensor, Tensor)>,
}

impl Stage {
    /// The tensor's copy on the GPU: the same one for the same memory.
    pub fn copy(&mut self, op: &'static str, tensor: &Tensor) -> Result<Tensor> {
        if !tensor.device().is_cpu() {
            return Ok(tensor.clone());
        }
        let at = super::address(op, tensor)?;
        for (known, copy) in &self.tensors {
            if super::address(op, known)? == at && known.elem_count() == tensor.elem_count() {
                return Ok(copy.clone());
            }
        }
        let copy = tensor.to_device(&device()?)?.force_contiguous()?;
        self.tensors.push((tensor.clone(), copy.clone()));
        Ok(copy)
    }

    /// Carries back what is now in the copy of a tensor.
    pub fn back(&self, op: &'static str, tensor: &Tensor) -> Result<()> {
        let at = super::address(op, tensor)?;
        for (known, copy) in &self.tensors {
            if super::address(op, known)? != at || known.elem_count() != tensor.elem_count() {
                continue;
            }
            let now = copy.to_device(&Device::Cpu)?.force_contiguous()?;
            let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
            let (from, to) = (super::address(op, &now)?, super::address_mut(op, tensor)?);
            // SAFETY: both are contiguous CPU tensors of that many bytes, and not the same.
            unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        }
        Ok(())
    }
}

/// [`super::launch`] on copies of the tensors.
pub fn launch(
    op: &'static str,
    kernel: &'static str,
    like: &Tensor,
    grid: Grid,
    args: &[Arg<'_>],
) -> Result<()> {
    let mut stage = Stage::default();
    let like = stage.copy(op, like)?;
    let copies = args.iter().map(|arg| match arg {
        Arg::In(_, tensor) | Arg::Out(_, tensor) => stage.copy(op, tensor).map(Some),
        _ => Ok(None),
    });
    let copies = copies.collect::<Result<Vec<_>>>()?;
    let there = args.iter().zip(&copies).map(|(arg, copy)| match (arg, copy) {
        (Arg::In(of, _), Some(copy)) => Arg::In(*of, copy),
        (Arg::Out(of, _), Some(copy)) => Arg::Out(*of, copy),
        (arg, _) => *arg,
    });
    super::launch(op, kernel, &like, grid, &there.collect::<Vec<_>>())?;
    args.iter().try_for_each(|arg| match arg {
        Arg::Out(_, tensor) => stage.back(op, tensor),
        _ => Ok(()),
    })
}
