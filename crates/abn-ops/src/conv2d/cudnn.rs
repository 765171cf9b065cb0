//! Convolution by cuDNN, channels-last.
//!
//! Which of its algorithms is best for a shape cannot be known beforehand: for each pass over each
//! shape all are run once and the fastest is remembered for the process ([`crate::set_cudnn_measures`]).
//! Only deterministic ones take part.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock};

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{CudaDevice, DType, Device, Tensor};

use super::{Geometry, OP};
use crate::cuda::{Buffer, Stage, address, address_mut, is_staged};
use crate::{Error, Result, cudnn_measures, tf32};

/// The most bytes an algorithm may work in: one that wants more does not take part. A device has one such
/// memory for all convolutions, as large as the largest wants.
const WORKSPACE: usize = 512 << 20;
/// The least that is offered where all are measured, and how much by the bytes of what a convolution meets: an algorithm
/// lays these out anew, or keeps sums of parts. A small network would otherwise take a hundred times its memory.
const OFFERED: (usize, usize) = (16 << 20, 16);

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

/// What an algorithm is picked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pass: Pass,
    geometry: Geometry,
    dtype: DType,
    tf32: bool,
    measured: bool,
}

impl Key {
    /// Of input, output and weight.
    fn bytes(&self) -> usize {
        let Self { geometry, dtype, .. } = self;
        let count = |shape: [usize; 4]| shape.iter().product::<usize>();
        let shapes = [geometry.input_shape(), geometry.output_shape(), geometry.weight_shape()];
        shapes.map(count).iter().sum::<usize>() * dtype.size_in_bytes()
    }

    /// Whether an algorithm may compute so.
    fn allows(&self, math: sys::cudnnMathType_t) -> bool {
        use sys::cudnnMathType_t::{CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH};
        let full = matches!(math, CUDNN_DEFAULT_MATH | CUDNN_FMA_MATH);
        full || self.tf32 || self.dtype == DType::BF16
    }
}

/// cuDNN's words for a convolution, and the algorithm that was picked.
struct Plan {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
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

fn failed(what: &str, error: result::CudnnError) -> Error {
    Error::Library { op: OP, library: "cuDNN", what: format!("{what}: {error}") }
}

/// Whether cuDNN says that it does not do such a thing (3000 and more), rather than that it was asked wrongly (2000 and
/// more), which is a mistake here, or that something else is wrong.
fn is_refusal(error: result::CudnnError) -> bool {
    use sys::cudnnStatus_t::*;

    // These are of its installation, and would be the same of any convolution.
    let installation = matches!(
        error.0,
        CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER
            | CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART
            | CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING
            | CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE
    );
    !installation && (3000..4000).contains(&(error.0 as u32))
}

/// Whether it says that it was asked wrongly.
fn is_mistake(error: result::CudnnError) -> bool {
    (2000..3000).contains(&(error.0 as u32))
}

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
        let plan = library.plan(device, &key, pointers)?;
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

    /// A plan, or why cuDNN does not do it.
    fn plan(
        &self,
        device: &CudaDevice,
        key: &Key,
        [a, b, to]: [*mut c_void; 3],
    ) -> Result<std::result::Result<Plan, String>> {
        let mut plan = match Plan::describe(key) {
            Ok(plan) => plan,
            Err(error) if is_refusal(error) => return Ok(Err(error.to_string())),
            Err(error) => return Err(failed("describing a convolution", error)),
        };
        // Half as much when there is no more memory: fewer algorithms take part.
        let memory = if key.measured {
            let (least, times) = OFFERED;
            let offered = (times * key.bytes()).clamp(least, WORKSPACE);
            std::iter::successors(Some(offered), |&size| (size > 1 << 20).then_some(size / 2))
                .find_map(|size| Buffer::new(device, size).ok())
        } else {
            None
        };
        let work = memory.as_ref().map(|buffer| (buffer.pointer(), buffer.len()));
        let Plan { input, output, weight, convolution, .. } = plan;
        let handle = self.handle;
        // Each function of cuDNN's asks for a list of as many, and says how many it wrote. Used within
        // `unsafe`, below.
        macro_rules! pick {
            ($perf:ty, $find:expr, $guess:expr) => {{
                const MOST: usize = 16;
                // Plain numbers, for which zeros are values.
                let mut list: [$perf; MOST] = std::mem::zeroed();
                let mut count: c_int = 0;
                let status = match work {
                    Some((pointer, size)) => {
                        $find(MOST as c_int, &mut count, list.as_mut_ptr(), pointer, size)
                    }
                    None => $guess(MOST as c_int, &mut count, list.as_mut_ptr()),
                };
                match status.result() {
                    Ok(()) => (),
                    Err(error) if is_refusal(error) => return Ok(Err(error.to_string())),
                    Err(error) => return Err(failed("picking an algorithm", error)),
                }
                let list = &list[..count as usize];
                // The list begins with the fastest.
                let best = list.iter().find(|one| {
                    one.status.result().is_ok()
                        && one.memory <= WORKSPACE
                        && one.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && key.allows(one.mathType)
                });
                let Some(best) = best else {
                    let errors = || list.iter().filter_map(|one| one.status.result().err());
                    if let Some(error) = errors().find(|&error| is_mistake(error)) {
                        return Err(failed("trying an algorithm", error));
                    }
                    let errors: Vec<_> = errors().map(|error| error.to_string()).collect();
                    let why = format!("none of {count} algorithms will do ({})", errors.join(", "));
                    return Ok(Err(why));
                };
                plan.workspace = best.memory;
                // Full f32 stays what was asked for, as which it was tried: cuDNN's default would be TF32.
                if key.dtype == DType::BF16 || key.tf32 {
                    result::set_convolution_math_type(convolution, best.mathType)
                        .map_err(|e| failed("it does not take its own precision", e))?;
                }
                best.algo
            }};
        }
        // SAFETY: descriptors are those of the tensors that the pointers point to, and nothing else
        // uses their memory: `to` is not yet written.
        plan.algorithm = unsafe {
            match key.pass {
                Pass::Forward => Algorithm::Forward(pick!(
                    sys::cudnnConvolutionFwdAlgoPerf_t,
                    |most, count, list, work, size| sys::cudnnFindConvolutionForwardAlgorithmEx(
                        handle,
                        input,
                        a,
                        weight,
                        b,
                        convolution,
                        output,
                        to,
                        most,
                        count,
                        list,
                        work,
                        size
                    ),
                    |most, count, list| sys::cudnnGetConvolutionForwardAlgorithm_v7(
                        handle,
                        input,
                        weight,
                        convolution,
                        output,
                        most,
                        count,
                        list
                    )
                )),
                Pass::InputGradient => Algorithm::InputGradient(pick!(
                    sys::cudnnConvolutionBwdDataAlgoPerf_t,
                    |most, count, list, work, size| {
                        sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                            handle,
                            weight,
                            b,
                            output,
                            a,
                            convolution,
                            input,
                            to,
                            most,
                            count,
                            list,
                            work,
                            size,
                        )
                    },
                    |most, count, list| sys::cudnnGetConvolutionBackwardDataAlgorithm_v7(
                        handle,
                        weight,
                        output,
                        convolution,
                        input,
                        most,
                        count,
                        list
                    )
                )),
                Pass::WeightGradient => Algorithm::WeightGradient(pick!(
                    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                    |most, count, list, work, size| {
                        sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                            handle,
                            input,
                            a,
                            output,
                            b,
                            convolution,
                            weight,
                            to,
                            most,
                            count,
                            list,
                            work,
                            size,
                        )
                    },
                    |most, count, list| sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7(
                        handle,
                        input,
                        output,
                        convolution,
                        weight,
                        most,
                        count,
                        list
                    )
                )),
            }
        };
        Ok(Ok(plan))
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

impl Plan {
    /// Everything but the algorithm.
    fn describe(key: &Key) -> std::result::Result<Self, result::CudnnError> {
        use sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        use sys::cudnnDataType_t::{CUDNN_DATA_BFLOAT16, CUDNN_DATA_FLOAT};
        use sys::cudnnMathType_t::{CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;

        let geo = &key.geometry;
        // cuDNN names sizes in the order N, C, H, W whatever the layout.
        let sizes = |[n, h, w, c]: [usize; 4]| [n, c, h, w].map(|size| size as c_int);
        let [input, output] = [geo.input_shape(), geo.output_shape()].map(sizes);
        let weight = geo.weight_shape().map(|size| size as c_int);
        let (dtype, math) = match (key.dtype, key.tf32) {
            (DType::BF16, _) => (CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_OP_MATH),
            (_, true) => (CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH),
            (_, false) => (CUDNN_DATA_FLOAT, CUDNN_FMA_MATH),
        };
        let [padding, stride, dilation] =
            [geo.padding, geo.stride, geo.dilation].map(|size| size as c_int);
        let plan = Self {
            input: result::create_tensor_descriptor()?,
            output: result::create_tensor_descriptor()?,
            weight: result::create_filter_descriptor()?,
            convolution: result::create_convolution_descriptor()?,
            algorithm: Algorithm::Forward(
                sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
            ),
            workspace: 0,
        };
        // SAFETY: the descriptors were just made.
        unsafe {
            result::set_tensor4d_descriptor(plan.input, CUDNN_TENSOR_NHWC, dtype, input)?;
            result::set_tensor4d_descriptor(plan.output, CUDNN_TENSOR_NHWC, dtype, output)?;
            result::set_filter4d_descriptor(plan.weight, dtype, CUDNN_TENSOR_NHWC, weight)?;
            result::set_convolution2d_descriptor(
                plan.convolution,
                padding,
                padding,
                stride,
                stride,
                dilation,
                dilation,
                CUDNN_CROSS_CORRELATION,
                CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(plan.convolution, math)?;
            result::set_convolution_group_count(plan.convolution, geo.groups as i32)?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by `describe`, and nothing uses them after. That they cannot be destroyed has no
        // consequence worth telling.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.input);
            let _ = result::destroy_tensor_descriptor(self.output);
            let _ = result::destroy_filter_descriptor(self.weight);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

#[cfg(test)]
mod tests {
    use sys::cudnnStatus_t::*;

    use super::*;

    #[test]
    fn what_is_not_supported_is_a_refusal_and_nothing_else() {
        let refusal = |status| is_refusal(result::CudnnError(status));
        for status in [
            CUDNN_STATUS_NOT_SUPPORTED,
            CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
            CUDNN_STATUS_NOT_SUPPORTED_LAYOUT,
            CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH,
        ] {
            assert!(refusal(status), "{status:?}");
        }
        for status in [
            CUDNN_STATUS_NOT_INITIALIZED,
            CUDNN_STATUS_BAD_PARAM,
            CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
            CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER,
            CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE,
            CUDNN_STATUS_INTERNAL_ERROR,
            CUDNN_STATUS_EXECUTION_FAILED,
        ] {
            assert!(!refusal(status), "{status:?}");
        }
    }
}
