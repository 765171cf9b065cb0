#include "cuda/kernel.h"

// (n, rows, columns) to (n, columns, rows), by tiles of 32 × 32, with 32 × 8 threads each.
BLOCK_KERNEL(transpose)(const T* x, T* y, i64 rows, i64 columns) {
    SHARED T tile[32][33]; // A column's elements lie in banks of their own.
    i64 across = (columns + 31) / 32;
    i64 row = blockIdx.x / across * 32, column = blockIdx.x % across * 32;
    x += blockIdx.y * rows * columns;
    y += blockIdx.y * rows * columns;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (row + i < rows && column + threadIdx.x < columns)
            tile[i][threadIdx.x] = x[(row + i) * columns + column + threadIdx.x];
    meet();
    for (int i = threadIdx.y; i < 32; i += 8)
        if (column + i < columns && row + threadIdx.x < rows)
            y[(column + i) * rows + row + threadIdx.x] = tile[threadIdx.x][i];
}
