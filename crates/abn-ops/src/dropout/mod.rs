//! Dropout.

#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::host::{Element, by_device, host, tensor, unwritten, update};
use crate::simd::multiversion;
use crate::{Error, Result, Tracked, cost, graph};

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
    const OP: &str = "dropout";
    let parts = seeds.len();
    if parts != 1 && !x.dims().first().is_some_and(|rows| parts > 0 && rows % parts == 0) {
        return Err(Error::shape(OP, format!("a multiple of {parts} parts"), x.dims()));
    }
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::config(OP, format!("probability {p} is not in 0..=1")));
    }
    if let Some(value) = cost::shape_only(x.dims(), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    graph::refuse(OP, "dropout's mask is another in each")?;
    let input = x.value().contiguous()?;
    let y = by_device!(OP, &input, gpu => cuda::dropped(OP, &input, p, seeds), T => {
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
        by_device!(OP, &grad, gpu => cuda::drop_parts(OP, &grad, &grad, p, &seeds), T => {
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
