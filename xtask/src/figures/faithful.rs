//! How faithful the maps of a network are, all on the same images.

use abn_data::Sample;
use abn_explain::faithfulness::{Curves, Faithfulness, Mean, Score, Summary, Verdict};
use anyhow::Result;
use serde::Serialize;

use super::network::{Mapped, Network};

/// A network's methods, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Faithful {
    /// The network.
    pub network: String,
    /// Images measured on; each map is for the network's own answer.
    pub images: usize,
    /// By method, random maps last.
    pub methods: Vec<Measured>,
}

/// A method, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The method.
    pub method: String,
    /// Area under the insertion curve; higher is better.
    pub insertion: Interval,
    /// Area under the deletion curve; lower is better.
    pub deletion: Interval,
    /// ROAD, least minus most relevant removed, halved; higher is better.
    pub road: Option<Interval>,
    /// Of these three, against the random map.
    #[serde(skip)]
    pub verdicts: [Verdict; 3],
    /// Mean insertion curve, from all blurred to all shown.
    pub insertion_curve: Vec<f64>,
    /// Mean deletion curve, from nothing deleted to all.
    pub deletion_curve: Vec<f64>,
    /// Mean probability with ROAD's shares removed, most relevant first.
    pub road_most: Vec<f64>,
    /// The same, least relevant first.
    pub road_least: Vec<f64>,
}

/// A mean over the images, its 95 % interval, and what it is over a random map on the same images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the width of its 95 % interval.
    pub half_width: f64,
    /// Mean difference to the random map of the method's grain, image by image.
    pub over_random: f64,
    /// Half the width of that.
    pub over_random_half_width: f64,
}

impl From<Score> for Interval {
    fn from(score: Score) -> Self {
        // A random map is its own control.
        let over = score.over_control.unwrap_or_else(|| Mean::of(&[]));
        Self {
            mean: score.value.mean,
            half_width: score.value.half_width,
            over_random: over.mean,
            over_random_half_width: over.half_width,
        }
    }
}

/// Measures each method of the network, and the random maps.
pub fn measure(network: &Network, samples: &[(usize, Sample)]) -> Result<Faithful> {
    let measure = Faithfulness::default();
    let images: Vec<_> = samples.iter().map(|(_, sample)| sample.clone()).collect();
    let asked = network.ask(&images)?;
    let mut found = Vec::new();
    for mapped in network.maps(&asked.inputs, &asked.answers)? {
        let Mapped { maps, .. } = &mapped;
        let curves = measure.curves(&*network.run.model, &asked.inputs, &asked.answers, maps)?;
        found.push((mapped, curves));
    }
    let methods = found.iter().map(|(method, curves)| {
        let control =
            found.iter().find(|(other, _)| Some(&other.method) == method.control.as_ref());
        let summary = Summary::new(curves, control.map(|(_, curves)| &curves[..]));
        let mean = |part: &dyn Fn(&Curves) -> &[f64]| means(curves, part);
        Measured {
            method: method.method.clone(),
            insertion: summary.insertion.into(),
            deletion: summary.deletion.into(),
            road: summary.road.map(Interval::from),
            verdicts: summary.verdicts(),
            insertion_curve: mean(&|curves| &curves.insertion),
            deletion_curve: mean(&|curves| &curves.deletion),
            road_most: mean(&|curves| &curves.most_removed),
            road_least: mean(&|curves| &curves.least_removed),
        }
    });
    let methods = methods.collect();
    Ok(Faithful { network: network.name.clone(), images: samples.len(), methods })
}

/// The mean of a curve over the images.
fn means(curves: &[Curves], part: &dyn Fn(&Curves) -> &[f64]) -> Vec<f64> {
    let points = curves.first().map_or(0, |first| part(first).len());
    let mean = |at: usize| {
        Mean::of(&curves.iter().map(|curves| part(curves)[at]).collect::<Vec<_>>()).mean
    };
    (0..points).map(mean).collect()
}
