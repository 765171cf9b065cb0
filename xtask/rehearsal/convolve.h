// Convolutions of channels-last tensors by loops, summed in f64.
#pragma once

namespace standin {

// x (n, h, w, c), weights (k, r, s, c / groups), y (n, p, q, k).
struct Shape {
    int n, h, w, c, k, r, s, p, q, groups, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
};

// What is computed, and of what: y of x and w, dx of dy and w, or dw of x and dy.
enum class Pass { FORWARD, DATA, FILTER };

void convolve(Pass, const Shape&, bool bf16, bool tf32, const void* a, const void* b, void* to);

} // namespace standin
