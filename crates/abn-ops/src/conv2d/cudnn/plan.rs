//! A convolution in cuDNN's words, and which of its algorithms does it.

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{CudaDevice, DType};

use super::Pass;
use super::status::{failed, is_mistake, is_refusal};
use crate::Result;
use crate::conv2d::Geometry;
use crate::cuda::Buffer;

/// The most bytes an algorithm may work in: one that wants more does not take part. A device has one such
/// memory for all convolutions, as large as the largest wants.
const WORKSPACE: usize = 512 << 20;
/// The least that is offered where all are measured, and how much by the bytes of what a convolution meets: an algorithm
/// lays these out anew, or keeps sums of parts. A small network would otherwise take a hundred times its memory.
const OFFERED: (usize, usize) = (16 << 20, 16);

/// What an algorithm is picked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub pass: Pass,
    pub geometry: Geometry,
    pub dtype: DType,
    pub tf32: bool,
    pub measured: bool,
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
pub struct Plan {
    pub input: sys::cudnnTensorDescriptor_t,
    pub output: sys::cudnnTensorDescriptor_t,
    pub weight: sys::cudnnFilterDescriptor_t,
    pub convolution: sys::cudnnConvolutionDescriptor_t,
    pub algorithm: Algorithm,
    pub workspace: usize,
}

#[derive(Clone, Copy)]
pub enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

impl Plan {
    /// How cuDNN does it to the tensors at `a`, `b` and `to`, which may be written; or why it does not.
    ///
    /// # Errors
    /// If cuDNN fails, or was asked wrongly.
    pub fn pick(
        handle: sys::cudnnHandle_t,
        device: &CudaDevice,
        key: &Key,
        [a, b, to]: [*mut c_void; 3],
    ) -> Result<std::result::Result<Self, String>> {
        let mut plan = match Self::describe(key) {
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
        let Self { input, output, weight, convolution, .. } = plan;
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
