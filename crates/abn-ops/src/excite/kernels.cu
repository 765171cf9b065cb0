// Samples of `area` elements, pixels of `channels`; a weight for each channel of each sample.
#include "cuda/kernel.h"

DEVICE i64 weight_of(i64 i, i64 area, i64 channels) {
    i64 sample, rest, pixel, channel;
    split(i, area, sample, rest);
    split(rest, channels, pixel, channel);
    return sample * channels + channel;
}

KERNEL(excite)(const T* x, const T* scale, const T* residual, T* y, i64 n, i64 area, i64 channels) {
    for (i64 i = first(); i < n; i += stride()) {
        A weight = wide(scale[weight_of(i, area, channels)]);
        y[i] = narrow(positive(wide(x[i]) * weight + wide(residual[i])));
    }
}

KERNEL(excite_input_gradient)(const T* grad, const T* scale, T* dx, i64 n, i64 area, i64 channels) {
    for (i64 i = first(); i < n; i += stride())
        dx[i] = narrow(wide(grad[i]) * wide(scale[weight_of(i, area, channels)]));
}

// Σ grad · x over a sample's pixels: 32 channels and 8 pixels at a time.
BLOCK_KERNEL(excite_scale_gradient)(const T* grad, const T* x, T* d_scale, i64 pixels, i64 channels) {
    SHARED A shared[256];
    i64 channel = i64(blockIdx.x) * 32 + threadIdx.x;
    const i64 sample = blockIdx.y * pixels * channels;
    A sum = 0;
    if (channel < channels)
        for (i64 pixel = threadIdx.y; pixel < pixels; pixel += 8) {
            i64 at = sample + pixel * channels + channel;
            sum = mul_add(wide(grad[at]), wide(x[at]), sum);
        }
    int thread = threadIdx.y * 32 + threadIdx.x;
    shared[thread] = sum;
    for (int half = 4; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half) shared[thread] += shared[thread + half * 32];
    }
    if (threadIdx.y == 0 && channel < channels)
        d_scale[blockIdx.y * channels + channel] = narrow(shared[thread]);
}
