//! Tensors of one number.

use candle_core::{DType, Device, Shape, Tensor};

use crate::{Result, cost};

/// A tensor of one number, which on a GPU a kernel writes: no copy from the host.
///
/// # Errors
/// If the device has no memory for it, or a GPU no kernels for the number type.
pub fn filled(
    value: f64,
    shape: impl Into<Shape>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    if let Some(value) = cost::shape_only(shape.clone(), dtype, 0)? {
        return Ok(value);
    }
    #[cfg(gpu)]
    if crate::cuda::is_gpu(device) {
        use crate::cuda::{Arg, Grid, launch, unwritten_on};
        let (y, count) = (unwritten_on(device, dtype, shape.clone())?, shape.elem_count());
        let args = [Arg::write(&y), Arg::Size(count), Arg::Real(value)];
        launch("filled", "fill", &y, Grid::each(count), &args)?;
        return Ok(y);
    }
    Ok(Tensor::full(value, shape, device)?.to_dtype(dtype)?.force_contiguous()?)
}

/// A scalar, as [`filled`] makes it.
///
/// # Errors
/// If the device has no memory for it.
pub fn scalar(value: f32, device: &Device) -> Result<Tensor> {
    filled(value.into(), (), DType::F32, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count_multiply_adds;

    #[test]
    fn every_element_is_the_number() {
        for value in [0.25, 1.0, f32::MIN_POSITIVE] {
            let scalar = scalar(value, &Device::Cpu).unwrap();
            assert_eq!((scalar.rank(), scalar.to_scalar::<f32>().unwrap()), (0, value));
        }
        for dtype in [DType::F32, DType::F64] {
            let y = filled(-1.5, (3, 1, 700), dtype, &Device::Cpu).unwrap();
            assert_eq!((y.dims(), y.dtype(), y.is_contiguous()), (&[3, 1, 700][..], dtype, true));
            let y = y.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
            assert!(y.to_vec1::<f64>().unwrap().iter().all(|&y| y == -1.5));
        }
    }

    #[test]
    fn shapes_alone_take_no_memory() {
        let huge = || filled(1.0, (1 << 20, 1 << 22), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(count_multiply_adds(huge).0.dims(), [1 << 20, 1 << 22]);
    }
}
