//! One face and where a network looked for each attribute.

use abn_data::Dataset;
use abn_train::report::attributes::{TaskLook, look};
use abn_train::{AnyRun, RunFolder};
use anyhow::Result;

use crate::tables::results::{Outcome, Results};

/// Test images among which one with many attributes is looked for.
const SEARCHED: usize = 1000;

/// A network's maps on one face.
pub struct Face {
    /// The network.
    pub name: String,
    /// An attribute each.
    pub looks: Vec<TaskLook>,
}

impl Face {
    /// One for each network with attention branch that has several tasks, of its first seed.
    pub fn of(results: &Results, outcomes: &[Outcome]) -> Result<Vec<Self>> {
        let mut faces = Vec::new();
        for (cell, row) in results.rows.iter().enumerate() {
            let Some(outcome) = outcomes.iter().find(|outcome| outcome.cell == cell) else {
                continue;
            };
            let run = AnyRun::open(&RunFolder::new(&outcome.folder).last())?;
            let AnyRun::Tasks(run) = run else { continue };
            let data = abn_data::open(&run.recipe.dataset, run.recipe.data_dir.as_deref())?.test;
            let Some(index) = with_most(&*data)? else { continue };
            let chosen: Vec<_> = (0..run.card.tasks.len()).map(|task| (index, task)).collect();
            let looks = look(&*run.model, &run.card, run.params.device(), &*data, &chosen)?;
            if !looks.is_empty() {
                faces.push(Self { name: format!("{}, {}", row.family, row.variant_title), looks });
            }
        }
        Ok(faces)
    }
}

/// The first image with as many attributes as any.
fn with_most(data: &dyn Dataset) -> Result<Option<usize>> {
    let mut best: Option<(usize, usize)> = None;
    for index in 0..data.len().min(SEARCHED) {
        let count = data.labels(index)?.iter().filter(|&&label| label > 0).count();
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((index, count));
        }
    }
    Ok(best.map(|(index, _)| index))
}
