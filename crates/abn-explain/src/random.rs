//! The control that every measure of faithfulness needs.

use abn_core::Classifier;
use candle_core::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Explain, Result, target};

/// A map that knows nothing: each cell uniform in 0 to 1, and independent.
///
/// What a method scores says something only beside what such a map scores. Coarse maps remove
/// patches and fine ones single pixels, which hurts a network by itself: compare with the control
/// of a method's own grain. An image's map follows from its pixels and the seed, so it does not
/// change with the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomMap {
    /// Rows and columns; `None`: a cell for each pixel.
    pub cells: Option<(usize, usize)>,
    /// Of the random numbers.
    pub seed: u64,
}

impl RandomMap {
    /// Of h × w cells.
    pub fn coarse(h: usize, w: usize) -> Self {
        Self { cells: Some((h, w)), seed: 0 }
    }

    /// Of a cell for each pixel.
    pub fn fine() -> Self {
        Self { cells: None, seed: 0 }
    }
}

/// FNV-1a over the values' bits.
fn fingerprint(values: &[f64]) -> u64 {
    values
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

impl Explain for RandomMap {
    fn maps(&self, _: &dyn Classifier, images: &Tensor, classes: &[u32]) -> Result<Tensor> {
        target::check(images, classes)?;
        let (n, _, height, width) = images.dims4()?;
        let (h, w) = self.cells.unwrap_or((height, width));
        let mut values = Vec::with_capacity(n * h * w);
        for image in images.to_dtype(DType::F64)?.flatten_from(1)?.to_vec2::<f64>()? {
            let mut key = [0; 32];
            key[..8].copy_from_slice(b"abnrandm");
            key[8..16].copy_from_slice(&self.seed.to_le_bytes());
            key[16..24].copy_from_slice(&fingerprint(&image).to_le_bytes());
            let mut random = ChaCha8Rng::from_seed(key);
            values.extend((0..h * w).map(|_| (random.next_u32() >> 8) as f32 / 16_777_216.0));
        }
        Ok(Tensor::from_vec(values, (n, h, w), images.device())?.to_dtype(images.dtype())?)
    }
}
