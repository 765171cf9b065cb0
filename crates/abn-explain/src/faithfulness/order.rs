//! Which pixel comes first.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Each pixel's place among pixels of its value: one random order for all maps of that size.
///
/// By position, a constant map would be one that looks at the top.
pub(crate) fn ties(pixels: usize) -> Vec<u32> {
    let mut random = ChaCha8Rng::from_seed(*b"abn faithfulness: ties of pixels");
    let mut order: Vec<u32> = (0..pixels as u32).collect();
    for last in (1..pixels).rev() {
        // Of 64 bits, what is uneven about the remainder is below 2⁻³².
        let other = random.next_u64() % (last as u64 + 1);
        order.swap(last, other as usize);
    }
    order
}

/// Pixels from the highest value to the lowest.
pub(crate) fn descending(values: &[f32], ties: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    // −0 and 0 are equal here, which `total_cmp` would order.
    let key = |pixel: u32| values[pixel as usize] + 0.0;
    order.sort_unstable_by(|&a, &b| {
        key(b).total_cmp(&key(a)).then(ties[a as usize].cmp(&ties[b as usize]))
    });
    order
}
