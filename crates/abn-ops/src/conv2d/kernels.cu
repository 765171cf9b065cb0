// Convolution without cuDNN: for double precision, for what cuDNN refuses, and for the tests. And the
// weights' way to cuDNN: it wants (C_out, KH, KW, C_in / groups), the network has (C_out, C_in / groups, KH, KW).
#include "cuda/kernel.h"

struct Geometry {
    i64 n, h, w, ci, co, kh, kw, oh, ow, stride, padding, dilation, groups;
};

// One of the two orders' element for each of the other's.
DEVICE i64 as_oihw(i64 i, i64 inputs, i64 area) {
    i64 rest, o, tap, c;
    split(i, inputs, rest, c);
    split(rest, area, o, tap);
    return (o * inputs + c) * area + tap;
}

KERNEL(weights_to_ohwi)(const A* weight, T* y, i64 n, i64 inputs, i64 area) {
    for (i64 i = first(); i < n; i += stride()) y[i] = narrow(weight[as_oihw(i, inputs, area)]);
}

KERNEL(weights_from_ohwi)(const T* x, A* weight, i64 n, i64 inputs, i64 area) {
    for (i64 i = first(); i < n; i += stride()) weight[as_oihw(i, inputs, area)] = wide(x[i]);
}

// Weights are OHWI. A thread an output.
KERNEL(conv_forward)(const T* x, const T* weight, T* y, i64 count, Geometry g) {
    i64 inputs = g.ci / g.groups, outputs = g.co / g.groups;
    for (i64 i = first(); i < count; i += stride()) {
        i64 rest, o, row, column, image;
        split(i, g.co, rest, o);
        split(rest, g.ow, rest, column);
        split(rest, g.oh, image, row);
        A sum = 0;
        for (i64 u = 0; u < g.kh; u++) {
            i64 r = row * g.stride + u * g.dilation - g.padding;
            if (r < 0 || r >= g.h) continue;
            for (i64 v = 0; v < g.kw; v++) {
                i64 c = column * g.stride + v * g.dilation - g.padding;
                if (c < 0 || c >= g.w) continue;
                const T* pixel = x + ((image * g.h + r) * g.w + c) * g.ci + o / outputs * inputs;
                const T* tap = weight + ((o * g.kh + u) * g.kw + v) * inputs;
                for (i64 k = 0; k < inputs; k++) sum = mul_add(wide(pixel[k]), wide(tap[k]), sum);
            }
        }
        y[i] = narrow(sum);
    }
}

// A thread an input.
KERNEL(conv_input_gradient)(const T* dy, const T* weight, T* dx, i64 count, Geometry g) {
    i64 inputs = g.ci / g.groups, outputs = g.co / g.groups;
    for (i64 i = first(); i < count; i += stride()) {
        i64 rest, channel, row, column, image;
        split(i, g.ci, rest, channel);
        split(rest, g.w, rest, column);
        split(rest, g.h, image, row);
        i64 group = channel / inputs, k = channel % inputs;
        A sum = 0;
        for (i64 u = 0; u < g.kh; u++) {
            i64 r = row + g.padding - u * g.dilation;
            if (r < 0 || r % g.stride || r / g.stride >= g.oh) continue;
            for (i64 v = 0; v < g.kw; v++) {
                i64 c = column + g.padding - v * g.dilation;
                if (c < 0 || c % g.stride || c / g.stride >= g.ow) continue;
                const T* pixel = dy + ((image * g.oh + r / g.stride) * g.ow + c / g.stride) * g.co;
                for (i64 o = group * outputs; o < (group + 1) * outputs; o++)
                    sum = mul_add(wide(pixel[o]), wide(weight[((o * g.kh + u) * g.kw + v) * inputs + k]), sum);
            }
        }
        dx[i] = narrow(sum);
    }
}

// A block for 32 input channels of a tap of an output channel, its 8 rows of threads sharing the pixels.
BLOCK_KERNEL(conv_weight_gradient)(const T* x, const T* dy, T* d_weight, Geometry g) {
    SHARED A shared[256];
    i64 inputs = g.ci / g.groups, outputs = g.co / g.groups;
    i64 rest, o, u, v, k = i64(blockIdx.y) * 32 + threadIdx.x;
    split(blockIdx.x, g.kw, rest, v);
    split(rest, g.kh, o, u);
    A sum = 0;
    if (k < inputs)
        for (i64 i = threadIdx.y; i < g.n * g.oh * g.ow; i += 8) {
            i64 row, column, image;
            split(i, g.ow, row, column);
            split(row, g.oh, image, row);
            i64 r = row * g.stride + u * g.dilation - g.padding;
            i64 c = column * g.stride + v * g.dilation - g.padding;
            if (r < 0 || r >= g.h || c < 0 || c >= g.w) continue;
            A in = wide(x[((image * g.h + r) * g.w + c) * g.ci + o / outputs * inputs + k]);
            sum = mul_add(in, wide(dy[i * g.co + o]), sum);
        }
    int thread = threadIdx.y * 32 + threadIdx.x;
    shared[thread] = sum;
    for (int half = 4; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half) shared[thread] += shared[thread + half * 32];
    }
    if (threadIdx.y == 0 && k < inputs) d_weight[blockIdx.x * inputs + k] = narrow(shared[thread]);
}
