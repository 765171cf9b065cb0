//! What stands in for pixels that are not shown.

/// Shape of an image (C, H, W).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

/// Replaces some pixels in each channel; `value` is asked by place in the image.
pub(crate) fn replace(
    shape: Shape,
    image: &mut [f32],
    pixels: &[u32],
    value: impl Fn(usize) -> f32,
) {
    let area = shape.height * shape.width;
    for channel in 0..shape.channels {
        for &pixel in pixels {
            let place = channel * area + pixel as usize;
            image[place] = value(place);
        }
    }
}

/// The image under a Gaussian whose standard deviation is `share` of the shorter side, cut off at
/// three of them. At the border, what lies inside is weighted up.
pub(crate) fn blurred(shape: Shape, image: &[f32], share: f64) -> Vec<f32> {
    let Shape { height, width, .. } = shape;
    let sigma = share * height.min(width) as f64;
    let reach = (3.0 * sigma).ceil() as usize;
    let kernel: Vec<_> = (0..=reach).map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp()).collect();
    let across = |line: &[f64]| -> Vec<f64> {
        (0..line.len())
            .map(|at| {
                let (first, last) = (at.saturating_sub(reach), (at + reach).min(line.len() - 1));
                let (mut sum, mut weights) = (0.0, 0.0);
                for from in first..=last {
                    let weight = kernel[from.abs_diff(at)];
                    sum += weight * line[from];
                    weights += weight;
                }
                sum / weights
            })
            .collect()
    };
    let mut result = Vec::with_capacity(image.len());
    for channel in image.chunks_exact(height * width) {
        let rows = channel.chunks_exact(width);
        let rows: Vec<Vec<f64>> =
            rows.map(|row| across(&row.iter().map(|&v| v.into()).collect::<Vec<_>>())).collect();
        let columns: Vec<Vec<f64>> = (0..width)
            .map(|x| across(&rows.iter().map(|row| row[x]).collect::<Vec<_>>()))
            .collect();
        result.extend((0..height).flat_map(|y| columns.iter().map(move |column| column[y] as f32)));
    }
    result
}
