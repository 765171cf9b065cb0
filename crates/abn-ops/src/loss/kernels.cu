#include "cuda/kernel.h"
#include "loss/tasks.h"

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

// The loss of a row; 32 threads a row. A label that is none makes it NaN: nobody waits here for the host to look.
DEVICE double softmax_loss(const T* row, i64 k, i64 label, double smoothing) {
    A max, log_sum;
    log_sum_exp(row, k, max, log_sum);
    double below = 0;
    if (smoothing != 0)
        for (i64 i = threadIdx.x; i < k; i += 32) below += wide(row[i]) - max;
    below = row_sum(below);
    double loss = label < k ? double(log_sum - (wide(row[label]) - max)) : double(NAN);
    return smoothing != 0 ? (1 - smoothing) * loss + smoothing * (double(log_sum) - below / k) : loss;
}

// Writes a row's gradient, if `there`, times `scale`.
DEVICE void softmax_gradient(const T* row, T* gradient, i64 k, i64 label, double smoothing, A scale, bool there) {
    A max, log_sum;
    log_sum_exp(row, k, max, log_sum);
    if (!there) return;
    A off = A(smoothing / k), on = A(1 - smoothing + smoothing / k);
    for (i64 i = threadIdx.x; i < k; i += 32) {
        A probability = exp(wide(row[i]) - max - log_sum);
        A slope = scale * (probability - (i == label ? on : off));
        gradient[i] = narrow(label < k ? slope : A(NAN));
    }
}

// Each sample's loss.
BLOCK_KERNEL(cross_entropy)(const T* x, const u32* labels, double* losses, i64 n, i64 k, double smoothing) {
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y, at = sample < n ? sample : 0;
    double loss = softmax_loss(x + at * k, k, labels[at], smoothing);
    if (sample < n && threadIdx.x == 0) losses[sample] = loss;
}

BLOCK_KERNEL(cross_entropy_gradient)(const T* x, const u32* labels, const A* grad, T* dx, i64 n, i64 k,
                                     double smoothing) {
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y, at = sample < n ? sample : 0;
    softmax_gradient(x + at * k, dx + at * k, k, labels[at], smoothing, A(double(grad[0]) / n), sample < n);
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

// The losses (tasks, n) of several tasks, of labels (n, all): of one score the logistic function's, whose label is 0 or 1.
BLOCK_KERNEL(task_losses)(const WHOLE Tasks tasks, const u32* labels, double* losses, i64 n, i64 all) {
    const Task& task = tasks.at[blockIdx.y];
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y, at = sample < n ? sample : 0;
    u32 label = labels[at * all + task.column];
    double loss;
    if (task.k == 1) loss = label < 2 ? logistic_loss(wide(task.scores[at]), A(label)) : A(NAN);
    else loss = softmax_loss(task.scores + at * task.k, task.k, label, 0);
    if (sample < n && threadIdx.x == 0) losses[blockIdx.y * n + sample] = loss;
}

// Times `factor`.
BLOCK_KERNEL(task_gradients)(const WHOLE Tasks tasks, const u32* labels, const A* grad, i64 n, i64 all, double factor) {
    const Task& task = tasks.at[blockIdx.y];
    i64 sample = i64(blockIdx.x) * blockDim.y + threadIdx.y, at = sample < n ? sample : 0;
    u32 label = labels[at * all + task.column];
    A scale = A(double(grad[0]) * factor / n);
    if (task.k > 1)
        softmax_gradient(task.scores + at * task.k, task.gradient + at * task.k, task.k, label, 0, scale, sample < n);
    else if (sample < n && threadIdx.x == 0)
        task.gradient[at] = narrow(label < 2 ? scale * logistic_slope(wide(task.scores[at]), A(label)) : A(NAN));
}
