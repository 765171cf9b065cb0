//! Dropout.

#[cfg(gpu)]
mod cuda;
mod seed;
#[cfg(test)]
mod tests;

pub use seed::{StepSeed, derive_seed};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::host::{Element, by_dtype, host, on_gpu, tensor, unwritten, update};
use crate::simd::multiversion;
use crate::{Error, Result, Tracked, cost, graph};

const OP: &str = "dropout";

/// Sets each element to zero with probability `p` and divides the others by `1 - p`.
///
/// The elements dropped depend on `seed` and the shape alone, whatever the number of threads; the
/// backward pass draws them again and so keeps nothing. Call it in training only, with another
/// seed for every layer and step.
///
/// # Shapes
/// Any, to the same. PyTorch: `F.dropout(x, p, training=True)`, with other random numbers.
///
/// # Errors
/// If `p` is not in 0..=1.
pub fn dropout(x: &Tracked, p: f64, seed: u64) -> Result<Tracked> {
    dropout_parts(x, p, &[seed])
}

/// [`dropout`] of several batches that lie one after the other, each with its own seed: to the bit
/// what [`dropout`] gives for one after the other.
///
/// # Shapes
/// (parts·N, …) with as many parts as seeds, to the same.
///
/// # Errors
/// As [`dropout`], and if the first dimension is no multiple of the number of seeds.
pub fn dropout_parts(x: &Tracked, p: f64, seeds: &[u64]) -> Result<Tracked> {
    if let Some(same) = unchanged(x, p, seeds.len())? {
        return Ok(same);
    }
    let parts = seeds.len();
    graph::refuse(OP, "dropout's mask is another in each")?;
    on_gpu!(x.value() => cuda::drop_by(OP, x, p, cuda::Keys::of(seeds)));
    let input = x.value().contiguous()?;
    let y = by_dtype!(OP, &input, T => {
        let x = host::<T>(OP, &input)?;
        // SAFETY: the chunks written cover every element.
        let mut y = unsafe { unwritten::<T>(x.len()) };
        let part = (x.len() / parts).max(1);
        (y.par_chunks_mut(part), x.par_chunks(part), seeds).into_par_iter().for_each(|(y, x, &seed)| {
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(i, (y, x))| {
                y.copy_from_slice(x);
                drop_chunk(y, p, seed, i);
            });
        });
        tensor(y, input.shape().clone())
    })?;
    let seeds = seeds.to_vec();
    Ok(Tracked::from_op(y, &[x], move |grad| {
        by_dtype!(OP, &grad, T => {
            update::<T>(OP, &grad, |grad| {
                let part = (grad.len() / seeds.len()).max(1);
                grad.par_chunks_mut(part).zip(&seeds).for_each(|(grad, &seed)| {
                    let chunks = grad.par_chunks_mut(CHUNK).enumerate();
                    chunks.for_each(|(i, grad)| drop_chunk(grad, p, seed, i));
                });
            })
        })?;
        Ok(vec![Some(grad)])
    }))
}

/// [`dropout_parts`] with seeds that follow from a step's `seed`: each part's by [`derive_seed`] for one thing after
/// the other of its path, such as a task and a layer.
///
/// Inside [`StepSeed::within`] the step's seed is the one that lies on the GPU, and such a pass can be captured.
///
/// # Shapes
/// As [`dropout_parts`], with as many parts as paths.
///
/// # Errors
/// As [`dropout_parts`]; on a GPU, also if a path has more than four things.
pub fn dropout_of_step(x: &Tracked, p: f64, seed: u64, paths: &[Vec<u64>]) -> Result<Tracked> {
    #[cfg(gpu)]
    if let Some(there) = StepSeed::current().filter(|_| crate::cuda::takes(x.value())) {
        return match unchanged(x, p, paths.len())? {
            Some(same) => Ok(same),
            None => cuda::drop_by(OP, x, p, cuda::Keys::follow(OP, &there, paths)?),
        };
    }
    let seeds = paths.iter().map(|path| path.iter().fold(seed, |seed, &at| derive_seed(seed, at)));
    dropout_parts(x, p, &seeds.collect::<Vec<_>>())
}

/// The result, if nothing is to be drawn.
fn unchanged(x: &Tracked, p: f64, parts: usize) -> Result<Option<Tracked>> {
    if parts != 1 && !x.dims().first().is_some_and(|rows| parts > 0 && rows % parts == 0) {
        return Err(Error::shape(OP, format!("a multiple of {parts} parts"), x.dims()));
    }
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::config(OP, format!("probability {p} is not in 0..=1")));
    }
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Some(Tracked::constant(value)));
    }
    Ok((p == 0.0).then(|| x.clone()))
}

/// Elements that share a stream of random numbers; part of what a seed means.
const CHUNK: usize = 4096;

fn drop_chunk<T: Element>(values: &mut [T], p: f64, seed: u64, chunk: usize) {
    if p >= 1.0 {
        return values.fill(T::zero());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(chunk as u64);
    let mut bytes = [0; 4 * CHUNK];
    let bytes = &mut bytes[..4 * values.len()];
    rng.fill_bytes(bytes);
    select(values, bytes, threshold(p), T::of(1.0 / (1.0 - p)));
}

/// Random words below it mean that an element is dropped: `p` as the nearest multiple of 2⁻³², but
/// for 1, which does not fit.
fn threshold(p: f64) -> u32 {
    (p * 2f64.powi(32)).round().min(f64::from(u32::MAX)) as u32
}

multiversion! {
    fn select<T>(values: &mut [T], bytes: &[u8], threshold: u32, scale: T) {
        let (words, _) = bytes.as_chunks::<4>();
        for (value, &word) in values.iter_mut().zip(words) {
            let dropped = u32::from_le_bytes(word) < threshold;
            *value = if dropped { T::zero() } else { *value * scale };
        }
    }
}
