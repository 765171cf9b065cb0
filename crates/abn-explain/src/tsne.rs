//! Features of many dimensions as points in a plane: t-SNE.
//!
//! van der Maaten and Hinton, "Visualizing Data using t-SNE" (JMLR 2008), exact, so time and memory
//! grow with the square of the number of points: up to some 2,000. It starts from the first two
//! principal components (Kobak and Berens, Nature Communications 2019) with a learning rate of
//! n / 12 (Belkina et al., Nature Communications 2019), and has no random numbers. Sums have a fixed
//! order, so equal features give equal bytes on any number of threads.

use rayon::prelude::*;

use crate::{Error, Result};

/// Steps with the attraction exaggerated, and its factor.
const EARLY: (usize, f64) = (250, 12.0);

/// How features are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tsne {
    /// About how many neighbours count for a point. Default: 30; at most a third of the points.
    pub perplexity: f64,
    /// Steps of gradient descent, of which the first 250 at most exaggerate. Default: 750.
    pub steps: usize,
}

impl Default for Tsne {
    fn default() -> Self {
        Self { perplexity: 30.0, steps: 750 }
    }
}

type Point = [f64; 2];

impl Tsne {
    /// A point in the plane for each row of features. Only distances mean something, and of these only
    /// the small ones.
    ///
    /// # Errors
    /// If there are fewer than five rows, they differ in length, have values that are no numbers, or
    /// the perplexity is not above 1.
    pub fn embed(&self, features: &[Vec<f32>]) -> Result<Vec<Point>> {
        let refuse = |what: String| Err(Error::Measure(what));
        let n = features.len();
        let Some(first) = features.first().filter(|_| n >= 5) else {
            return refuse(format!("{n} points; t-SNE needs five or more"));
        };
        if let Some(row) = features.iter().position(|row| row.len() != first.len()) {
            return refuse(format!(
                "row {row} has {} features, the first {}",
                features[row].len(),
                first.len()
            ));
        }
        if let Some(row) = features.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return refuse(format!("row {row} has features that are no numbers"));
        }
        if self.perplexity.is_nan() || self.perplexity <= 1.0 {
            return refuse(format!("a perplexity of {}; expected more than 1", self.perplexity));
        }
        let centred = centred(features);
        let perplexity = self.perplexity.min((n - 1) as f64 / 3.0);
        let affinities = affinities(&centred, perplexity);
        let mut points = principal(&centred);
        let mut velocities = vec![[0.0; 2]; n];
        let mut gains = vec![[1.0; 2]; n];
        let rate = (n as f64 / EARLY.1).max(50.0);
        for step in 0..self.steps {
            let early = step < EARLY.0;
            let exaggeration = if early { EARLY.1 } else { 1.0 };
            let momentum = if early { 0.5 } else { 0.8 };
            let gradients = gradients(&affinities, &points, exaggeration);
            for i in 0..n {
                for axis in 0..2 {
                    let (gradient, velocity) = (gradients[i][axis], &mut velocities[i][axis]);
                    // Jacobs' rule: a coordinate that keeps its direction speeds up.
                    let gain = &mut gains[i][axis];
                    let turned = (gradient > 0.0) == (*velocity > 0.0);
                    *gain = if turned { f64::max(*gain * 0.8, 0.01) } else { *gain + 0.2 };
                    *velocity = momentum * *velocity - rate * *gain * gradient;
                    points[i][axis] += *velocity;
                }
            }
        }
        for axis in 0..2 {
            let mean = points.iter().map(|point| point[axis]).sum::<f64>() / n as f64;
            points.iter_mut().for_each(|point| point[axis] -= mean);
        }
        Ok(points)
    }
}

/// Mean over the points of the share of its `k` nearest neighbours (Euclidean; of equals the first)
/// that have its label.
///
/// # Errors
/// If there is not a label for each point, or there are not more than `k` ≥ 1 points.
pub fn neighbour_agreement<V>(points: &[V], labels: &[u32], k: usize) -> Result<f64>
where
    V: AsRef<[f64]> + Sync,
{
    let n = points.len();
    if n != labels.len() || k == 0 || n <= k {
        let labels = labels.len();
        return Err(Error::Measure(format!("{k} neighbours of {n} points with {labels} labels")));
    }
    let agreeing = |i: usize| {
        let distances = points.iter().map(|other| squared(points[i].as_ref(), other.as_ref()));
        let mut others: Vec<_> = distances.enumerate().filter(|(j, _)| *j != i).collect();
        others.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        others[..k].iter().filter(|(j, _)| labels[*j] == labels[i]).count()
    };
    let agreeing: usize = (0..n).into_par_iter().map(agreeing).sum();
    Ok(agreeing as f64 / (n * k) as f64)
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn centred(features: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let n = features.len() as f64;
    let mean = |column: usize| features.iter().map(|row| f64::from(row[column])).sum::<f64>() / n;
    let means: Vec<_> = (0..features[0].len()).map(mean).collect();
    let row =
        |row: &Vec<f32>| row.iter().zip(&means).map(|(v, mean)| f64::from(*v) - mean).collect();
    features.iter().map(row).collect()
}

/// The joint probabilities p, n × n: Gaussian around each point, as wide as the perplexity asks for,
/// and the mean of both directions.
fn affinities(rows: &[Vec<f64>], perplexity: f64) -> Vec<f64> {
    let n = rows.len();
    let conditional: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let distances: Vec<_> = rows.iter().map(|other| squared(&rows[i], other)).collect();
            around(i, &distances, perplexity.ln())
        })
        .collect();
    let joint = |(i, j): (usize, usize)| (conditional[i][j] + conditional[j][i]) / (2 * n) as f64;
    (0..n * n).into_par_iter().map(|place| joint((place / n, place % n))).collect()
}

/// Probabilities of the neighbours of point `i` with this entropy, by bisection of the width.
fn around(i: usize, distances: &[f64], entropy: f64) -> Vec<f64> {
    let others = || (0..distances.len()).filter(|&j| j != i);
    let nearest = others().map(|j| distances[j]).fold(f64::INFINITY, f64::min);
    let mean = others().map(|j| distances[j] - nearest).sum::<f64>() / (distances.len() - 1) as f64;
    // At one distance from all others, any width will do.
    let mut width = if mean > 0.0 { 1.0 / mean } else { 1.0 };
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut weights = vec![0.0; distances.len()];
    for _ in 0..100 {
        let (mut sum, mut moment) = (0.0, 0.0);
        for j in others() {
            let distance = distances[j] - nearest;
            weights[j] = (-distance * width).exp();
            sum += weights[j];
            moment += weights[j] * distance;
        }
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let excess = sum.ln() + width * moment / sum - entropy;
        if excess.abs() < 1e-6 {
            break;
        }
        if excess > 0.0 {
            low = width;
            width = if high.is_finite() { (low + high) / 2.0 } else { width * 2.0 };
        } else {
            high = width;
            width = (low + high) / 2.0;
        }
    }
    weights
}

/// Coordinates along the first two principal axes, the first with a deviation of 1e-4.
fn principal(rows: &[Vec<f64>]) -> Vec<Point> {
    let n = rows.len();
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for _ in 0..2 {
        // Power iteration on the covariance, from the row furthest out that is left.
        let free = |row: &[f64]| -> Vec<f64> {
            axes.iter().fold(row.to_vec(), |row, axis| {
                let along = dot(&row, axis);
                row.iter().zip(axis).map(|(v, a)| v - along * a).collect()
            })
        };
        let freed: Vec<_> = rows.iter().map(|row| free(row)).collect();
        let furthest = (0..n)
            .rev()
            .max_by(|&a, &b| dot(&freed[a], &freed[a]).total_cmp(&dot(&freed[b], &freed[b])));
        let mut axis = unit(freed[furthest.unwrap_or(0)].clone());
        for _ in 0..100 {
            let mut next = vec![0.0; axis.len()];
            for row in &freed {
                let along = dot(row, &axis);
                next.iter_mut().zip(row).for_each(|(next, v)| *next += along * v);
            }
            axis = unit(next);
        }
        axes.push(axis);
    }
    let points: Vec<_> = rows.iter().map(|row| [dot(row, &axes[0]), dot(row, &axes[1])]).collect();
    let deviation = (points.iter().map(|p| p[0] * p[0]).sum::<f64>() / n as f64).sqrt();
    let scale = 1e-4 / deviation.max(f64::MIN_POSITIVE);
    points.into_iter().map(|point| point.map(|v| v * scale)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Of length 1; zeros stay.
fn unit(mut axis: Vec<f64>) -> Vec<f64> {
    let length = dot(&axis, &axis).sqrt();
    if length > 0.0 {
        axis.iter_mut().for_each(|v| *v /= length);
    }
    axis
}

/// Gradient of the divergence between p and the points' own q, a Student distribution.
fn gradients(affinities: &[f64], points: &[Point], exaggeration: f64) -> Vec<Point> {
    let n = points.len();
    let parts: Vec<(Point, Point, f64)> = (0..n)
        .into_par_iter()
        .map(|i| {
            let (mut pull, mut push, mut sum) = ([0.0; 2], [0.0; 2], 0.0);
            let [x, y] = points[i];
            for (p, [other_x, other_y]) in affinities[i * n..(i + 1) * n].iter().zip(points) {
                let (dx, dy) = (x - other_x, y - other_y);
                let near = 1.0 / (1.0 + dx * dx + dy * dy);
                let (attraction, repulsion) = (p * near, near * near);
                pull[0] += attraction * dx;
                pull[1] += attraction * dy;
                push[0] += repulsion * dx;
                push[1] += repulsion * dy;
                sum += near;
            }
            // The point itself is at distance 0: it moves nothing, but counts 1.
            (pull, push, sum - 1.0)
        })
        .collect();
    let total: f64 = parts.iter().map(|(_, _, sum)| sum).sum();
    let gradient = |(pull, push, _): &(Point, Point, f64)| {
        [0, 1].map(|axis| 4.0 * (exaggeration * pull[axis] - push[axis] / total))
    };
    parts.iter().map(gradient).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five clusters in 20 dimensions, in no order.
    fn clusters(each: usize) -> (Vec<Vec<f32>>, Vec<u32>) {
        let noise = |i: usize| ((i as f32 * 12.9898).sin() * 43_758.547).fract();
        let row = |i: usize| {
            (0..20).map(|d| 4.0 * f32::from(u8::from(d % 5 == i % 5)) + noise(i * 20 + d)).collect()
        };
        ((0..5 * each).map(row).collect(), (0..5 * each).map(|i| i as u32 % 5).collect())
    }

    #[test]
    fn clusters_stay_apart_and_neighbours_stay_near() {
        let (features, labels) = clusters(30);
        let points = Tsne::default().embed(&features).unwrap();
        assert_eq!(neighbour_agreement(&points, &labels, 10).unwrap(), 1.0);
        // Spread out in both directions, around the middle.
        for axis in 0..2 {
            let of: Vec<_> = points.iter().map(|point| point[axis]).collect();
            let (low, high) =
                of.iter().fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
            assert!(high - low > 5.0 && high - low < 500.0, "{low} {high}");
        }
        // Labels that the features know nothing of agree by chance.
        let other: Vec<_> = labels.iter().enumerate().map(|(i, _)| (i / 5 % 5) as u32).collect();
        let chance = neighbour_agreement(&points, &other, 10).unwrap();
        assert!((0.1..0.3).contains(&chance), "{chance}");
    }

    #[test]
    fn threads_change_nothing() {
        let (features, _) = clusters(20);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Tsne { steps: 300, ..Tsne::default() }.embed(&features).unwrap())
        };
        assert_eq!(on(1), on(2));
    }

    /// The gradient against differences of what it is the gradient of: Σ p · ln(p / q).
    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let (features, _) = clusters(3);
        let affinities = affinities(&centred(&features), 4.0);
        let total: f64 = affinities.iter().sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
        let n = features.len();
        let points: Vec<Point> =
            (0..n).map(|i| [(i as f64 * 0.7).sin(), (i as f64 * 1.9).cos()]).collect();
        let divergence = |points: &[Point]| {
            let near = |i: usize, j: usize| 1.0 / (1.0 + squared(&points[i], &points[j]));
            let pairs = || (0..n * n).map(|p| (p / n, p % n)).filter(|(i, j)| i != j);
            let sum: f64 = pairs().map(|(i, j)| near(i, j)).sum();
            let term = |(i, j): (usize, usize)| {
                let p = affinities[i * n + j];
                if p > 0.0 { p * (p * sum / near(i, j)).ln() } else { 0.0 }
            };
            pairs().map(term).sum::<f64>()
        };
        let found = gradients(&affinities, &points, 1.0);
        for (i, axis) in [(0, 0), (4, 1), (14, 0)] {
            let moved = |by: f64| {
                let mut points = points.clone();
                points[i][axis] += by;
                divergence(&points)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((found[i][axis] - expected).abs() < 1e-7, "{} {expected}", found[i][axis]);
        }
    }

    #[test]
    fn widths_give_the_perplexity() {
        let distances: Vec<_> = (0..50).map(|i| (i as f64 * 0.37).powi(2)).collect();
        let weights = around(7, &distances, 10f64.ln());
        let entropy: f64 = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum();
        assert!((entropy.exp() - 10.0).abs() < 1e-3, "{}", entropy.exp());
        assert_eq!(weights[7], 0.0);
    }

    #[test]
    fn degenerate_features_give_numbers_and_bad_ones_errors() {
        let same = vec![vec![1.0; 3]; 8];
        let points = Tsne::default().embed(&same).unwrap();
        assert!(points.as_flattened().iter().all(|v| v.is_finite()));
        let said = |features: &[Vec<f32>]| Tsne::default().embed(features).unwrap_err().to_string();
        assert!(said(&same[..4]).contains("4 points"));
        assert!(said(&[&same[..], &[vec![1.0; 2]]].concat()).contains("row 8"));
        assert!(said(&[&same[..], &[vec![f32::NAN; 3]]].concat()).contains("row 8"));
        assert!(Tsne { perplexity: 1.0, ..Tsne::default() }.embed(&same).is_err());
        assert!(neighbour_agreement(&[[0.0], [1.0]], &[0, 0], 2).is_err());
    }
}
