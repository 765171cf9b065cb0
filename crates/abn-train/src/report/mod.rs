//! The page of a run: `report.html`.

pub mod attributes;
pub mod gallery;
pub mod page;
pub mod svg;

use abn_backbones::Cost;

use self::attributes::TaskLook;
use self::gallery::Look;
use self::page::{Page, Shade};
use self::svg::{Series, line_chart};
use crate::attributes::{HEADS, TaskScore, cells};
use crate::evaluation::{ClassAccuracy, Confusion};
use crate::{Metrics, Recipe, Result};

/// With more classes than this, only what is confused most often is shown.
const MATRIX: usize = 20;

/// What the page shows of a run.
pub(crate) struct Content<'a> {
    pub recipe: &'a Recipe,
    pub cost: Cost,
    /// The last one belongs to `results`.
    pub lines: &'a [Metrics],
    pub results: &'a Results,
    pub gallery: &'a Gallery,
}

/// How well a network answers.
pub(crate) enum Results {
    /// One answer to each image.
    Classes(Confusion),
    /// An answer to each of several tasks.
    Tasks(Vec<TaskScore>),
}

/// Test images after the last epoch, and where the network looked.
pub(crate) enum Gallery {
    /// Before the last epoch.
    None,
    /// One answer to each.
    Classes(Vec<Look>),
    /// One of several tasks each.
    Tasks(Vec<TaskLook>),
}

/// The page of a run.
pub(crate) fn html(content: &Content<'_>) -> Result<String> {
    let &Content { recipe, cost, lines, results, gallery } = content;
    let Recipe { model, variant, dataset, epochs, .. } = recipe;
    let mut page = Page::new(&format!("{model} ({variant}) on {dataset}"));
    let Some(last) = lines.last() else { return Ok(page.finish()) };
    let best = lines.iter().fold(last, |best, line| {
        let better = (line.test_error, line.epoch) < (best.test_error, best.epoch);
        if better { line } else { best }
    });
    let attention = last
        .test_error_attention
        .map_or(String::new(), |error| format!(" (attention branch {error:.2} %)"));
    page.notice(&format!(
        "After {} of {epochs} epochs: test error {:.2} %{attention}, loss {:.4}. Lowest test error \
         {:.2} % after epoch {}; chosen on the test set, so it flatters.",
        last.epoch, last.test_error, last.test_loss, best.test_error, best.epoch
    ));
    let Cost { parameters, multiply_adds, .. } = cost;
    page.text(&format!(
        "{parameters} parameters, {multiply_adds} multiply-adds per image. Training losses and \
         errors are those of the steps as they were taken: augmented, and with the labels smoothed \
         where the recipe says so."
    ));
    page.heading("Curves");
    page.charts(&charts(lines));
    match results {
        Results::Classes(confusion) => classes(&mut page, confusion),
        Results::Tasks(scores) => {
            page.heading("Tasks");
            page.text(
                "Test images after the last epoch. Positives are the images that have the attribute; \
                 balanced accuracy is the mean of the shares of positives and of the others that were \
                 answered rightly.",
            );
            page.table(&HEADS, &cells(scores));
        }
    }
    match (gallery, results) {
        (Gallery::Classes(gallery), Results::Classes(confusion)) => {
            looks(&mut page, confusion.classes(), gallery)?;
        }
        (Gallery::Tasks(gallery), _) => task_looks(&mut page, gallery)?,
        _ => {}
    }
    page.heading("Settings");
    let settings: Vec<_> = recipe
        .to_toml()
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, value)| vec![key.to_owned(), value.to_owned()])
        .collect();
    page.table(&["key", "value"], &settings);
    let seconds: f64 = lines.iter().map(|line| line.seconds).sum();
    page.text(&format!(
        "Time: {seconds:.0} s for the epochs so far, {:.0} training images per second in the last.",
        last.images_per_second
    ));
    Ok(page.finish())
}

fn charts(lines: &[Metrics]) -> Vec<(String, String)> {
    let series = |name: &str, class: usize, value: &dyn Fn(&Metrics) -> Option<f64>| Series {
        name: name.to_owned(),
        points: lines.iter().filter_map(|m| Some((m.epoch as f64, value(m)?))).collect(),
        class,
    };
    let mut loss = vec![
        series("training", 0, &|m| Some(m.train_loss)),
        series("test", 1, &|m| Some(m.test_loss)),
    ];
    let mut error = vec![
        series("training", 0, &|m| Some(m.train_error)),
        series("test", 1, &|m| Some(m.test_error)),
    ];
    let branches = lines.iter().any(|line| line.train_loss_attention.is_some());
    if branches {
        loss.push(series("training, perception branch", 2, &|m| Some(m.train_loss_perception)));
        error.push(series("test, attention branch", 3, &|m| m.test_error_attention));
    }
    let lr = [series("learning rate", 1, &|m| Some(m.lr))];
    let both = if branches { "loss of both branches" } else { "loss" };
    [
        (both, "loss", &loss[..]),
        ("top-1 error in percent", "error %", &error),
        ("learning rate of the last step", "lr", &lr),
    ]
    .map(|(title, label, series)| (title.to_owned(), line_chart("epoch", label, series)))
    .into()
}

/// A section on how well each class is known, and what it is taken for.
fn classes(page: &mut Page, confusion: &Confusion) {
    page.heading("Classes");
    let text =
        "Test images of each class after the last epoch, and the share that was answered rightly";
    page.text(&match confusion.classes().len() <= MATRIX {
        true => format!(
            "{text}; then how often it was taken for each class, by number: right answers on green, the more \
             frequent wrong ones the darker on orange."
        ),
        false => format!("{text}."),
    });
    matrix(page, confusion);
}

/// A table of how well each class is known, and what it is taken for: the whole confusion matrix where
/// classes are few, what is confused most often where they are many.
pub fn matrix(page: &mut Page, confusion: &Confusion) {
    /// Columns before the counts.
    const BEFORE: usize = 3;
    let accuracies = confusion.accuracies();
    let names = confusion.classes();
    let matrix = names.len() <= MATRIX;
    let mut head: Vec<String> = ["class", "images", "right"].map(String::from).to_vec();
    if matrix {
        head.extend((0..names.len()).map(|class| class.to_string()));
    }
    let row = |(class, (accuracy, counts)): (usize, (&ClassAccuracy, &[u64]))| {
        let ClassAccuracy { name, images, accuracy, .. } = accuracy;
        let share = accuracy.map_or("–".into(), |share| format!("{share:.2} %"));
        let mut cells = vec![format!("{class} {name}"), images.to_string(), share];
        if matrix {
            cells.extend(counts.iter().map(u64::to_string));
        }
        cells
    };
    let rows: Vec<_> = accuracies.iter().zip(confusion.rows()).enumerate().map(row).collect();
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let counts: Vec<_> = confusion.rows().collect();
    page.shaded(&head, &rows, |row, column| {
        let answer = column.checked_sub(BEFORE)?;
        let share = counts[row][answer] as f64 / accuracies[row].images.max(1) as f64;
        let shade = match answer == row {
            true => (Shade::Right, 0.5 * share),
            // A wrong answer that a third of a class gets is as dark as they come.
            false => (Shade::Wrong, (2.0 * share).min(0.7)),
        };
        (share > 0.0).then_some(shade)
    });
    let worst = confusion.worst(MATRIX);
    if !matrix && !worst.is_empty() {
        page.subheading("Most often taken for another");
        let rows: Vec<_> = worst
            .into_iter()
            .map(|(class, answer, images)| vec![format!("{class} → {answer}"), images.to_string()])
            .collect();
        page.table(&["class → answer", "images"], &rows);
    }
}

/// Right and wrong answers, and where the network looked.
fn looks(page: &mut Page, classes: &[String], gallery: &[Look]) -> Result<()> {
    let Some(first) = gallery.first() else { return Ok(()) };
    page.heading("Where the network looked");
    page.text(&format!(
        "Test images after the last epoch, each beside its map ({}): blue is the map's lowest value, \
         red its highest.",
        first.view.title
    ));
    for (right, title) in [
        (false, "Wrong answers, those of which the network was surest"),
        (true, "Right answers, evenly by class"),
    ] {
        let looks = gallery.iter().filter(|look| look.is_right() == right);
        let pictures = looks.map(|look| look.picture(classes)).collect::<Result<Vec<_>>>()?;
        if !pictures.is_empty() {
            page.subheading(title);
            page.gallery(&pictures);
        }
    }
    Ok(())
}

/// Where the network looked for attributes that images have.
fn task_looks(page: &mut Page, gallery: &[TaskLook]) -> Result<()> {
    if gallery.is_empty() {
        return Ok(());
    }
    page.heading("Where the network looked");
    page.text(
        "Test images that have the attribute, each beside the attribute's map, its positive part and its \
         negative part: blue is the lowest value, red the highest. Maps have either sign; what is \
         negative turns features over.",
    );
    let pictures = gallery.iter().map(TaskLook::picture).collect::<Result<Vec<_>>>()?;
    page.panels(&attributes::VIEWS, &pictures);
    Ok(())
}

#[cfg(test)]
mod tests {
    use abn_backbones::Variant;

    use super::*;
    use crate::evaluation::{Answer, Evaluation};
    use crate::metrics::example;
    use crate::tally::Tally;

    fn html(recipe: &Recipe, lines: &[Metrics], confusion: &Confusion) -> String {
        let cost = Cost { parameters: 1234, multiply_adds: 5678 };
        let results = &Results::Classes(confusion.clone());
        super::html(&Content { recipe, cost, lines, results, gallery: &Gallery::None }).unwrap()
    }

    fn confusion(k: usize) -> Confusion {
        let answer = |index: usize| Answer::new(index, index as u32, &[0.5], &[0.5]);
        let classes = (0..k).map(|class| format!("kind <{class}>")).collect();
        let answers = (0..k).map(answer).collect();
        Evaluation { tally: Tally::default(), answers, classes }.confusion()
    }

    #[test]
    fn the_page_shows_what_the_run_has() {
        let lines = [example(1, 12.5), example(2, 9.75), example(3, 10.25)];
        let recipe = Recipe { variant: Variant::Abn, ..Recipe::default() };
        let page = html(&recipe, &lines, &confusion(3));
        for part in [
            "resnet20 (abn) on fashion-mnist-mini",
            "After 3 of 10 epochs: test error 10.25 %, loss 0.5000",
            "9.75 % after epoch 2",
            "loss of both branches",
            "test, attention branch",
            "<td>2 kind &lt;2&gt;</td><td>1</td><td>0.00 %</td><td style=\"background:rgb(232 89 12 / 0.70)\">1</td><td>0</td>",
            "<td>schedule</td><td>&quot;multistep&quot;</td>",
            "1234 parameters, 5678 multiply-adds",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let baseline = lines.map(|line| Metrics { train_loss_attention: None, ..line });
        let recipe = Recipe { variant: Variant::Baseline, ..recipe };
        let page = html(&recipe, &baseline, &confusion(3));
        assert!(page.contains("(baseline)") && !page.contains("branch"), "{page}");
    }

    #[test]
    fn many_classes_get_no_matrix() {
        let page = html(&Recipe::default(), &[example(1, 99.0)], &confusion(MATRIX + 1));
        assert!(page.contains("kind &lt;1&gt; → kind &lt;0&gt;"), "{page}");
        assert!(page.contains("<th>right</th></tr>"), "{page}");
        assert!(html(&Recipe::default(), &[], &confusion(2)).contains("</html>"));
    }
}
