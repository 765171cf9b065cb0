//! The figures as a page and as text.

use std::fmt::Write;

use abn_explain::faithfulness::{Marks, Verdict};
use abn_train::report::page::{Page, Picture};
use abn_train::report::svg::{Series, line_chart};

use super::Figures;
use super::faithful::{Faithful, Interval, Measured};
use super::planted::Pointing;
use super::scatter::scatter;

const MEASURES: [&str; 4] = ["method", "insertion ↑", "deletion ↓", "ROAD ↑"];
const GAME: [&str; 5] = ["method", "peak in the box", "95 %", "map inside / outside", "marks"];

/// The page.
pub fn html(figures: &Figures, pictures: &[Vec<Picture>]) -> String {
    let mut page = Page::new(&figures.title);
    if !figures.notice.is_empty() {
        page.notice(&figures.notice);
    }
    for lacking in &figures.lacking {
        page.notice(lacking);
    }
    page.heading("Where the networks look");
    page.text(
        "The first test images of the first classes, and what each method shows for the network's own answer. Blue is \
         a map's lowest value, red its highest; guided backprop is the signed gradient around grey. Wrong answers are \
         marked. Where a network has no CAM of its own, that of the family's CAM network stands in, for the same class.",
    );
    for (panels, pictures) in figures.panels.iter().zip(pictures) {
        page.subheading(&panels.network);
        let heads: Vec<_> =
            std::iter::once("image").chain(panels.methods.iter().map(String::as_str)).collect();
        page.panels(&heads, pictures);
    }
    faithfulness(&mut page, figures);
    planted(&mut page, &figures.planted);
    features(&mut page, figures);
    page.finish()
}

fn faithfulness(page: &mut Page, figures: &Figures) {
    page.heading("How faithful the maps are");
    page.text(
        "Mean over the same test images for every method, ± half its 95 % interval. Insertion and deletion: area under \
         the probability of the network's answer as pixels are shown or deleted, highest in the map first (RISE; 16 \
         steps, blur of an eighth of the side, deleted pixels 0 after normalisation). ROAD: what removing the least \
         relevant pixels leaves over removing the most relevant, halved, over 10 to 90 % (noisy linear imputation). \
         A star: better than a random map of the same grain, by the 95 % interval of the difference image by image; a \
         minus: worse. Unmarked: not told from random.",
    );
    for faithful in &figures.faithfulness {
        page.subheading(&format!("{} ({} images)", faithful.network, faithful.images));
        page.table(&MEASURES, &rows(faithful));
        if faithful.network.ends_with("ABN") {
            page.charts(&charts(faithful));
        }
    }
}

/// Mean curves of a few methods: as many as there are colours.
fn charts(faithful: &Faithful) -> Vec<(String, String)> {
    // Random maps stand last, the finest at the end; the one before is of the attention map's grain.
    let random = faithful.methods.iter().rev().nth(1).map(|of| of.method.as_str());
    let shown = ["ABN attention", "Grad-CAM", "guided backprop"].into_iter().chain(random);
    let shown: Vec<_> = shown
        .filter_map(|name| faithful.methods.iter().find(|of| of.method == name))
        .zip([1, 2, 3, 0])
        .collect();
    let chart = |label: &str, curve: &dyn Fn(&Measured) -> &[f64]| {
        let line = |(of, class): &(&Measured, usize)| {
            let values = curve(of);
            let last = values.len().saturating_sub(1).max(1) as f64;
            let points = values.iter().enumerate().map(|(i, v)| (100.0 * i as f64 / last, *v));
            Series { name: of.method.clone(), points: points.collect(), class: *class }
        };
        line_chart(label, "probability", &shown.iter().map(line).collect::<Vec<_>>())
    };
    let insertion = chart("% of the pixels shown", &|of| &of.insertion_curve);
    let deletion = chart("% of the pixels deleted", &|of| &of.deletion_curve);
    vec![("insertion".into(), insertion), ("deletion".into(), deletion)]
}

fn rows(faithful: &Faithful) -> Vec<Vec<String>> {
    let cell = |interval: Interval, verdict: Verdict| {
        let mark = match verdict {
            Verdict::Better => " *",
            Verdict::Untold => "",
            Verdict::Worse => " −",
        };
        let Interval { mean, half_width, .. } = interval;
        format!("{mean:.3} ± {half_width:.3}{mark}").replace('-', "−")
    };
    let row = |of: &Measured| {
        let [insertion, deletion, road] = of.verdicts;
        vec![
            of.method.clone(),
            cell(of.insertion, insertion),
            cell(of.deletion, deletion),
            of.road.map_or_else(|| "–".to_owned(), |value| cell(value, road)),
        ]
    };
    faithful.methods.iter().map(row).collect()
}

fn planted(page: &mut Page, games: &[Pointing]) {
    page.heading("Pointing at a planted object");
    page.text(
        "The set ‘planted’: the class is a small shape at a random place among clutter, so it is known where a network \
         that answers rightly must have looked. Over the rightly answered test images: how often the highest point of \
         the map lies in the shape's box (Wilson's interval), and the map's mean, scaled to 0 to 1, inside and outside \
         the box. A map that marks the background is reported as such, not turned over.",
    );
    for game in games {
        page.subheading(&format!("{} ({} of {} right)", game.network, game.right, game.images));
        page.table(&GAME, &game_rows(game));
    }
}

fn game_rows(game: &Pointing) -> Vec<Vec<String>> {
    let row = |pointed: &super::planted::Pointed| {
        let (low, high) = pointed.interval;
        vec![
            pointed.method.clone(),
            format!("{:.1} %", 100.0 * pointed.hits),
            format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high),
            format!("{:.2} / {:.2}", pointed.inside, pointed.outside),
            pointed.marks.map_or("–", Marks::words).to_owned(),
        ]
    };
    game.methods.iter().map(row).collect()
}

fn features(page: &mut Page, figures: &Figures) {
    page.heading("What the features know");
    page.text(
        "t-SNE of the last feature map, averaged over its pixels, of test images, coloured by class: with and without \
         attention branch. Distances between far points and sizes of clusters mean little; the share of each image's \
         ten nearest neighbours that have its class, by the features themselves, says more.",
    );
    let charts: Vec<_> = figures
        .features
        .iter()
        .map(|layout| {
            let title = format!(
                "{}: {:.1} % of the neighbours have the class",
                layout.network,
                100.0 * layout.agreement
            );
            (title, scatter(&layout.points, &layout.labels, &layout.classes))
        })
        .collect();
    page.charts(&charts);
}

/// The numbers for a terminal.
pub fn text(figures: &Figures) -> String {
    let mut text = format!("{}\n", figures.title);
    for faithful in &figures.faithfulness {
        let _ = writeln!(text, "\n{} ({} images)", faithful.network, faithful.images);
        table(&mut text, &MEASURES, &rows(faithful));
    }
    for game in &figures.planted {
        let (network, right, images) = (&game.network, game.right, game.images);
        let _ = writeln!(text, "\nplanted, {network} ({right} of {images} right)");
        table(&mut text, &GAME, &game_rows(game));
    }
    if !figures.features.is_empty() {
        text.push_str("\nneighbours of the same class, by the features\n");
    }
    for layout in &figures.features {
        let _ = writeln!(text, "{:5.1} %  {}", 100.0 * layout.agreement, layout.network);
    }
    for lacking in &figures.lacking {
        let _ = writeln!(text, "{lacking}");
    }
    text
}

fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<_> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
