// What several operations share.
#include "cuda/kernel.h"

// y[row, column] += bias[column]
KERNEL(add_bias)(T* y, const A* bias, i64 n, i64 channels) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 row, channel;
        split(i, channels, row, channel);
        y[i] = narrow(wide(y[i]) + bias[channel]);
    }
}

// Sums of a matrix's columns, in chunks of rows: threadIdx.x over columns, threadIdx.y over rows.
BLOCK_KERNEL(column_sums)(const T* x, double* partial, i64 rows, i64 columns, i64 chunk) {
    SHARED A shared[256];
    i64 column = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    i64 end = (blockIdx.y + 1) * chunk < rows ? (blockIdx.y + 1) * chunk : rows;
    A sum = 0;
    if (column < columns)
        for (i64 row = blockIdx.y * chunk + threadIdx.y; row < end; row += blockDim.y)
            sum += wide(x[row * columns + column]);
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    shared[thread] = sum;
    for (int half = blockDim.y / 2; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half) shared[thread] += shared[thread + half * width];
    }
    if (threadIdx.y == 0 && column < columns) partial[blockIdx.y * columns + column] = shared[thread];
}

// sums[column] = scale · the sum over the chunks, in their order: one thread along x for each column,
// the chunks shared by those along y.
BLOCK_KERNEL(fold_columns)(const double* partial, A* sums, i64 chunks, i64 columns, double scale) {
    SHARED double shared[256];
    i64 column = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    double sum = 0;
    if (column < columns)
        for (i64 chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y)
            sum += partial[chunk * columns + column];
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    shared[thread] = sum;
    for (int half = blockDim.y / 2; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half) shared[thread] += shared[thread + half * width];
    }
    if (threadIdx.y == 0 && column < columns) sums[column] = A(shared[thread] * scale);
}

// y (m, n) = a (m, k) · b (k, n); element (i, j) of an operand is at i · rows + j · columns.
// Stands for cuBLAS where there is none.
KERNEL(matmul)(const T* a, const T* b, T* y, i64 m, i64 n, i64 k, i64 a_rows, i64 a_columns, i64 b_rows,
               i64 b_columns) {
    for (i64 at = first(); at < m * n; at += stride()) {
        i64 i, j;
        split(at, n, i, j);
        A sum = 0;
        for (i64 l = 0; l < k; l++)
            sum = mul_add(wide(a[i * a_rows + l * a_columns]), wide(b[l * b_rows + j * b_columns]), sum);
        y[at] = narrow(sum);
    }
}

// One number, everywhere.
KERNEL(fill)(T* y, i64 n, double value) {
    for (i64 i = first(); i < n; i += stride()) y[i] = narrow(A(value));
}

// From memory's type to that of sums, and back.
KERNEL(to_wide)(const T* x, A* y, i64 n) {
    for (i64 i = first(); i < n; i += stride()) y[i] = wide(x[i]);
}

KERNEL(to_element)(const A* x, T* y, i64 n) {
    for (i64 i = first(); i < n; i += stride()) y[i] = narrow(x[i]);
}
