//! Which values a recipe may have.

use super::Recipe;
use crate::{Error, Result, names};

/// A value that cannot be, by the key it stands under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub key: &'static str,
    pub problem: String,
}

impl Recipe {
    /// Checks every value that can be checked without the data.
    ///
    /// # Errors
    /// Names the key and what was expected.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|Invalid { key, problem }| Error::Setting { key, problem })
    }

    pub(super) fn check(&self) -> std::result::Result<(), Invalid> {
        let invalid = |key, problem: String| Err(Invalid { key, problem });
        if let Err(error) = abn_backbones::find(&self.model) {
            return invalid("model", error.to_string());
        }
        let known = abn_data::DATASETS.map(|info| info.name);
        if !known.contains(&self.dataset.as_str()) {
            let near = names::did_you_mean(&self.dataset, known.iter().copied());
            let problem =
                format!("unknown dataset {:?}{near} (known: {})", self.dataset, known.join(", "));
            return invalid("dataset", problem);
        }
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("images_per_class", self.images_per_class.unwrap_or(1)),
        ] {
            if value == 0 {
                return invalid(key, "must be at least 1, is 0".into());
            }
        }
        // Smaller ones leave the deeper networks without a pixel, larger ones no memory.
        if let Some(size) = self.image_size.filter(|size| !(16..=4096).contains(size)) {
            return invalid("image_size", format!("must be in 16 to 4096, is {size}"));
        }
        if !self.batch_size.is_multiple_of(self.accumulate) {
            let (parts, images) = (self.accumulate, self.batch_size);
            return invalid("accumulate", format!("must divide batch_size, {images}, is {parts}"));
        }
        if self.warmup_epochs >= self.epochs {
            let (warmup, epochs) = (self.warmup_epochs, self.epochs);
            return invalid(
                "warmup_epochs",
                format!("must be less than epochs, {epochs}, is {warmup}"),
            );
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        for (key, value, fine, expected) in [
            ("lr", self.lr, positive(self.lr), "a positive number"),
            ("gamma", self.gamma, positive(self.gamma), "a positive number"),
            (
                "momentum",
                self.momentum,
                (0.0..1.0).contains(&self.momentum),
                "in 0 to 1, without 1",
            ),
            (
                "weight_decay",
                self.weight_decay,
                self.weight_decay == 0.0 || positive(self.weight_decay),
                "0 or a positive number",
            ),
            (
                "label_smoothing",
                self.label_smoothing,
                (0.0..1.0).contains(&self.label_smoothing),
                "in 0 to 1, without 1",
            ),
            (
                "bn_momentum",
                self.bn_momentum,
                positive(self.bn_momentum) && self.bn_momentum <= 1.0,
                "above 0 and at most 1",
            ),
        ] {
            if !fine {
                return invalid(key, format!("must be {expected}, is {value}"));
            }
        }
        for (key, value) in [("dropout", self.dropout), ("ema_decay", self.ema_decay)] {
            if let Some(value) = value.filter(|value| !(0.0..1.0).contains(value)) {
                return invalid(key, format!("must be in 0 to 1, without 1, is {value}"));
            }
        }
        let digits = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(hash) = self.init_sha256.as_ref().filter(|hash| !digits(hash)) {
            return invalid("init_sha256", format!("must be 64 hexadecimal digits, is {hash:?}"));
        }
        if self.nesterov && self.momentum == 0.0 {
            return invalid("nesterov", "needs a momentum above 0".into());
        }
        let increasing = self.milestones.is_sorted_by(|a, b| a < b);
        if !increasing || self.milestones.first() == Some(&0) {
            let problem = format!("must increase, from 1 on; are {:?}", self.milestones);
            return invalid("milestones", problem);
        }
        if i64::try_from(self.seed).is_err() {
            return invalid("seed", format!("must be below 2^63, is {}", self.seed));
        }
        Ok(())
    }
}
