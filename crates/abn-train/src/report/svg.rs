//! Line charts as inline SVG.

use std::fmt::Write;

/// One line of a chart.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// (x, y), in order of x.
    pub points: Vec<(f64, f64)>,
    /// CSS class that gives the line its colour (`line-0`, `line-1`, …).
    pub class: usize,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// A chart with axes, ticks, one polyline with dots per series, and a legend.
///
/// Points that are not finite are left out. The y axis starts at zero.
pub fn line_chart(x_label: &str, y_label: &str, series: &[Series]) -> String {
    let points =
        || series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let x_min = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let x_max = points().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    let y_max = points().map(|p| p.1).fold(0.0, f64::max);
    if !x_min.is_finite() {
        return String::from("<p class=\"empty\">No finished epoch yet.</p>");
    }
    let (x_min, x_max) = if x_min == x_max { (x_min - 0.5, x_max + 0.5) } else { (x_min, x_max) };
    let y_step = tick_step(y_max.max(1e-9), 5);
    let y_top = (y_max / y_step).ceil().max(1.0) * y_step;
    let px = |x: f64| LEFT + (x - x_min) / (x_max - x_min) * (WIDTH - LEFT - RIGHT);
    let py = |y: f64| HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">",
        escape(y_label),
        escape(x_label)
    );
    for i in 0..=(y_top / y_step).round() as usize {
        let (y, value) = (py(i as f64 * y_step), i as f64 * y_step);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.5,
            number(value, y_step)
        );
    }
    let x_step = tick_step(x_max - x_min, 6).max(1.0);
    let mut x = (x_min / x_step).ceil() * x_step;
    while x <= x_max + 1e-9 {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            px(x),
            HEIGHT - BOTTOM + 14.0,
            number(x, x_step)
        );
        x += x_step;
    }
    let _ = write!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 4.0,
        escape(x_label)
    );
    for s in series {
        let finite: Vec<_> =
            s.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        let path: Vec<_> =
            finite.iter().map(|p| format!("{:.1},{:.1}", px(p.0), py(p.1))).collect();
        let _ = write!(
            svg,
            "<polyline class=\"line line-{}\" points=\"{}\"/>",
            s.class,
            path.join(" ")
        );
        for p in finite {
            let _ = write!(
                svg,
                "<circle class=\"dot line-{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{}: {:.3}</title></circle>",
                s.class,
                px(p.0),
                py(p.1),
                escape(&s.name),
                p.1
            );
        }
    }
    svg.push_str("</svg><p class=\"legend\">");
    for s in series {
        let _ = write!(
            svg,
            "<span class=\"entry\"><span class=\"key line-{}\"></span>{}</span> ",
            s.class,
            escape(&s.name)
        );
    }
    svg.push_str("</p>");
    svg
}

/// 1, 2 or 5 times a power of ten that gives at most `ticks` steps over `span`.
fn tick_step(span: f64, ticks: usize) -> f64 {
    let rough = span / ticks as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough).unwrap_or(rough)
}

fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

/// Text made safe for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(tick_step(1.0, 5), 0.2);
        assert_eq!(tick_step(34.0, 5), 10.0);
        assert_eq!(number(0.4, 0.2), "0.4");
        assert_eq!(number(30.0, 10.0), "30");
    }

    #[test]
    fn chart_draws_finite_points_only_and_escapes() {
        let points = vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)];
        let svg = line_chart("epoch", "loss", &[Series { name: "a<b".into(), points, class: 0 }]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b") && !svg.contains("NaN"));
    }
}
