#include "cuda/kernel.h"

KERNEL(add)(const T* a, const T* b, T* y, i64 n, i64 packed) {
    map([](A a, A b) { return a + b; }, packed, n, y, a, b);
}

KERNEL(relu)(const T* x, T* y, i64 n, i64 packed) {
    map([](A x) { return positive(x); }, packed, n, y, x);
}

// Guided: negative gradients become 0 too.
KERNEL(relu_backward)(T* grad, const T* y, i64 n, i64 guided, i64 packed) {
    auto f = [=](A grad, A y) { return y <= 0 ? A(0) : guided ? positive(grad) : grad; };
    map(f, packed, n, grad, grad, y);
}

// From exp of a number that is not positive: nothing overflows.
DEVICE A logistic(A x) {
    A e = exp(x >= 0 ? -x : x);
    return (x >= 0 ? A(1) : e) / (1 + e);
}

KERNEL(sigmoid)(const T* x, T* y, i64 n, i64 packed) {
    map([](A x) { return logistic(x); }, packed, n, y, x);
}

KERNEL(sigmoid_backward)(T* grad, const T* y, i64 n, i64 packed) {
    map([](A grad, A y) { return grad * (y * (1 - y)); }, packed, n, grad, grad, y);
}
