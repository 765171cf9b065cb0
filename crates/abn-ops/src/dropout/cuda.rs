//! Dropout on a GPU, of the very elements that the CPU drops.

use candle_core::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{CHUNK, threshold};
use crate::cuda::{Arg, Grid, Of, launch, unwritten, unwritten_like};
use crate::{Error, Result, Tracked};

/// The most things of a path.
const PATH: usize = 4;

/// ChaCha's keys, one for each part.
pub enum Keys {
    /// As words.
    Here(Vec<[u64; 4]>),
    /// (parts, 8), u32: to be computed by the GPU.
    There(Tensor),
}

impl Keys {
    /// Of these seeds.
    pub fn of(seeds: &[u64]) -> Self {
        let key = |&seed: &u64| {
            let key = ChaCha8Rng::seed_from_u64(seed).get_seed();
            let (words, _) = key.as_chunks::<8>();
            [0, 1, 2, 3].map(|i| u64::from_le_bytes(words[i]))
        };
        Self::Here(seeds.iter().map(key).collect())
    }

    /// Of the seeds that follow from the one that lies there, along each path.
    pub fn follow(op: &'static str, seed: &Tensor, paths: &[Vec<u64>]) -> Result<Self> {
        let keys = unwritten(seed, DType::U32, (paths.len(), 8))?;
        for (part, path) in paths.iter().enumerate() {
            if path.len() > PATH {
                return Err(Error::config(op, format!("a path of more than {PATH} things")));
            }
            let mut words = [0; PATH];
            words[..path.len()].copy_from_slice(path);
            let mut args = vec![
                Arg::In(Of::Double, seed),
                Arg::Out(Of::Index, &keys),
                Arg::Size(part),
                Arg::Size(path.len()),
            ];
            args.extend(words.map(Arg::Bits));
            launch(op, "mask_key", seed, Grid::each(1), &args)?;
        }
        Ok(Self::There(keys))
    }

    fn parts(&self) -> usize {
        match self {
            Self::Here(keys) => keys.len(),
            Self::There(keys) => keys.dims()[0],
        }
    }
}

/// Dropout of as many parts as there are keys.
pub fn drop_by(op: &'static str, x: &Tracked, p: f64, keys: Keys) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let y = unwritten_like(&input)?;
    drop_parts(op, &input, &y, p, &keys)?;
    Ok(Tracked::from_op(y, &[x], move |grad| {
        drop_parts(op, &grad, &grad, p, &keys)?;
        Ok(vec![Some(grad)])
    }))
}

/// Writes to `y`, which may be `x`.
fn drop_parts(op: &'static str, x: &Tensor, y: &Tensor, p: f64, keys: &Keys) -> Result<()> {
    let part = x.elem_count() / keys.parts();
    for i in 0..keys.parts() {
        let mut args = vec![Arg::read(x), Arg::write(y), Arg::Size(i * part), Arg::Size(part)];
        let (there, words) = match keys {
            Keys::Here(keys) => (Arg::Null, keys[i]),
            Keys::There(keys) => (Arg::In(Of::Index, keys), [0; 4]),
        };
        args.extend([there, Arg::Size(i)]);
        args.extend(words.map(Arg::Bits));
        args.extend([
            Arg::Bits(threshold(p).into()),
            Arg::Flag(p >= 1.0),
            Arg::Real(1.0 / (1.0 - p)),
            Arg::Size(CHUNK),
        ]);
        launch(op, "dropout", x, Grid::each(part.div_ceil(16)), &args)?;
    }
    Ok(())
}

/// Writes a seed to where [`Keys::follow`] reads it.
pub fn put_seed(to: &Tensor, seed: u64) -> Result<()> {
    launch("dropout", "put_seed", to, Grid::each(1), &[Arg::write(to), Arg::Bits(seed)])
}
