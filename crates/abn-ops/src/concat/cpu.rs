//! CPU kernels: rows copied in and out.

use rayon::prelude::*;

use crate::host::{Element, unwritten};
use crate::parallel::CHUNK;

/// Rows of a task.
fn rows(channels: usize) -> usize {
    (CHUNK / channels).max(1)
}

/// Row by row, the parts' rows one after the other; `count` elements in all.
pub fn join<T: Element>(parts: &[&[T]], widths: &[usize], count: usize) -> Vec<T> {
    // SAFETY: the widths of the parts add up to the row, so every element is written.
    let mut y = unsafe { unwritten::<T>(count) };
    let total: usize = widths.iter().sum();
    if count > 0 {
        let rows = rows(total);
        y.par_chunks_mut(rows * total).enumerate().for_each(|(task, y)| {
            let mut start = 0;
            for (part, &width) in parts.iter().zip(widths) {
                if width > 0 {
                    let part = part[task * rows * width..].chunks_exact(width);
                    for (y, part) in y.chunks_exact_mut(total).zip(part) {
                        y[start..start + width].copy_from_slice(part);
                    }
                }
                start += width;
            }
        });
    }
    y
}

/// Columns `start..start + width` of rows of `total`.
pub fn part<T: Element>(y: &[T], start: usize, width: usize, total: usize) -> Vec<T> {
    if width == 0 {
        return Vec::new();
    }
    // SAFETY: each row is written whole.
    let mut part = unsafe { unwritten::<T>(y.len() / total * width) };
    let rows = rows(total);
    part.par_chunks_mut(rows * width).zip(y.par_chunks(rows * total)).for_each(|(part, y)| {
        for (part, y) in part.chunks_exact_mut(width).zip(y.chunks_exact(total)) {
            part.copy_from_slice(&y[start..start + width]);
        }
    });
    part
}
