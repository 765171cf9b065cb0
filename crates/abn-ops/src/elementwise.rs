//! Passes over single elements: sums, activations, the attention mechanism's product.

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::host::{self, Element};
use crate::simd::multiversion;

/// Elements a task handles; fixed, so that results do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 14;

multiversion! {
    fn add_assign<T>(sum: &mut [T], term: &[T]) {
        for (s, t) in sum.iter_mut().zip(term) {
            *s += *t;
        }
    }
}

struct AddAssign;

impl AddAssign {
    fn run<T: Element>(sum: &mut [T], term: &[T]) {
        sum.par_chunks_mut(CHUNK).zip(term.par_chunks(CHUNK)).for_each(|(s, t)| add_assign(s, t));
    }
}

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add_in_place"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        term: &CpuStorage,
        term_layout: &Layout,
    ) -> candle_core::Result<()> {
        match sum {
            CpuStorage::F64(_) => {
                Self::run::<f64>(host::slice_mut(sum, sum_layout)?, host::slice(term, term_layout)?)
            }
            _ => {
                Self::run::<f32>(host::slice_mut(sum, sum_layout)?, host::slice(term, term_layout)?)
            }
        }
        Ok(())
    }
}

/// `sum += term`, in `sum`'s memory.
pub(crate) fn add_in_place(sum: Tensor, term: &Tensor) -> Result<Tensor> {
    sum.inplace_op2(&term.contiguous()?, &AddAssign)?;
    Ok(sum)
}
