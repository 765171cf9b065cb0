//! Points in a plane, coloured by class, as inline SVG.

use std::fmt::Write;

use abn_train::report::svg::escape;

const SIDE: f64 = 420.0;
const MARGIN: f64 = 8.0;
/// With more classes than this, no legend.
const NAMED: usize = 20;

/// The scatter plot, with a legend where classes are few.
pub fn scatter(points: &[[f32; 2]], labels: &[u32], classes: &[String]) -> String {
    let range = |axis: usize| {
        let values = points.iter().map(|point| f64::from(point[axis]));
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x, y) = (range(0), range(1));
    // One scale for both axes: distances are what the figure shows.
    let span = (x.1 - x.0).max(y.1 - y.0).max(f64::MIN_POSITIVE);
    let place = |value: f32, (low, high): (f64, f64)| {
        SIDE / 2.0 + (f64::from(value) - (low + high) / 2.0) / span * (SIDE - 2.0 * MARGIN)
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {SIDE} {SIDE}\" role=\"img\" aria-label=\"{} points coloured by class\">",
        points.len()
    );
    for (class, name) in classes.iter().enumerate() {
        let _ = write!(
            svg,
            "<g fill=\"{}\"><title>{}</title>",
            colour(class, classes.len()),
            escape(name)
        );
        for (point, _) in points.iter().zip(labels).filter(|(_, label)| **label as usize == class) {
            let (x, y) = (place(point[0], x), place(point[1], y));
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>");
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    if classes.len() <= NAMED {
        svg.push_str("<p class=\"legend\">");
        for (class, name) in classes.iter().enumerate() {
            let colour = colour(class, classes.len());
            let _ = write!(
                svg,
                "<span class=\"entry\"><span style=\"color:{colour}\">●</span> {}</span> ",
                escape(name)
            );
        }
        svg.push_str("</p>");
    }
    svg
}

/// Hues evenly around the circle, neighbours of two depths: told apart on white and on black.
fn colour(class: usize, classes: usize) -> String {
    let hue = 360 * class / classes.max(1);
    let light = if class.is_multiple_of(2) { 42 } else { 60 };
    format!("hsl({hue} 75% {light}%)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_inside_and_has_its_class_s_colour() {
        let points = [[-3.0, 0.0], [5.0, 0.5], [1.0, 2.0]];
        let names = ["a<b".to_owned(), "c".to_owned()];
        let svg = scatter(&points, &[0, 1, 1], &names);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        for axis in ["cx=\"", "cy=\""] {
            for rest in svg.split(axis).skip(1) {
                let value: f64 = rest.split('"').next().unwrap().parse().unwrap();
                assert!((MARGIN..=SIDE - MARGIN).contains(&value), "{value}");
            }
        }
        let second = svg.split("<g fill").nth(2).unwrap();
        assert!(second.contains(&colour(1, 2)) && second.matches("<circle").count() == 2);
        // One point, or all at one place, is no reason to fail.
        assert!(scatter(&[[1.0, 1.0]; 2], &[0, 0], &names).contains("210.0"));
        let many: Vec<_> = (0..100).map(|i| i.to_string()).collect();
        assert!(!scatter(&points, &[0, 1, 99], &many).contains("legend"));
    }
}
