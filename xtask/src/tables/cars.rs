//! What Table 3's networks see of the same cars: where model and maker are told, and whether the features of the
//! maker's network know the maker or the pose.

use abn_data::Dataset;
use abn_explain::pictures::{Style, View, png};
use abn_explain::tsne::neighbour_agreement;
use abn_train::report::gallery::{self, Look};
use abn_train::{Run, RunFolder};
use anyhow::{Context, Result};

use super::report::one_of_each_class;
use super::results::{Outcome, Results};
use crate::figures::features::{Layout, lay_out};
use crate::figures::network::Network;
use crate::figures::scatter::scatter;
use crate::page::{Page, Picture};

const MODEL: &str = "compcars-model";
const MAKER: &str = "compcars-maker";
const VIEWPOINT: &str = "compcars-viewpoint";
/// Cars side by side, at most.
const SHOWN: usize = 12;
/// Cars laid out in the plane, at most, and neighbours that are asked.
const LAID_OUT: usize = 600;
const NEIGHBOURS: usize = 10;

/// A family's networks on the same cars.
pub struct Cars {
    family: String,
    /// The photograph, the model's map and the maker's.
    maps: Vec<Picture>,
    /// Title and figure.
    layouts: Vec<(String, String)>,
    /// Why there are no layouts.
    lacking: Option<String>,
}

impl Cars {
    /// One for each family that has an ABN of both tasks.
    pub fn of(results: &Results, outcomes: &[Outcome]) -> Result<Vec<Self>> {
        let outcome = |family: &str, dataset: &str, variant: &str| {
            let rows = results.rows.iter().enumerate();
            let mut cells = rows.filter(|(_, row)| {
                (row.family.as_str(), row.dataset.as_str(), row.variant.as_str())
                    == (family, dataset, variant)
            });
            let (cell, _) = cells.next()?;
            outcomes.iter().find(|outcome| outcome.cell == cell)
        };
        let mut families: Vec<&str> = results.rows.iter().map(|row| row.family.as_str()).collect();
        families.dedup();
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        for family in families {
            let both = outcome(family, MODEL, "abn").zip(outcome(family, MAKER, "abn"));
            let Some((model, maker)) = both.filter(|_| !seen.contains(&family)) else { continue };
            seen.push(family);
            let maps = side_by_side(model, maker)?;
            let networks = [("baseline", outcome(family, MAKER, "baseline")), ("ABN", Some(maker))];
            let networks = networks.into_iter().filter_map(|(title, run)| Some((title, run?)));
            let (mut layouts, mut lacking) = (Vec::new(), None);
            for (title, run) in networks {
                match laid_out(family, title, run)? {
                    Ok(figures) => layouts.extend(figures),
                    Err(reason) => lacking = Some(reason),
                }
            }
            found.push(Self { family: family.to_owned(), maps, layouts, lacking });
        }
        Ok(found)
    }
}

/// The pictures on the page.
pub fn write(page: &mut Page, cars: &[Cars]) {
    if cars.is_empty() {
        return;
    }
    page.heading("Model and maker, side by side");
    page.text(
        "The first test image of each model, at most a dozen; ABN's attention map where it was trained to tell the \
         model, and where it was trained to tell the maker. Marked where either answer is wrong.",
    );
    for Cars { family, maps, .. } in cars {
        page.subheading(family);
        page.panels(&["image", "model", "maker"], maps);
    }
    page.heading("Pose against maker");
    page.text(
        "t-SNE of the last feature map of the networks that tell the maker, averaged over its pixels, of test images \
         evenly over the set: the same points coloured by maker and by where the car is seen from. The share of each \
         image's ten nearest neighbours that have its colour is by the features themselves. Features that serve the \
         maker gather makers, not poses.",
    );
    for Cars { layouts, lacking, .. } in cars {
        if let Some(lacking) = lacking {
            page.text(lacking);
        }
        page.charts(layouts);
    }
}

/// The images of both networks' test sets, which are the same.
fn side_by_side(model: &Outcome, maker: &Outcome) -> Result<Vec<Picture>> {
    let (model, model_data) = open(model)?;
    let (maker, maker_data) = open(maker)?;
    let mut indices = one_of_each_class(&*model_data)?;
    indices.truncate(SHOWN);
    let look = |run: &Run, data: &dyn Dataset| {
        let method = gallery::method_for(run.recipe.variant);
        gallery::look(&*run.model, &run.card, run.params.device(), data, &indices, method)
    };
    let models = look(&model, &*model_data)?;
    let makers = look(&maker, &*maker_data)?;
    let picture = |(of_model, of_maker): (&Look, &Look)| {
        let mut panel = of_model.panel(&model.card.classes);
        let view = |title: &str, look: &Look| View {
            title: title.to_owned(),
            shown: look.view.shown.clone(),
        };
        panel.views = vec![view("model", of_model), view("maker", of_maker)];
        let told = |look: &Look, classes: &[String]| match look.is_right() {
            true => classes[look.label].clone(),
            false => format!("{}, taken for {}", classes[look.label], classes[look.predicted]),
        };
        let (a, b) = (told(of_model, &model.card.classes), told(of_maker, &maker.card.classes));
        Ok(Picture {
            png: png(&panel.tiles(&Style { side: 128, gap: 4, ..Style::default() }))?,
            alt: format!("a test image, where its model ({a}) is told, and where its maker ({b})"),
            caption: format!("model: {a} · maker: {b}"),
            right: of_model.is_right() && of_maker.is_right(),
        })
    };
    models.iter().zip(&makers).map(picture).collect()
}

/// A run as its last epoch left it, and its test set.
fn open(outcome: &Outcome) -> Result<(Run, std::sync::Arc<dyn Dataset>)> {
    let run = Run::open(&RunFolder::new(&outcome.folder).last())?;
    let data = abn_data::open(&run.recipe.dataset, run.recipe.data_dir.as_deref())?.test;
    Ok((run, data))
}

/// One layout, coloured twice; or why the viewpoints cannot be had.
fn laid_out(
    family: &str,
    title: &str,
    outcome: &Outcome,
) -> Result<Result<[(String, String); 2], String>> {
    let (run, data) = open(outcome)?;
    let views = match abn_data::open(VIEWPOINT, run.recipe.data_dir.as_deref()) {
        Ok(views) => views.test,
        Err(error) => return Ok(Err(format!("{family}: no viewpoints: {error}"))),
    };
    let count = data.len().min(LAID_OUT);
    let indices: Vec<usize> = (0..count).map(|i| i * data.len() / count).collect();
    let samples = indices.iter().map(|&i| Ok((i, data.get(i)?))).collect::<Result<Vec<_>>>()?;
    let network = Network { name: format!("{family}, {title}"), run };
    let Layout { points, labels, classes, agreement, .. } = lay_out(&network, &samples)?;
    let poses = indices.iter().map(|&i| views.label(i)).collect::<abn_data::Result<Vec<_>>>()?;
    let images: Vec<_> = samples.into_iter().map(|(_, sample)| sample).collect();
    let features = network.features(&network.ask(&images)?.inputs)?;
    let wide = |row: &Vec<f32>| row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let features: Vec<_> = features.iter().map(wide).collect();
    let of_pose = neighbour_agreement(&features, &poses, NEIGHBOURS)
        .context("asking neighbours for their pose")?;
    let named = |by: &str, share: f64| {
        format!("{family}, {title}: by {by}, {:.1} % of the neighbours", 100.0 * share)
    };
    Ok(Ok([
        (named("maker", agreement), scatter(&points, &labels, &classes)),
        (named("pose", of_pose), scatter(&points, &poses, views.class_names())),
    ]))
}

#[cfg(test)]
mod tests {
    use abn_backbones::Variant;
    use abn_train::{Recipe, TrainOptions, train};

    use super::*;
    use crate::synthesize::{self, Kind};
    use crate::tables::file::TableFile;
    use crate::tables::results::Heading;

    /// The smallest runs that there can be, of the quick table's cells.
    #[test]
    fn the_page_has_both_maps_of_each_car_and_both_colours_of_each_layout() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("cars");
        synthesize::ensure(Kind::Cars, 0, &data).unwrap();
        let text = include_str!("../../../recipes/table3-quick.toml");
        let mut table = TableFile::parse(text).unwrap();
        table.row.retain(|row| row.name == "ResNet");
        let cells = table.cells().unwrap();
        let mut outcomes = Vec::new();
        for (cell, planned) in cells.iter().enumerate() {
            let Recipe { dataset, variant, .. } = &planned.recipe;
            if dataset == MODEL && *variant == Variant::Baseline {
                continue; // nobody asks for it
            }
            let recipe = Recipe {
                image_size: Some(16),
                images_per_class: Some(4),
                epochs: 1,
                milestones: Vec::new(),
                data_dir: Some(data.clone()),
                ..planned.recipe.clone()
            };
            let folder = folder.path().join(cell.to_string());
            let summary = train(&recipe, &folder, &TrainOptions::default()).unwrap();
            outcomes.push(Outcome { cell, folder, summary });
        }
        let heading = Heading { title: "T", notice: "", measure: table.measure };
        let results = Results::new(heading, &cells, Vec::new(), &outcomes, Vec::new()).unwrap();
        let [cars] = &Cars::of(&results, &outcomes).unwrap()[..] else { panic!("one family") };
        assert_eq!((cars.maps.len(), cars.lacking.as_ref()), (12, None));
        assert!(
            cars.maps[0].caption.starts_with("model: Annulus Coupe"),
            "{}",
            cars.maps[0].caption
        );
        assert!(cars.maps[0].caption.contains(" · maker: Annulus"), "{}", cars.maps[0].caption);
        let titles: Vec<_> = cars.layouts.iter().map(|(title, _)| title.as_str()).collect();
        for (title, expected) in titles.iter().zip([
            "ResNet, baseline: by maker",
            "ResNet, baseline: by pose",
            "ResNet, ABN: by maker",
            "ResNet, ABN: by pose",
        ]) {
            assert!(title.starts_with(expected), "{titles:?}");
        }
        let (maker, pose) = (&cars.layouts[2].1, &cars.layouts[3].1);
        assert!(maker.contains("Rombo") && pose.contains("front-side"));
        assert_eq!(maker.matches("<circle").count(), 600);

        // Without the labels' folder there is no figure, but a reason.
        std::fs::remove_dir_all(data.join("label")).unwrap();
        let cars = &Cars::of(&results, &outcomes).unwrap()[0];
        assert!(cars.layouts.is_empty());
        assert!(cars.lacking.as_ref().unwrap().contains("no viewpoints"), "{:?}", cars.lacking);
        let mut page = Page::new("T");
        write(&mut page, std::slice::from_ref(cars));
        assert!(page.finish().contains("no viewpoints"));
    }
}
