//! Speed of convolution on every layer of the networks, against the processor's peak.
//!
//! `cargo bench -p abn-ops [-- FILTER]`; `RAYON_NUM_THREADS=1` for one thread, `ABN_SIMD=avx2` for other
//! instructions. After criterion's own figures a table has each pass's share of what the same
//! threads reach in multiply-adds between registers, measured beside it. Operations are those of
//! the definition: Winograd's transform does fewer, so its share may go past 100 %. A pass back
//! is timed without the copy of its gradient that it begins with here, and does not in a training step.

mod layers;
mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use abn_ops::{Conv2dConfig, Result, Tracked, conv2d, in_pool, no_grad};
use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use layers::{LAYERS, Layer};

const PASSES: [&str; 3] = ["forward", "input gradient", "weight gradient"];

fn main() {
    abn_ops::keep_freed_memory();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let rows: Vec<_> = LAYERS.iter().map(|layer| (layer, shares(&mut criterion, layer))).collect();
    criterion.final_summary();
    let measured = rows.iter().filter(|(_, shares)| shares.iter().any(Option::is_some));
    println!("\n{:62} {:>9} {:>9} {:>9}", "share of the peak, %", "forward", "d input", "d weight");
    for (layer, shares) in measured {
        let [a, b, c] =
            shares.map(|share| share.map_or("-".into(), |share| format!("{:.0}", 100.0 * share)));
        let mark = if layer.is_wide() { "*" } else { "" };
        println!("{:62} {a:>9} {b:>9} {c:>9}", format!("{layer} {mark}"));
    }
    println!("* 3x3 with 32 or more channels in a group");
}

/// The share of the peak that each pass reaches, if the filter lets it run.
fn shares(criterion: &mut Criterion, layer: &Layer) -> [Option<f64>; 3] {
    let mut group = criterion.benchmark_group(layer.to_string());
    group.throughput(Throughput::Elements(layer.flop())).sampling_mode(SamplingMode::Flat);
    let pass = Pass::new(layer).expect("a convolution");
    let shares = std::array::from_fn(|which| {
        let (mut seconds, mut best_peak) = (Vec::new(), 0.0);
        group.bench_function(BenchmarkId::from_parameter(PASSES[which]), |bencher| {
            bencher.iter_custom(|count| {
                let times = in_pool(|| (0..count).map(|_| pass.run(which)).collect::<Result<_>>());
                let times: Vec<Duration> = times.expect("a convolution");
                seconds.extend(times.iter().map(Duration::as_secs_f64));
                times.iter().sum()
            });
            best_peak = peak::flops();
        });
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2)?;
        Some(layer.flop() as f64 / median / best_peak)
    });
    group.finish();
    shares
}

/// A convolution's inputs.
struct Pass {
    x: Tensor,
    weight: Tensor,
    dy: Tensor,
    config: Conv2dConfig,
}

impl Pass {
    fn new(layer: &Layer) -> Result<Self> {
        let &Layer { batch, size, input, output, kernel, stride, groups, .. } = layer;
        let random =
            |shape: (usize, usize, usize, usize)| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
        let (x, weight) = (
            random((batch, size, size, input))?,
            random((output, input / groups, kernel, kernel))?,
        );
        let side = size.div_ceil(stride);
        let dy = random((batch, side, side, output))?;
        let config = Conv2dConfig { stride, padding: kernel / 2, dilation: 1, groups };
        Ok(Self { x, weight, dy, config })
    }

    /// How long one of the three passes takes. No other gradient is computed with it.
    fn run(&self, which: usize) -> Result<Duration> {
        let input = |wanted, tensor: &Tensor| match wanted {
            true => Tracked::leaf(tensor.clone()),
            false => Tracked::constant(tensor.clone()),
        };
        let (x, weight) = (input(which == 1, &self.x), input(which == 2, &self.weight));
        let forward = || conv2d(&x, &weight, None, &self.config);
        let start = Instant::now();
        if which == 0 {
            black_box(no_grad(forward)?);
            return Ok(start.elapsed());
        }
        let y = forward()?;
        let start = Instant::now();
        black_box(y.backward_from(self.dy.clone())?);
        let both = start.elapsed();
        // `backward_from` copies its gradient, which within a training step nobody does.
        let start = Instant::now();
        black_box(self.dy.force_contiguous()?);
        Ok(both.saturating_sub(start.elapsed()))
    }
}
