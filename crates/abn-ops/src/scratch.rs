//! Working memory that outlives a call, so that its pages are not asked of the system every time.

use std::cell::RefCell;

use crate::host::Element;

thread_local! {
    static FREE: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers a thread keeps, and the size in bytes up to which it keeps one.
const KEPT: usize = 4;
const LARGEST: usize = 64 << 20;

/// A buffer of numbers with no particular contents, given back to its thread when dropped.
pub(crate) struct Scratch<T> {
    memory: Vec<u64>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Scratch<T> {
    pub fn new(len: usize) -> Self {
        let words = (len * size_of::<T>()).div_ceil(size_of::<u64>());
        let mut memory = FREE.with_borrow_mut(|free| {
            // The smallest that is large enough, or else the largest.
            let fits = (0..free.len()).filter(|&i| free[i].len() >= words);
            let best = fits.min_by_key(|&i| free[i].len());
            let best = best.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
            best.map(|i| free.swap_remove(i)).unwrap_or_default()
        });
        if memory.len() < words {
            memory = vec![0; words];
        }
        Self { memory, len, element: std::marker::PhantomData }
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if size_of_val(memory.as_slice()) > LARGEST {
            return;
        }
        // The thread may be ending: then the memory goes with it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(memory);
            }
        });
    }
}

impl<T: Element> std::ops::Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the memory has room for `len` initialised elements, is aligned for eight bytes,
        // and `T` is f32 or f64, for which any bits are a value.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> std::ops::DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}
