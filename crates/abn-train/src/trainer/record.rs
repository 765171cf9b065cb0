//! What a run leaves in its folder.

use super::session::Session;
use crate::checkpoint::{self, Best, State};
use crate::network::{Network, Tested};
use crate::report::gallery::{self, Chosen};
use crate::report::{Gallery, attributes};
use crate::{Error, Metrics, Result, Summary, records};

/// Right and wrong answers in a report's gallery, of each at most so many.
const SHOWN: usize = 12;

impl Session<'_> {
    /// Puts a finished epoch on disk: its line and what follows from it, then `best/`, then
    /// `last/`, from which alone a resumed run goes on. A kill before that makes the epoch be done
    /// again, line and all.
    pub(super) fn record(&mut self, metrics: &Metrics, tested: &Tested) -> Result<()> {
        let wrong = tested.tally().wrong;
        self.state = State { epoch: metrics.epoch, step: 0, partial: None, ..self.state.clone() };
        let epoch = metrics.epoch;
        let better = self.state.best.is_none_or(|best| wrong < best.wrong);
        metrics.append(&self.folder.metrics())?;
        records::write(&self.folder, self.recipe, &self.card, tested, &Gallery::None)?;
        if better {
            self.state.best = Some(Best { epoch, wrong });
            checkpoint::save(&self.folder.best(), &self.training, false, &self.card, &self.state)?;
        }
        self.save_last()
    }

    pub(super) fn save_last(&self) -> Result<()> {
        checkpoint::save(&self.folder.last(), &self.training, true, &self.card, &self.state)
    }

    /// The report with its gallery, and the summary.
    pub(super) fn finish(&self, tested: &Tested) -> Result<Summary> {
        self.illustrate(tested)?;
        // From what is on disk: a resumed run has seen only some of its epochs itself.
        let lines = Metrics::read(&self.folder.metrics())?;
        let cost = self.card.cost()?;
        let summary = Summary::new(self.recipe, &lines, cost.parameters, cost.multiply_adds)
            .ok_or_else(|| Error::Invalid("a run of no epochs has no summary".into()))?;
        summary.write(&self.folder.summary())?;
        Ok(summary)
    }

    /// The report's gallery.
    fn illustrate(&self, tested: &Tested) -> Result<()> {
        let (card, data) = (&self.card, &*self.data.test);
        let params = self.training.network();
        let device = params.device();
        // Maps are drawn from f32, whatever the network is trained in.
        let gallery = match (tested, &card.build(params)?) {
            (Tested::Classes(evaluation), Network::Classes(model)) => {
                let chosen = Chosen::new(&evaluation.answers, card.classes.len(), SHOWN);
                let indices = [chosen.wrong, chosen.right].concat();
                let method = gallery::method_for(self.recipe.variant);
                let looks = gallery::look(&**model, card, device, data, &indices, method)?;
                Gallery::Classes(looks)
            }
            (Tested::Tasks(evaluation), Network::Tasks(model)) => {
                let chosen = attributes::choose(&evaluation.answers, card.tasks.len(), SHOWN);
                Gallery::Tasks(attributes::look(&**model, card, device, data, &chosen)?)
            }
            // A network is tested as what it is.
            _ => Gallery::None,
        };
        records::write(&self.folder, self.recipe, card, tested, &gallery)
    }
}
