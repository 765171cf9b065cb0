//! What the processor does at most.

use std::time::Instant;

/// FLOP/s of independent multiply-adds in registers, on all threads of the pool: the best of three
/// short runs, for other programs may take the processor away.
pub fn flops() -> f64 {
    let run = |_| {
        let start = Instant::now();
        let flop: f64 = rayon::broadcast(|_| work()).iter().sum();
        flop / start.elapsed().as_secs_f64()
    };
    (0..3).map(run).fold(0.0, f64::max)
}

const ROUNDS: usize = 1 << 19;

#[cfg(target_arch = "x86_64")]
fn work() -> f64 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx2,fma")]
    fn avx2() -> f64 {
        let mut sums = [_mm256_set1_ps(0.0); 12];
        let (a, b) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(0.25));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        (ROUNDS * 12 * 16) as f64
    }
    #[target_feature(enable = "avx512f")]
    fn avx512() -> f64 {
        let mut sums = [_mm512_set1_ps(0.0); 12];
        let (a, b) = (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(0.25));
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        (ROUNDS * 12 * 32) as f64
    }
    match abn_ops::simd::isa() {
        // SAFETY: `isa` found these instructions on this processor.
        abn_ops::simd::Isa::Avx512 => unsafe { avx512() },
        // SAFETY: as above.
        abn_ops::simd::Isa::Avx2 => unsafe { avx2() },
        abn_ops::simd::Isa::Portable => portable(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn work() -> f64 {
    portable()
}

fn portable() -> f64 {
    let mut sums = [0f32; 48];
    let (a, b) = (std::hint::black_box(0.5f32), 0.25);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    std::hint::black_box(sums);
    (ROUNDS * 48 * 2) as f64
}
