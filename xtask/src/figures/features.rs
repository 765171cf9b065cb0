//! What the perception branch's features know: t-SNE.

use abn_data::Sample;
use abn_explain::tsne::{Tsne, neighbour_agreement};
use anyhow::Result;
use serde::Serialize;

use super::network::Network;

/// Neighbours that are asked for their class.
const NEIGHBOURS: usize = 10;

/// A network's features in the plane.
#[derive(Clone, Debug, Serialize)]
pub struct Layout {
    /// The network.
    pub network: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Class of each image.
    pub labels: Vec<u32>,
    /// Place of each image.
    pub points: Vec<[f32; 2]>,
    /// Share of an image's ten nearest neighbours that have its class, by the features themselves.
    pub agreement: f64,
    /// The same in the plane.
    pub agreement_in_plane: f64,
}

/// Lays out the features of the last feature map, averaged over its pixels.
pub fn lay_out(network: &Network, samples: &[(usize, Sample)]) -> Result<Layout> {
    let labels: Vec<_> = samples.iter().map(|(_, sample)| sample.label()).collect();
    let images: Vec<_> = samples.iter().map(|(_, sample)| sample.clone()).collect();
    let features = network.features(&network.ask(&images)?.inputs)?;
    let points = Tsne::default().embed(&features)?;
    let wide = |row: &Vec<f32>| row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let features: Vec<_> = features.iter().map(wide).collect();
    Ok(Layout {
        network: network.name.clone(),
        classes: network.run.card.classes.clone(),
        agreement: neighbour_agreement(&features, &labels, NEIGHBOURS)?,
        agreement_in_plane: neighbour_agreement(&points, &labels, NEIGHBOURS)?,
        // As precise as anyone can see; the file stays small.
        points: points
            .iter()
            .map(|point| point.map(|v| (v * 1000.0).round() as f32 / 1000.0))
            .collect(),
        labels,
    })
}
