#include "cuda/kernel.h"

// y's rows of `row` elements: x's rows of `len` from element `start` on, and zeros around them.
KERNEL(pad_columns)(const T* x, T* y, i64 n, i64 row, i64 start, i64 len) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 at, column;
        split(i, row, at, column);
        column -= start;
        y[i] = column >= 0 && column < len ? x[at * len + column] : narrow(A(0));
    }
}
