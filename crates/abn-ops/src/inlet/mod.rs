//! The way of numbers from the host to a device, beside the computation.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Device, Shape, Tensor, WithDType};

use crate::{Error, Result};

const OP: &str = "inlet";

/// What goes through an [`Inlet`]: `f32` or `u32`.
pub trait Carried: WithDType + private::Plain {}
impl Carried for f32 {}
impl Carried for u32 {}

mod private {
    use candle_core::CpuStorage;

    #[cfg(feature = "cuda")]
    pub trait Number:
        candle_core::cuda_backend::cudarc::driver::DeviceRepr
        + candle_core::cuda_backend::cudarc::driver::ValidAsZeroBits
    {
    }
    #[cfg(not(feature = "cuda"))]
    pub trait Number {}

    /// Plain numbers, of which memory may hold any bits.
    pub trait Plain: Number {
        fn elements(storage: &mut CpuStorage) -> Option<&mut [Self]>
        where
            Self: Sized;
    }

    macro_rules! plain {
        ($($t:ty = $variant:ident),*) => {$(
            impl Number for $t {}
            impl Plain for $t {
                fn elements(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                    match storage {
                        CpuStorage::$variant(data) => Some(data),
                        _ => None,
                    }
                }
            }
        )*};
    }
    plain!(f32 = F32, u32 = U32);
}

/// A stream of copies to a device, beside that of its computation. Inlets of one lane are filled in
/// the order in which they are told.
#[derive(Clone)]
pub struct Lane {
    device: Device,
    #[cfg(feature = "cuda")]
    copies: Option<cuda::Copies>,
}

impl Lane {
    /// A lane to this device, which on a GPU is one that [`crate::cuda_device`] opened.
    ///
    /// # Errors
    /// If the driver gives no stream.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            copies: cuda::Copies::new(device)?,
        })
    }
}

/// A place on a device that the host fills again and again.
///
/// On a GPU, numbers go through pinned memory and the lane's own stream: [`fill`](Self::fill) returns once
/// they are in pinned memory, and both the copy and the computation are ordered by events on the device, so
/// that the host waits for neither. With two inlets by turns, one is filled while the computation reads
/// the other. On the CPU, filling copies.
///
/// The turns are [`fill`](Self::fill), [`take`](Self::take), [`release`](Self::release), from one thread at a time.
pub struct Inlet<T: Carried> {
    // Before the memory that it copies to, which is freed after.
    #[cfg(feature = "cuda")]
    carrier: Option<cuda::Carrier<T>>,
    place: Tensor,
    filled: usize,
    number: std::marker::PhantomData<T>,
}

impl<T: Carried> Inlet<T> {
    /// Room for so many numbers at the end of the lane.
    ///
    /// # Errors
    /// If there is no memory for them, on the device or on the host.
    pub fn new(lane: &Lane, capacity: usize) -> Result<Self> {
        let place = Tensor::zeros(capacity.max(1), T::DTYPE, &lane.device)?;
        Ok(Self {
            #[cfg(feature = "cuda")]
            carrier: match &lane.copies {
                Some(copies) => Some(cuda::Carrier::new(copies, &place)?),
                None => None,
            },
            place,
            filled: 0,
            number: std::marker::PhantomData,
        })
    }

    /// How many numbers it has room for.
    pub fn capacity(&self) -> usize {
        self.place.elem_count()
    }

    /// Brings these numbers over, as soon as the device is done with those before. Waits only until
    /// those before have left the host.
    ///
    /// # Errors
    /// If there are more than there is room for, or the driver refuses.
    pub fn fill(&mut self, numbers: &[T]) -> Result<()> {
        if numbers.len() > self.capacity() {
            let expected = format!("at most {} numbers", self.capacity());
            return Err(Error::shape(OP, expected, &[numbers.len()]));
        }
        self.filled = numbers.len();
        #[cfg(feature = "cuda")]
        if let Some(carrier) = &mut self.carrier {
            return carrier.fill(numbers);
        }
        write(&self.place, numbers)
    }

    /// What it was filled with last, for what the device is told to compute from now on. The tensor is
    /// the inlet's own memory: nobody may look at it after [`release`](Self::release).
    ///
    /// # Errors
    /// If the shape has another number of elements, or the driver refuses.
    pub fn take(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(carrier) = &self.carrier {
            carrier.await_filled()?;
        }
        Ok(self.place.narrow(0, 0, self.filled)?.reshape(shape.into())?)
    }

    /// Lets the next [`fill`](Self::fill) overwrite it once the device has done all it was told so far.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn release(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(carrier) = &self.carrier {
            return carrier.let_go();
        }
        Ok(())
    }
}

/// Overwrites the first elements of a CPU tensor.
fn write<T: Carried>(place: &Tensor, numbers: &[T]) -> Result<()> {
    struct Write<'a, T>(&'a [T]);
    impl<T: Carried> candle_core::InplaceOp1 for Write<'_, T> {
        fn name(&self) -> &'static str {
            OP
        }

        fn cpu_fwd(
            &self,
            storage: &mut candle_core::CpuStorage,
            _: &candle_core::Layout,
        ) -> candle_core::Result<()> {
            match T::elements(storage) {
                Some(elements) => elements[..self.0.len()].copy_from_slice(self.0),
                None => candle_core::bail!("{OP}: expected {:?}", T::DTYPE),
            }
            Ok(())
        }
    }
    Ok(place.inplace_op1(&Write(numbers))?)
}
