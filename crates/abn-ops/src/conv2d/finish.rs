//! What happens to a convolution's sums before they are written.

use crate::host::Element;
use crate::simd::Vector;
use crate::tile::get;

/// `relu?((sum + bias − mean) · scale + shift + residual)`, each part of it if there is one.
pub(crate) struct Finish<'a, T> {
    /// Of each output channel.
    pub bias: Option<&'a [T]>,
    /// Mean, scale and shift of each output channel: a batch norm's.
    pub norm: Option<[&'a [T]; 3]>,
    /// As large as the output.
    pub residual: Option<&'a [T]>,
    pub relu: bool,
}

impl<'a, T: Element> Finish<'a, T> {
    /// Only a bias, if that.
    pub fn bias(bias: Option<&'a [T]>) -> Self {
        Self { bias, norm: None, residual: None, relu: false }
    }

    /// Finishes sums of the `count` channels from `channel` on, to be written at element `at`.
    ///
    /// # Safety
    /// The channels and the elements exist, and the processor has `V`'s instructions.
    #[inline(always)]
    pub unsafe fn apply<V: Vector<Elem = T>, const NV: usize>(
        &self,
        mut sums: [V; NV],
        channel: usize,
        at: usize,
        count: usize,
    ) -> [V; NV] {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(bias) = self.bias {
                let bias = get::<V, NV>(bias.as_ptr().add(channel), count);
                for v in 0..NV {
                    sums[v] = sums[v].add(bias[v]);
                }
            }
            if let Some(norm) = self.norm {
                let [mean, scale, shift] =
                    norm.map(|values| get::<V, NV>(values.as_ptr().add(channel), count));
                for v in 0..NV {
                    sums[v] = sums[v].sub(mean[v]).mul_add(scale[v], shift[v]);
                }
            }
            if let Some(residual) = self.residual {
                let residual = get::<V, NV>(residual.as_ptr().add(at), count);
                for v in 0..NV {
                    sums[v] = sums[v].add(residual[v]);
                }
            }
            if self.relu {
                for v in 0..NV {
                    // In this order a NaN stays one.
                    sums[v] = V::splat(T::zero()).max(sums[v]);
                }
            }
            sums
        }
    }
}

#[cfg(test)]
mod tests;
