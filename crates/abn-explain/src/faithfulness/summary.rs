//! Curves of many images in three numbers.

use super::{Curves, Mean};

/// A measure over images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The measure itself.
    pub value: Mean,
    /// What it is over the control, image by image, which tells small differences sooner than two
    /// intervals; `None` without a control.
    pub over_control: Option<Mean>,
}

/// How a map compares with its control, by the 95 % interval of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval is on the better side of 0.
    Better,
    /// The interval includes 0, or there is none: no control, or one image.
    Untold,
    /// The interval is on the worse side of 0.
    Worse,
}

impl Score {
    fn of(curves: &[Curves], control: Option<&[Curves]>, value: impl Fn(&Curves) -> f64) -> Self {
        let values: Vec<_> = curves.iter().map(&value).collect();
        let over = |control: &[Curves]| {
            let differences = values.iter().zip(control).map(|(own, other)| own - value(other));
            Mean::of(&differences.collect::<Vec<_>>())
        };
        Self { value: Mean::of(&values), over_control: control.map(over) }
    }

    fn verdict(&self, better: f64) -> Verdict {
        // One image has no interval.
        let over = self.over_control.filter(|over| over.count > 1);
        match over.map(|over| (better * over.mean, over.half_width)) {
            Some((difference, reach)) if difference > reach => Verdict::Better,
            Some((difference, reach)) if difference < -reach => Verdict::Worse,
            _ => Verdict::Untold,
        }
    }
}

/// What a method comes to on some images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Area under the insertion curves; higher is better.
    pub insertion: Score,
    /// Area under the deletion curves; lower is better.
    pub deletion: Score,
    /// [`Curves::road`]; higher is better. `None` if it was not measured.
    pub road: Option<Score>,
}

impl Summary {
    /// Of a method's curves, beside those of a control ([`RandomMap`](crate::RandomMap) with as many
    /// cells, say) on the same images.
    pub fn new(curves: &[Curves], control: Option<&[Curves]>) -> Self {
        let measured = curves.iter().all(|curves| curves.road().is_some());
        let road = |curves: &Curves| curves.road().unwrap_or(0.0);
        Self {
            insertion: Score::of(curves, control, Curves::insertion_area),
            deletion: Score::of(curves, control, Curves::deletion_area),
            road: measured.then(|| Score::of(curves, control, road)),
        }
    }

    /// How insertion, deletion and ROAD compare with the control's.
    pub fn verdicts(&self) -> [Verdict; 3] {
        let road = self.road.map_or(Verdict::Untold, |road| road.verdict(1.0));
        [self.insertion.verdict(1.0), self.deletion.verdict(-1.0), road]
    }
}
