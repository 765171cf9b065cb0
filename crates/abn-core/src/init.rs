//! Initial values of parameters, from a seed and the parameter's name alone.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// FNV-1a: a name as a number that is the same on every machine.
pub(crate) fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The generator for a parameter.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash_name(name).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A seed for the named thing, unrelated to that of any other name or seed.
pub(crate) fn derive_seed(seed: u64, name: &str) -> u64 {
    abn_ops::derive_seed(seed, hash_name(name))
}

/// The initial value of the parameter `name`.
///
/// It depends on `seed` and `name` only: neither on the order in which parameters are made nor on
/// the number of threads. Normal values are made in f64 by Box–Muller, then rounded.
pub(crate) fn initial(
    init: Init,
    shape: &Shape,
    seed: u64,
    name: &str,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let count = shape.elem_count();
    let (normal, centre, spread) = match init {
        Init::Const(value) => {
            return Tensor::full(value, shape.clone(), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device);
        }
        Init::Randn { mean, stdev } => (true, mean, stdev),
        Init::Uniform { lo, up } => (false, (lo + up) / 2.0, (up - lo) / 2.0),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => (true, 0.0, std),
                NormalOrUniform::Uniform => (false, 0.0, 3f64.sqrt() * std),
            }
        }
    };
    let mut random = generator(seed, name);
    let mut spare = None;
    let mut next = move || {
        let unit = if normal {
            spare.take().unwrap_or_else(|| {
                let (first, second) = normal_pair(&mut random);
                spare = Some(second);
                first
            })
        } else {
            2.0 * unit_interval(&mut random) - 1.0
        };
        centre + spread * unit
    };
    match dtype {
        DType::F64 => {
            let values: Vec<f64> = (0..count).map(|_| next()).collect();
            Tensor::from_vec(values, shape.clone(), device)
        }
        _ => {
            let values: Vec<f32> = (0..count).map(|_| next() as f32).collect();
            Tensor::from_vec(values, shape.clone(), device)?.to_dtype(dtype)
        }
    }
}

/// Uniform in [0, 1), 53 bits.
fn unit_interval(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Two independent standard normal values (Box–Muller).
fn normal_pair(random: &mut ChaCha8Rng) -> (f64, f64) {
    let radius = (-2.0 * (1.0 - unit_interval(random)).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit_interval(random)).sin_cos();
    (radius * cos, radius * sin)
}
