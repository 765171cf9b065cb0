//! Speed of convolution on the layers of the networks, against the processor's peak.
//!
//! `cargo run --release -p abn-ops --example conv_speed [FILTER [SECONDS_PER_PASS [THREADS]]]` prints for each
//! layer the GFLOP/s of forward pass, input gradient and weight gradient on one thread and on
//! all, and the share of what the same threads reach in multiply-adds between registers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use abn_ops::{Conv2dConfig, Result, Tracked, conv2d};
use candle_core::{Device, Tensor};

/// Network, batch, size, input and output channels, kernel, stride, groups.
type Layer = (&'static str, usize, usize, usize, usize, usize, usize, usize);

const LAYERS: &[Layer] = &[
    ("resnet20", 64, 32, 3, 16, 3, 1, 1),
    ("resnet20", 64, 32, 16, 16, 3, 1, 1),
    ("resnet20", 64, 32, 16, 32, 3, 2, 1),
    ("resnet20", 64, 16, 32, 32, 3, 1, 1),
    ("resnet20", 64, 16, 32, 64, 3, 2, 1),
    ("resnet20", 64, 16, 64, 64, 3, 1, 1),
    ("resnet20", 64, 8, 64, 64, 3, 1, 1),
    ("attention", 64, 16, 64, 100, 1, 1, 1),
    ("attention", 64, 16, 100, 100, 1, 1, 1),
    ("attention", 64, 16, 100, 1, 3, 1, 1),
    ("resnet110", 32, 32, 64, 16, 1, 1, 1),
    ("resnet110", 32, 32, 16, 64, 1, 1, 1),
    ("resnet110", 32, 32, 64, 128, 1, 2, 1),
    ("resnet110", 32, 16, 128, 32, 1, 1, 1),
    ("resnet110", 32, 16, 32, 128, 1, 1, 1),
    ("resnet110", 32, 8, 256, 64, 1, 1, 1),
    ("resnet110", 32, 8, 64, 256, 1, 1, 1),
    ("wrn-16-4", 32, 32, 64, 64, 3, 1, 1),
    ("wrn-16-4", 32, 32, 64, 128, 3, 2, 1),
    ("wrn-16-4", 32, 16, 128, 128, 3, 1, 1),
    ("wrn-16-4", 32, 16, 256, 256, 3, 1, 1),
    ("wrn-16-4", 32, 8, 256, 256, 3, 1, 1),
    ("resnext29", 8, 32, 64, 512, 1, 1, 1),
    ("resnext29", 8, 32, 512, 512, 3, 1, 8),
    ("resnext29", 8, 32, 512, 256, 1, 1, 1),
    ("resnext29", 8, 32, 1024, 1024, 3, 2, 8),
    ("resnext29", 8, 16, 1024, 1024, 3, 1, 8),
    ("resnext29", 8, 16, 1024, 512, 1, 1, 1),
    ("resnext29", 8, 16, 2048, 2048, 3, 1, 8),
    ("resnext29", 8, 8, 2048, 2048, 3, 1, 8),
    ("resnext29", 8, 8, 2048, 1024, 1, 1, 1),
    ("imagenet", 4, 224, 3, 64, 7, 2, 1),
    ("imagenet", 1, 56, 64, 64, 3, 1, 1),
    ("vgg16", 1, 224, 64, 64, 3, 1, 1),
    ("vgg16", 1, 14, 512, 512, 3, 1, 1),
];

fn main() -> Result<()> {
    abn_ops::keep_freed_memory();
    let mut args = std::env::args().skip(1);
    let filter = args.next().unwrap_or_default();
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(0.3);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = args.next().and_then(|s| s.parse().ok()).unwrap_or(threads);
    println!(
        "{:10} {:>34}  {:>7}  {:>13} {:>13} {:>13}",
        "network", "layer", "threads", "forward", "d input", "d weight"
    );
    for layer in LAYERS.iter().filter(|layer| format!("{layer:?}").contains(&filter)) {
        for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool of threads").install(|| measure(layer, threads, seconds))?;
        }
    }
    Ok(())
}

fn measure(layer: &Layer, threads: usize, seconds: f64) -> Result<()> {
    let &(network, n, size, ci, co, k, stride, groups) = layer;
    let cfg = Conv2dConfig { stride, padding: k / 2, dilation: 1, groups };
    let random = |shape: (usize, usize, usize, usize)| {
        Ok::<_, abn_ops::Error>(Tensor::randn(0f32, 1.0, shape, &Device::Cpu)?)
    };
    let x = random((n, size, size, ci))?;
    let weight = random((co, ci / groups, k, k))?;
    let dy = {
        let y =
            conv2d(&Tracked::constant(x.clone()), &Tracked::constant(weight.clone()), None, &cfg)?;
        y.value().randn_like(0.0, 1.0)?
    };
    let flop = 2.0 * (dy.elem_count() * ci / groups * k * k) as f64;
    let mut cells = String::new();
    for pass in 0..3 {
        let input = |wanted, tensor: &Tensor| match wanted {
            true => Tracked::leaf(tensor.clone()),
            false => Tracked::constant(tensor.clone()),
        };
        let (x, weight) = (input(pass == 1, &x), input(pass == 2, &weight));
        // Other programs may take the processor away: the best of many short runs, each
        // compared with a peak measured next to it.
        let (mut best, mut share) = (f64::MAX, 0f64);
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let y = conv2d(&x, &weight, None, &cfg)?;
            let start = clock(threads);
            if pass == 0 {
                black_box(conv2d(&x, &weight, None, &cfg)?);
            } else {
                black_box(y.backward_from(dy.clone())?);
            }
            best = best.min(clock(threads) - start);
            if Instant::now() > end {
                break;
            }
        }
        for _ in 0..3 {
            share = share.max(peak::gflops(threads));
        }
        let speed = flop / best / 1e9;
        cells += &format!("  {speed:6.1} {:3.0} %", 100.0 * speed / share);
    }
    let shape = format!("{n}x{size}x{size} {ci}->{co} {k}x{k} s{stride} g{groups}");
    println!("{network:10} {shape:>34}  {threads:>7} {cells}");
    Ok(())
}

/// Seconds: of processor time on one thread, so that other programs do not count, of real time
/// on several.
fn clock(threads: usize) -> f64 {
    #[cfg(unix)]
    if threads == 1 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes the time to the place given.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        return time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// What the processor does at most.
mod peak {
    /// GFLOP/s of independent multiply-adds in registers, on all threads of the pool.
    pub fn gflops(threads: usize) -> f64 {
        let start = super::clock(threads);
        let flop: f64 = rayon::broadcast(|_| work()).iter().sum();
        flop / (super::clock(threads) - start) / 1e9
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
}
