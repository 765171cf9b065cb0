//! Running a task's kernel in the best instruction set.

use crate::host::Element;
use crate::simd::{Isa, Vector, isa};

/// Work in numbered pieces, written over vectors of any kind.
pub(crate) trait Kernel<T: Element>: Sync {
    /// Does piece `index` in tiles of at most `MR` rows. Implementations are `#[inline(always)]`,
    /// so that the whole piece compiles for one instruction set.
    ///
    /// # Safety
    /// The processor has `V`'s instructions, and pieces that run at the same time differ.
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, index: usize);
}

/// Shape of a register tile: rows whose elements are broadcast, times up to two vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileShape {
    pub rows: usize,
    pub lanes: usize,
}

// With two vectors to a row, rows · 2 sums, the two vectors and one broadcast fill the registers:
// 16 with AVX2; of AVX-512's 32, 8 rows already hide the latency and keep their pointers in
// general registers.
const ROWS_PORTABLE: usize = 4;
const ROWS_AVX2: usize = 6;
const ROWS_AVX512: usize = 8;

/// The tile that [`run`] uses.
pub(crate) fn tile_shape<T: Element>() -> TileShape {
    match isa() {
        Isa::Avx512 => TileShape { rows: ROWS_AVX512, lanes: T::Avx512::LANES },
        Isa::Avx2 => TileShape { rows: ROWS_AVX2, lanes: T::Avx2::LANES },
        Isa::Portable => TileShape { rows: ROWS_PORTABLE, lanes: T::Portable::LANES },
    }
}

/// Does piece `index` of the kernel.
///
/// # Safety
/// Pieces that run at the same time differ.
pub(crate) unsafe fn run<T: Element, K: Kernel<T>>(kernel: &K, index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        /// # Safety
        /// As [`Kernel::run`].
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<T: Element, K: Kernel<T>>(kernel: &K, index: usize) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<T::Avx2, ROWS_AVX2>(index) }
        }
        /// # Safety
        /// As [`Kernel::run`].
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        unsafe fn avx512<T: Element, K: Kernel<T>>(kernel: &K, index: usize) {
            // SAFETY: the caller's promise.
            unsafe { kernel.run::<T::Avx512, ROWS_AVX512>(index) }
        }
        match isa() {
            // SAFETY: `isa` found these instructions; the pieces differ by the caller's promise.
            Isa::Avx512 => return unsafe { avx512(kernel, index) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(kernel, index) },
            Isa::Portable => {}
        }
    }
    // SAFETY: needs no instructions; the pieces differ by the caller's promise.
    unsafe { kernel.run::<T::Portable, ROWS_PORTABLE>(index) }
}

/// Where tasks write; each task to elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct Out<T>(*mut T);

// SAFETY: only a pointer; those who write through it see to it that tasks do not overlap.
unsafe impl<T: Send> Send for Out<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T> Out<T> {
    pub fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr())
    }

    /// # Safety
    /// `at` is inside the slice, and what is written there no other task touches.
    #[inline(always)]
    pub unsafe fn at(self, at: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at) }
    }
}

/// The first `count` elements at `from` in `NV` vectors, zeros after them.
///
/// # Safety
/// `count <= NV · LANES` elements are readable, and the processor has `V`'s instructions.
#[inline(always)]
pub(crate) unsafe fn get<V: Vector, const NV: usize>(
    from: *const V::Elem,
    count: usize,
) -> [V; NV] {
    // SAFETY: the caller's promise; the buffer holds the largest tile's row.
    unsafe {
        let mut row = [V::splat(V::Elem::of(0.0)); NV];
        if count == NV * V::LANES {
            for v in 0..NV {
                row[v] = V::load(from.add(v * V::LANES));
            }
        } else {
            let mut buffer = [V::Elem::of(0.0); MAX_COLUMNS];
            std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), count);
            for v in 0..NV {
                row[v] = V::load(buffer.as_ptr().add(v * V::LANES));
            }
        }
        row
    }
}

/// Writes the first `count` elements of the vectors.
///
/// # Safety
/// `count <= NV · LANES` elements are writable, and the processor has `V`'s instructions.
#[inline(always)]
pub(crate) unsafe fn put<V: Vector, const NV: usize>(row: [V; NV], to: *mut V::Elem, count: usize) {
    // SAFETY: the caller's promise; the buffer holds the largest tile's row.
    unsafe {
        if count == NV * V::LANES {
            for v in 0..NV {
                row[v].store(to.add(v * V::LANES));
            }
        } else {
            let mut buffer = [V::Elem::of(0.0); MAX_COLUMNS];
            for v in 0..NV {
                row[v].store(buffer.as_mut_ptr().add(v * V::LANES));
            }
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, count);
        }
    }
}

/// Columns of the widest tile: two AVX-512 vectors of f32.
const MAX_COLUMNS: usize = 32;

/// Calls `$f::<V, rows, NV>(…)` with the run-time number of rows, `1..=$max`, and vectors, 1 or 2.
macro_rules! with_tile {
    ($rows:expr, $max:expr, $vectors:expr, $f:ident::<$v:ty>($($arg:expr),* $(,)?)) => {
        with_tile!(@each [1 2 3 4 5 6 7 8] $rows, $max, $vectors, $f, $v, ($($arg),*))
    };
    (@each [$($n:literal)*] $rows:expr, $max:expr, $vectors:expr, $f:ident, $v:ty, $args:tt) => {
        match ($rows, $vectors) {
            $(
                ($n, 1) if $n <= $max => with_tile!(@call $f, $v, $n, 1, $args),
                ($n, _) if $n <= $max => with_tile!(@call $f, $v, $n, 2, $args),
            )*
            (rows, _) => unreachable!("a tile of {rows} rows"),
        }
    };
    (@call $f:ident, $v:ty, $n:literal, $nv:literal, ($($arg:expr),*)) => {
        $f::<$v, $n, $nv>($($arg),*)
    };
}
pub(crate) use with_tile;
