#include "cuda/kernel.h"

// y[row] = Σ ln(1 + x) over the channels. 32 threads a row.
BLOCK_KERNEL(log1p_sum)(const T* x, T* y, i64 rows, i64 channels) {
    i64 row = i64(blockIdx.x) * blockDim.y + threadIdx.y;
    A sum = 0;
    if (row < rows)
        for (i64 c = threadIdx.x; c < channels; c += 32) sum += log1p(wide(x[row * channels + c]));
    sum = row_sum(sum);
    if (row < rows && threadIdx.x == 0) y[row] = narrow(sum);
}

KERNEL(log1p_sum_gradient)(const T* grad, const T* x, T* dx, i64 n, i64 channels) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 row, channel;
        split(i, channels, row, channel);
        dx[i] = narrow(wide(grad[row]) / (1 + wide(x[i])));
    }
}
