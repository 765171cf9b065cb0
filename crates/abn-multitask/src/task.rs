//! What is asked of every image.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// One question asked of every image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name, such as an attribute's.
    pub name: String,
    /// Number of possible answers (C_t), at least 2. Of two, 1 is yes and 0 no.
    pub categories: usize,
}

impl Task {
    /// A question to be answered by yes or no.
    pub fn binary(name: impl Into<String>) -> Self {
        Self::new(name, 2)
    }

    /// A question with that many answers.
    pub fn new(name: impl Into<String>, categories: usize) -> Self {
        Self { name: name.into(), categories }
    }

    /// Whether it is answered by yes or no.
    pub fn is_binary(&self) -> bool {
        self.categories == 2
    }
}

/// # Errors
/// [`Error::Tasks`] if there is no task, one has fewer than two answers, or two have one name.
pub(crate) fn check(tasks: &[Task]) -> Result<()> {
    if tasks.is_empty() {
        return Err(Error::Tasks("there is no task".into()));
    }
    for (i, Task { name, categories }) in tasks.iter().enumerate() {
        if *categories < 2 {
            return Err(Error::Tasks(format!(
                "task `{name}` has {categories} answers, not 2 or more"
            )));
        }
        if tasks[..i].iter().any(|earlier| earlier.name == *name) {
            return Err(Error::Tasks(format!("two tasks are called `{name}`")));
        }
    }
    Ok(())
}

/// Whether labels (N, T) are the tasks'. On a GPU they are not looked at, which would wait for it.
///
/// # Errors
/// On another shape or type, and [`Error::Label`] if a label is not below its task's categories.
pub(crate) fn check_labels(tasks: &[Task], labels: &Tensor) -> Result<()> {
    if labels.dims().len() != 2 || labels.dims()[1] != tasks.len() || labels.dtype() != DType::U32 {
        let (expected, got) = (format!("labels (N, {}), u32", tasks.len()), labels.dims().to_vec());
        return Err(abn_ops::Error::Shape { op: "multitask", expected, got }.into());
    }
    if !labels.device().is_cpu() {
        return Ok(());
    }
    let rows = labels.to_vec2::<u32>()?;
    for (t, task) in tasks.iter().enumerate() {
        let none = |row: &Vec<u32>| row[t] as usize >= task.categories;
        if let Some(sample) = rows.iter().position(none) {
            return Err(Error::Label {
                sample,
                task: task.name.clone(),
                label: rows[sample][t],
                categories: task.categories,
            });
        }
    }
    Ok(())
}
