#include "cuda/kernel.h"

// Copies `width` columns: from column `from` of rows of `from_width`, to column `to` of rows of `to_width`.
template <int N>
DEVICE void columns(const T* x, T* y, i64 rows, i64 width, i64 from_width, i64 from, i64 to_width, i64 to) {
    for (i64 i = first(); i < rows * (width / N); i += stride()) {
        i64 row, column;
        split(i, width / N, row, column);
        column *= N;
        store<N>(y + row * to_width + to + column, load<N>(x + row * from_width + from + column));
    }
}

// With `packs`, all of these and the pointers are multiples of LANES elements.
KERNEL(copy_columns)(const T* x, T* y, i64 rows, i64 width, i64 from_width, i64 from, i64 to_width, i64 to,
                     i64 packs) {
    if (packs) columns<LANES>(x, y, rows, width, from_width, from, to_width, to);
    else columns<1>(x, y, rows, width, from_width, from, to_width, to);
}
