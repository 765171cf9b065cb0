//! Splitting a pass over memory into tasks of fixed size, whatever the number of threads.

use rayon::prelude::*;

/// Elements a task handles: 64 KiB of f32, so that what a task reads twice comes from the cache.
pub(crate) const CHUNK: usize = 1 << 14;

/// `f(y, x)` on corresponding chunks.
pub(crate) fn chunks2<T: Send, U: Sync>(y: &mut [T], x: &[U], f: impl Fn(&mut [T], &[U]) + Sync) {
    debug_assert_eq!(y.len(), x.len());
    if y.len() <= CHUNK {
        return f(y, x);
    }
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f(y, x));
}

/// `f(y, a, b)` on corresponding chunks.
pub(crate) fn chunks3<T: Send, U: Sync>(
    y: &mut [T],
    a: &[U],
    b: &[U],
    f: impl Fn(&mut [T], &[U], &[U]) + Sync,
) {
    debug_assert!(y.len() == a.len() && y.len() == b.len());
    if y.len() <= CHUNK {
        return f(y, a, b);
    }
    (y.par_chunks_mut(CHUNK), a.par_chunks(CHUNK), b.par_chunks(CHUNK))
        .into_par_iter()
        .for_each(|(y, a, b)| f(y, a, b));
}
