#include "cuda/kernel.h"

// A row's largest logit, and the log of the sum of exponentials beyond it; 32 threads a row.
DEVICE void log_sum_exp(const T* x, i64 k, A& max, A& log_sum) {
    max = -A(INFINITY);
    for (i64 i = threadIdx.x; i < k; i += 32)
        if (wide(x[i]) > max) max = wide(x[i]);
    max = row_max(max);
    A sum = 0;
    for (i64 i = threadIdx.x; i < k; i += 32) sum += exp(wide(x[i]) - max);
    log_sum = log(row_sum(sum));
}

// The loss of each sample. A label that is none makes it NaN: nobody waits here for the host to look.
// Sample i's label is at i · step + column.
BLOCK_KERNEL(cross_entropy)(const T* x, const u32* labels, double* losses, i64 n, i64 k, double smoothing,
                            i64 step, i64 column) {
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y;
    const T* row = x + (sample < n ? sample : 0) * k;
    A max, log_sum;
    log_sum_exp(row, k, max, log_sum);
    double below = 0;
    if (smoothing != 0)
        for (i64 i = threadIdx.x; i < k; i += 32) below += wide(row[i]) - max;
    below = row_sum(below);
    if (sample >= n || threadIdx.x != 0) return;
    i64 label = labels[sample * step + column];
    double loss = label < k ? double(log_sum - (wide(row[label]) - max)) : double(NAN);
    if (smoothing != 0) loss = (1 - smoothing) * loss + smoothing * (double(log_sum) - below / k);
    losses[sample] = loss;
}

// Times `factor`.
BLOCK_KERNEL(cross_entropy_gradient)(const T* x, const u32* labels, const A* grad, T* dx, i64 n, i64 k,
                                     double smoothing, i64 step, i64 column, double factor) {
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y;
    i64 at = (sample < n ? sample : 0) * k;
    A max, log_sum;
    log_sum_exp(x + at, k, max, log_sum);
    if (sample >= n) return;
    A scale = A(double(grad[0]) * factor / n);
    A off = A(smoothing / k), on = A(1 - smoothing + smoothing / k);
    i64 label = labels[sample * step + column];
    for (i64 i = threadIdx.x; i < k; i += 32) {
        A probability = exp(wide(x[at + i]) - max - log_sum);
        A gradient = scale * (probability - (i == label ? on : off));
        dx[at + i] = narrow(label < k ? gradient : A(NAN));
    }
}

BLOCK_KERNEL(softmax)(const T* x, T* y, i64 n, i64 k) {
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y;
    i64 at = (sample < n ? sample : 0) * k;
    A max, log_sum;
    log_sum_exp(x + at, k, max, log_sum);
    if (sample >= n) return;
    for (i64 i = threadIdx.x; i < k; i += 32) y[at + i] = narrow(exp(wide(x[at + i]) - max - log_sum));
}

DEVICE A logistic_loss(A v, A target) {
    return (v > 0 ? v : v != v ? v : A(0)) - v * target + log1p(exp(-fabs(v)));
}

DEVICE A logistic_slope(A v, A target) {
    A e = exp(-fabs(v));
    return (v >= 0 ? A(1) : e) / (1 + e) - target;
}

// Each element's loss.
KERNEL(bce)(const T* x, const A* targets, double* losses, i64 n) {
    for (i64 i = first(); i < n; i += stride()) losses[i] = logistic_loss(wide(x[i]), targets[i]);
}

KERNEL(bce_gradient)(const T* x, const A* targets, const A* grad, T* dx, i64 n) {
    A scale = A(double(grad[0]) / n);
    for (i64 i = first(); i < n; i += stride())
        dx[i] = narrow(scale * logistic_slope(wide(x[i]), targets[i]));
}

// The loss of each sample's one logit, whose label, at i · step + column, is 0 or 1.
KERNEL(logit_loss)(const T* x, const u32* labels, double* losses, i64 n, i64 step, i64 column) {
    for (i64 i = first(); i < n; i += stride()) {
        u32 label = labels[i * step + column];
        losses[i] = label < 2 ? logistic_loss(wide(x[i]), A(label)) : A(NAN);
    }
}

// Times `factor`.
KERNEL(logit_loss_gradient)(const T* x, const u32* labels, const A* grad, T* dx, i64 n, i64 step, i64 column,
                            double factor) {
    A scale = A(double(grad[0]) * factor / n);
    for (i64 i = first(); i < n; i += stride()) {
        u32 label = labels[i * step + column];
        dx[i] = narrow(label < 2 ? scale * logistic_slope(wide(x[i]), A(label)) : A(NAN));
    }
}
