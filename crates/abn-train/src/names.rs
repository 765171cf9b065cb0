//! Nearest names, for messages about a name that is not known.

/// `; did you mean "…"?` with the known name closest to `name`, or nothing if none is close.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min();
    near.map_or(String::new(), |(_, candidate)| format!("; did you mean {candidate:?}?"))
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn only_what_is_close_is_offered() {
        let known = ["epochs", "lr", "milestones"];
        assert_eq!(did_you_mean("epoch", known), "; did you mean \"epochs\"?");
        assert_eq!(did_you_mean("milestone", known), "; did you mean \"milestones\"?");
        assert_eq!(did_you_mean("warmup", known), "");
    }
}
