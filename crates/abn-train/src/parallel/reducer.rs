//! Sums of tensors over all ranks.

use candle_core::{DType, Tensor};

use super::link::Link;
use crate::{Error, Result};

/// Adds up tensors over the ranks of a group. Every rank calls it as often, in the same order and
/// with the same shapes.
pub trait Reducer: Send {
    /// The sum of everybody's `values` (flat, f32 or f64), on their device, with the same bits
    /// everywhere. It may be computed with, but on another stream than the device's only after
    /// [`Reducer::wait`].
    ///
    /// # Errors
    /// [`Error::Peer`] if a rank cannot be reached, has failed or computes something else.
    fn all_reduce(&mut self, values: &Tensor) -> Result<Tensor>;

    /// What the device is given from here on comes after every sum so far.
    ///
    /// # Errors
    /// If the device fails.
    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    /// Waits until every sum so far is done: before that, the others need this process.
    ///
    /// # Errors
    /// If the device fails.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Leaves sums unfinished to which the others may never come, so that the device waits for none; there
    /// are no more after it.
    fn give_up(&mut self) {}
}

/// Over TCP by way of rank 0 and the host's memory, added up in the order of the ranks. Meant for
/// tests and the CPU: of much data it is as slow as the network and rank 0's processor.
pub(crate) struct TcpReducer(pub Link);

impl Reducer for TcpReducer {
    fn all_reduce(&mut self, values: &Tensor) -> Result<Tensor> {
        let (len, device) = (values.elem_count(), values.device());
        match values.dtype() {
            DType::F32 => {
                let mut values = values.to_vec1::<f32>()?;
                self.0.sum(&mut values)?;
                Ok(Tensor::from_vec(values, len, device)?)
            }
            DType::F64 => {
                let mut values = values.to_vec1::<f64>()?;
                self.0.sum(&mut values)?;
                Ok(Tensor::from_vec(values, len, device)?)
            }
            other => Err(Error::Parallel(format!("no sum of {other:?} over the ranks"))),
        }
    }
}
