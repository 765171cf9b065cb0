//! Noisy linear imputation (Rong et al. 2022, section 4.3): a removed pixel is the weighted mean of
//! its neighbours, removed or not, 1/6 for those beside it and 1/12 for those at its corners.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::fill::Shape;

/// Offsets in rows and columns, and weights. At the border those there are count.
const NEIGHBOURS: [(isize, isize, f64); 8] = [
    (-1, -1, 1.0 / 12.0),
    (-1, 0, 1.0 / 6.0),
    (-1, 1, 1.0 / 12.0),
    (0, -1, 1.0 / 6.0),
    (0, 1, 1.0 / 6.0),
    (1, -1, 1.0 / 12.0),
    (1, 0, 1.0 / 6.0),
    (1, 1, 1.0 / 12.0),
];

/// Relative residual at which the system counts as solved: far below what the noise hides.
const SOLVED: f64 = 1e-8;

/// The image with the pixels `gone` filled in; at least one must be left.
///
/// The noise follows from nothing but the pixel's place, so that two maps which remove the same
/// pixels give the same image.
pub(crate) fn noisy_linear(shape: Shape, image: &[f32], gone: &[u32], noise: f64) -> Vec<f32> {
    let Shape { height, width, .. } = shape;
    let area = height * width;
    let system = System::new(height, width, gone);
    let mut result = image.to_vec();
    let mut random = ChaCha8Rng::from_seed(*b"abn faithfulness: noise of ROAD.");
    for channel in result.chunks_exact_mut(area) {
        let values = system.solve(channel);
        let noises: Vec<_> = (0..area).map(|_| normal(&mut random)).collect();
        for (&pixel, value) in gone.iter().zip(values) {
            channel[pixel as usize] = (value + noise * noises[pixel as usize]) as f32;
        }
    }
    result
}

/// A standard normal value (Box–Muller).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let mut unit = || (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0;
    let (radius, angle) = ((-2.0 * unit().ln()).sqrt(), std::f64::consts::TAU * unit());
    radius * angle.cos()
}

/// One equation for each removed pixel i: Σ w · x_i − Σ w · x_j (removed) = Σ w · value (left).
/// Symmetric and, with a pixel left, positive definite.
struct System {
    gone: Vec<u32>,
    diagonal: Vec<f64>,
    /// Of each removed pixel: its removed neighbours' indices and weights.
    removed: Vec<Vec<(usize, f64)>>,
    /// Of each removed pixel: its other neighbours' places and weights.
    left: Vec<Vec<(usize, f64)>>,
}

impl System {
    fn new(height: usize, width: usize, gone: &[u32]) -> Self {
        let mut index = vec![usize::MAX; height * width];
        for (i, &pixel) in gone.iter().enumerate() {
            index[pixel as usize] = i;
        }
        let (mut diagonal, mut removed, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for &pixel in gone {
            let (y, x) = (pixel as usize / width, pixel as usize % width);
            let (mut sum, mut unknown, mut known) = (0.0, Vec::new(), Vec::new());
            for (down, right, weight) in NEIGHBOURS {
                let row = y.checked_add_signed(down).filter(|&row| row < height);
                let column = x.checked_add_signed(right).filter(|&column| column < width);
                let Some((row, column)) = row.zip(column) else { continue };
                sum += weight;
                let place = row * width + column;
                match index[place] {
                    usize::MAX => known.push((place, weight)),
                    other => unknown.push((other, weight)),
                }
            }
            diagonal.push(sum);
            removed.push(unknown);
            left.push(known);
        }
        Self { gone: gone.to_vec(), diagonal, removed, left }
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let row = |(i, neighbours): (usize, &Vec<(usize, f64)>)| {
            let others: f64 = neighbours.iter().map(|&(j, weight)| weight * x[j]).sum();
            self.diagonal[i] * x[i] - others
        };
        self.removed.iter().enumerate().map(row).collect()
    }

    /// Values of the removed pixels of a channel, by conjugate gradients with the diagonal as
    /// preconditioner.
    fn solve(&self, channel: &[f32]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let known = |of: &Vec<(usize, f64)>| -> f64 {
            of.iter().map(|&(place, weight)| weight * f64::from(channel[place])).sum()
        };
        let right: Vec<_> = self.left.iter().map(known).collect();
        let mut x = vec![0.0; self.gone.len()];
        let mut residual = right.clone();
        let goal = SOLVED * SOLVED * dot(&right, &right);
        let eased = |residual: &[f64]| -> Vec<f64> {
            residual.iter().zip(&self.diagonal).map(|(r, d)| r / d).collect()
        };
        let mut towards = eased(&residual);
        let mut direction = towards.clone();
        let mut along = dot(&residual, &towards);
        // In exact arithmetic as many steps as there are unknowns suffice.
        for _ in 0..2 * x.len() {
            if dot(&residual, &residual) <= goal {
                break;
            }
            let image = self.apply(&direction);
            let step = along / dot(&direction, &image);
            for i in 0..x.len() {
                x[i] += step * direction[i];
                residual[i] -= step * image[i];
            }
            towards = eased(&residual);
            let next = dot(&residual, &towards);
            let share = next / along;
            along = next;
            for (direction, towards) in direction.iter_mut().zip(&towards) {
                *direction = towards + share * *direction;
            }
        }
        x
    }
}
