//! Convolution by cuDNN, channels-last.
//!
//! Which of its algorithms is best for a shape cannot be known beforehand: for each pass over each
//! shape all are run once and the fastest is remembered for the process ([`crate::set_cudnn_measures`]).
//! Only deterministic ones take part.

mod plan;
mod status;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Mutex, OnceLock};

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{CudaDevice, DType, Device, Tensor};

use self::plan::{Algorithm, Key, Plan};
use self::status::failed;
use super::{Geometry, OP};
use crate::cuda::{Buffer, Stage, address, address_mut, is_staged};
use crate::{Result, cudnn_measures, tf32};

/// Which of a convolution's three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Of input and weight.
    Forward,
    /// Of the output's gradient and the weight.
    InputGradient,
    /// Of input and the output's gradient.
    WeightGradient,
}

static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What cuDNN has refused so far.
pub fn refused() -> Vec<String> {
    REFUSED.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// cuDNN on one device.
struct Library {
    handle: sys::cudnnHandle_t,
    /// `None`: cuDNN refuses.
    plans: HashMap<Key, Option<Plan>>,
    /// The last is the largest, and the one in use. Those before stay: a captured graph may work in
    /// them.
    workspaces: Vec<Buffer>,
}

// SAFETY: handle and descriptors may be used by one thread after another, and are under a lock.
unsafe impl Send for Library {}

/// Writes to `to` what the pass makes of `a` and `b` (see [`Pass`]), weights being (C_out, KH, KW, C_in /
/// groups); false if cuDNN does not do it.
///
/// # Errors
/// If cuDNN fails in what it said it can do, or there is no memory for it to work in.
pub fn convolve(
    pass: Pass,
    geometry: &Geometry,
    a: &Tensor,
    b: &Tensor,
    to: &Tensor,
) -> Result<bool> {
    if a.device().is_cpu() && is_staged() && a.dtype() != DType::F64 {
        let mut stage = Stage::default();
        let [a, b, there] = [stage.copy(OP, a)?, stage.copy(OP, b)?, stage.copy(OP, to)?];
        let done = convolve(pass, geometry, &a, &b, &there)?;
        if done {
            stage.back(OP, to)?;
        }
        return Ok(done);
    }
    let Device::Cuda(device) = a.device() else { return Ok(false) };
    if !matches!(a.dtype(), DType::F32 | DType::BF16) {
        return Ok(false);
    }
    let pointers = [address(OP, a)?, address(OP, b)?, address_mut(OP, to)?];
    let pointers = pointers.map(|address| address as *mut c_void);
    static LIBRARIES: OnceLock<Mutex<HashMap<DeviceId, Library>>> = OnceLock::new();
    let mut libraries =
        LIBRARIES.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
    let library = match libraries.entry(device.id()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Library::new(device)?),
    };
    let key = Key {
        pass,
        geometry: *geometry,
        dtype: a.dtype(),
        tf32: tf32(),
        measured: cudnn_measures(),
    };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().map_err(candle_core::Error::wrap)?;
    if !library.plans.contains_key(&key) {
        let plan = Plan::pick(library.handle, device, &key, pointers)?;
        if let Err(why) = &plan {
            let what = format!("{pass:?} in {:?} of {geometry:?}: {why}", a.dtype());
            REFUSED.lock().unwrap_or_else(|e| e.into_inner()).push(what);
        }
        library.plans.insert(key, plan.ok());
    }
    library.run(device, &key, pointers)
}

impl Library {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(candle_core::Error::wrap)?;
        let handle = result::create_handle().map_err(|e| failed("it does not start", e))?;
        // SAFETY: the handle was just made, and the stream lives as long as candle's device, of which
        // nobody makes a second with the same id.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }
            .map_err(|e| failed("it does not take the stream", e))?;
        Ok(Self { handle, plans: HashMap::new(), workspaces: Vec::new() })
    }

    fn run(
        &mut self,
        device: &CudaDevice,
        key: &Key,
        [a, b, to]: [*mut c_void; 3],
    ) -> Result<bool> {
        let Some(Some(plan)) = self.plans.get(key) else { return Ok(false) };
        let size = plan.workspace;
        if self.workspaces.last().map_or(0, Buffer::len) < size {
            self.workspaces.push(Buffer::new(device, size.next_power_of_two())?);
        }
        let work = self.workspaces.last().map_or(std::ptr::null_mut(), Buffer::pointer);
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = (std::ptr::from_ref(&one).cast(), std::ptr::from_ref(&zero).cast());
        let Plan { input, output, weight, convolution, .. } = *plan;
        // SAFETY: descriptors are those of the tensors that the pointers point to; the workspace is as
        // large as it was said to be, and all that uses it is on one stream.
        let status = unsafe {
            match plan.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    self.handle,
                    one,
                    input,
                    a,
                    weight,
                    b,
                    convolution,
                    algorithm,
                    work,
                    size,
                    zero,
                    output,
                    to,
                ),
                Algorithm::InputGradient(algorithm) => result::convolution_backward_data(
                    self.handle,
                    one,
                    weight,
                    b,
                    output,
                    a,
                    convolution,
                    algorithm,
                    work,
                    size,
                    zero,
                    input,
                    to,
                ),
                Algorithm::WeightGradient(algorithm) => result::convolution_backward_filter(
                    self.handle,
                    one,
                    input,
                    a,
                    output,
                    b,
                    convolution,
                    algorithm,
                    work,
                    size,
                    zero,
                    weight,
                    to,
                ),
            }
        };
        status.map_err(|e| failed("a convolution that it planned", e))?;
        Ok(true)
    }
}
