//! The GPU's kernels on the CPU.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use candle_core::{DType, Device, Shape, Tensor};

use super::Grid;
use super::launch::Arguments;
use crate::{Error, Result};

type Emulate =
    unsafe extern "C" fn(*const c_char, *mut *mut c_void, *const c_uint, *const c_uint) -> c_int;

unsafe extern "C" {
    fn abn_emulate_f32(
        _: *const c_char,
        _: *mut *mut c_void,
        _: *const c_uint,
        _: *const c_uint,
    ) -> c_int;
    fn abn_emulate_bf16(
        _: *const c_char,
        _: *mut *mut c_void,
        _: *const c_uint,
        _: *const c_uint,
    ) -> c_int;
    fn abn_emulate_f64(
        _: *const c_char,
        _: *mut *mut c_void,
        _: *const c_uint,
        _: *const c_uint,
    ) -> c_int;
}

thread_local! {
    static HERE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether CPU tensors go the GPU's way: as [`emulated`] says, or else the environment.
pub fn is_on() -> bool {
    static EVERYWHERE: OnceLock<bool> = OnceLock::new();
    HERE.get().unwrap_or_else(|| {
        *EVERYWHERE.get_or_init(|| {
            let variables = ["ABN_EMULATE_CUDA", "ABN_STAGE_CUDA"];
            variables.iter().any(|name| std::env::var_os(name).is_some_and(|v| v == "1"))
        })
    })
}

/// Runs `f` with CPU tensors going the GPU's way, or not. Holds for this thread.
#[cfg(test)]
pub fn emulated<R>(on: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _restore = Restore(HERE.replace(Some(on)));
    f()
}

/// Kernels that are to be run later, again and again, and the memory that they were given meanwhile.
#[derive(Default)]
pub struct Recording {
    launches: Vec<Launch>,
    memory: Vec<Tensor>,
}

#[derive(Clone)]
struct Launch {
    op: &'static str,
    kernel: &'static str,
    dtype: DType,
    grid: Grid,
    arguments: Arguments,
}

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

impl Recording {
    /// Records this thread's kernels instead of running them.
    pub fn begin() {
        RECORDING.set(Some(Self::default()));
    }

    /// Ends it.
    pub fn end() -> Self {
        RECORDING.take().unwrap_or_default()
    }

    /// Runs them all. What no kernel of them has written is NaN.
    pub fn run(&self) -> Result<()> {
        for tensor in &self.memory {
            forget(tensor)?;
        }
        for Launch { op, kernel, dtype, grid, arguments } in self.launches.clone() {
            launch(op, kernel, dtype, grid, arguments)?;
        }
        Ok(())
    }
}

/// Overwrites a tensor's memory, which begins with it.
fn forget(tensor: &Tensor) -> Result<()> {
    let at = super::address_mut("emulation", tensor)? as *mut u8;
    // SAFETY: the tensor is contiguous and of that many bytes, and nobody reads it now.
    unsafe { at.write_bytes(0xff, tensor.elem_count() * tensor.dtype().size_in_bytes()) };
    Ok(())
}

/// Filled with NaN, so that tests find what no kernel wrote.
pub fn unwritten(dtype: DType, shape: Shape) -> Result<Tensor> {
    let tensor = nan(dtype, shape)?;
    RECORDING.with_borrow_mut(|recording| {
        if let Some(recording) = recording {
            recording.memory.push(tensor.clone());
        }
    });
    Ok(tensor)
}

fn nan(dtype: DType, shape: Shape) -> Result<Tensor> {
    Ok(match dtype {
        DType::U32 => Tensor::full(u32::MAX, shape, &Device::Cpu)?,
        DType::F64 => Tensor::full(f64::NAN, shape, &Device::Cpu)?,
        // Contiguous memory of its own, whatever the shape.
        dtype => Tensor::full(f32::NAN, shape, &Device::Cpu)?.to_dtype(dtype)?,
    }
    .force_contiguous()?)
}

pub fn launch(
    op: &'static str,
    kernel: &'static str,
    dtype: DType,
    grid: Grid,
    mut arguments: Arguments,
) -> Result<()> {
    let recorded = RECORDING.with_borrow_mut(|recording| match recording {
        Some(recording) => {
            let arguments = arguments.clone();
            recording.launches.push(Launch { op, kernel, dtype, grid, arguments });
            true
        }
        None => false,
    });
    if recorded {
        return Ok(());
    }
    let emulate: Emulate = match dtype {
        DType::BF16 => abn_emulate_bf16,
        DType::F64 => abn_emulate_f64,
        _ => abn_emulate_f32,
    };
    let limits = "a grid that fits 32 bits";
    let size = |n: usize| c_uint::try_from(n).map_err(|_| Error::config(op, limits));
    let [x, y, z] = grid.blocks;
    let blocks = [size(x)?, size(y)?, size(z)?];
    let threads = [size(grid.threads[0])?, size(grid.threads[1])?, 1];
    let name = CString::new(kernel).map_err(|_| Error::config(op, "a kernel's name"))?;
    let words = arguments.words.as_mut_ptr();
    // SAFETY: each start lies within the words.
    let pointer = |&start: &usize| unsafe { words.add(start) }.cast::<c_void>();
    let mut pointers: Vec<*mut c_void> = arguments.starts.iter().map(pointer).collect();
    // SAFETY: the arguments are made of words, as every kernel takes them; tensors are of the types
    // and sizes that the operation's code names, which is what its tests are for.
    let unknown =
        unsafe { emulate(name.as_ptr(), pointers.as_mut_ptr(), blocks.as_ptr(), threads.as_ptr()) };
    if unknown != 0 {
        return Err(Error::Unsupported { op, what: format!("the kernel {kernel}: there is none") });
    }
    Ok(())
}
