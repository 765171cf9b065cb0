//! Training, evaluation and explanation of Attention Branch Networks; the `abn` command.
//!
//! A [`Recipe`] says what a run does, [`train`] does it in a folder of its own, [`Run`] opens
//! what came out; [`abn_explain`] tells and draws where the network looked.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use abn_explain::pictures::{ColourMap, enlarged, overlay};
//! use abn_train::{Recipe, Run, TrainOptions, explain, train};
//!
//! # fn main() -> abn_train::Result<()> {
//! let folder = Path::new("runs/mine");
//! let summary = train(&Recipe::default(), folder, &TrainOptions::default())?;
//! println!("test error {:.2} %", summary.test_error);
//!
//! let run = Run::open(folder)?;
//! let image = abn_data::read_image(Path::new("shoe.png"))?;
//! let prediction = &run.predict(std::slice::from_ref(&image))?[0];
//! let (class, probability) = prediction.top(1)[0];
//! println!("{} ({:.1} %)", run.card.classes[class], 100.0 * probability);
//! if let Some(map) = &prediction.attention {
//!     let picture = enlarged(explain::picture(&image)?, 256);
//!     let looked = overlay(&picture, map, ColourMap::Jet); // an `image::RgbImage`
//! }
//! # Ok(())
//! # }
//! ```

pub mod attributes;
mod card;
mod checkpoint;
mod csv;
mod device;
mod ema;
mod error;
mod evaluate;
mod evaluation;
pub mod explain;
mod export;
mod feed;
mod files;
mod folder;
mod import;
mod init;
mod ledger;
mod metrics;
mod names;
mod network;
mod npy;
mod optimizer;
pub mod parallel;
mod part;
mod precision;
mod progress;
mod recipe;
mod records;
mod replay;
pub mod report;
mod run;
mod schedule;
mod step;
mod tally;
mod task_run;
mod tensorboard;
mod trainer;
mod weights;

pub use card::{Card, Input, Question, Resized};
pub use checkpoint::{Best, State};
pub use device::{DeviceChoice, gpus};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use evaluation::{Answer, ClassAccuracy, Confusion, Evaluation};
pub use export::export;
pub use folder::RunFolder;
pub use import::{import, read_class_names};
pub use init::TakenOver;
pub use metrics::{Metrics, Summary};
pub use network::{Network, Tested};
pub use npy::{Array, read_npy};
pub use optimizer::Sgd;
pub use precision::Precision;
pub use progress::Progress;
pub use recipe::{Difference, Recipe};
pub use run::{AnyRun, Prediction, Run};
pub use schedule::Schedule;
pub use tally::Tally;
pub use task_run::{TaskPrediction, TaskRun, part_of};
pub use trainer::{TrainOptions, open_data, train};
pub use weights::WeightsFile;
