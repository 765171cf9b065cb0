//! Dropout on a GPU, of the very elements that the CPU drops.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{CHUNK, threshold};
use crate::Result;
use crate::cuda::{Arg, Grid, launch, unwritten_like};

pub fn dropped(op: &'static str, x: &Tensor, p: f64, seeds: &[u64]) -> Result<Tensor> {
    let y = unwritten_like(x)?;
    drop_parts(op, x, &y, p, seeds)?;
    Ok(y)
}

/// Writes to `y`, which may be `x`, as many parts as there are seeds.
pub fn drop_parts(op: &'static str, x: &Tensor, y: &Tensor, p: f64, seeds: &[u64]) -> Result<()> {
    let part = x.elem_count() / seeds.len();
    for (i, &seed) in seeds.iter().enumerate() {
        let key = ChaCha8Rng::seed_from_u64(seed).get_seed();
        let (words, _) = key.as_chunks::<8>();
        let mut args = vec![Arg::read(x), Arg::write(y), Arg::Size(i * part), Arg::Size(part)];
        args.extend(words.iter().map(|&word| Arg::Bits(u64::from_le_bytes(word))));
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
