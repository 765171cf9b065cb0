// What kernels are written with. A file of kernels is compiled once for each number type:
//
//   T   the type of feature maps and their gradients: float, bf16 or double
//   A   the type of sums, parameters, statistics and losses: float, or double with T = double
//
// by nvcc for the GPU, and by the C++ compiler for the CPU (`host.h`), where the tests run them.
// Kernels therefore use nothing that only a GPU has: no warp shuffles, no atomics, no inline PTX.
// Arguments are pointers, `i64`, `u64` and `double`: eight bytes each.
#pragma once

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

#ifdef __CUDACC__
#include <cuda_bf16.h>
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
// A kernel whose threads have nothing to do with each other.
#define KERNEL(name) extern "C" __global__ void name
// A kernel whose threads meet at `meet`, every one of them every time, and share memory.
#define BLOCK_KERNEL(name) extern "C" __global__ void name
#define SHARED __shared__
// An argument that is a table: read where it is, not copied into every thread.
#define WHOLE __grid_constant__
DEVICE void meet() { __syncthreads(); }
#else
#include "cuda/host.h"
#endif

// bfloat16 as memory holds it.
struct bf16 {
    unsigned short bits;
};

#if defined(ELEMENT_f64)
typedef double T;
typedef double A;
#elif defined(ELEMENT_bf16)
typedef bf16 T;
typedef float A;
#else
typedef float T;
typedef float A;
#endif

DEVICE float wide(float v) { return v; }
DEVICE double wide(double v) { return v; }

#ifdef __CUDACC__
DEVICE float wide(bf16 v) { return __uint_as_float(u32(v.bits) << 16); }
DEVICE bf16 to_bf16(float v) { return {__bfloat16_as_ushort(__float2bfloat16_rn(v))}; }
#else
DEVICE float wide(bf16 v) {
    u32 bits = u32(v.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}
DEVICE bf16 to_bf16(float v) {
    u32 bits;
    std::memcpy(&bits, &v, 4);
    if (v != v) return {(unsigned short)0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
#endif

// From the type of sums to that of memory: rounds to nearest.
#if defined(ELEMENT_bf16)
DEVICE T narrow(float v) { return to_bf16(v); }
#else
DEVICE T narrow(A v) { return v; }
#endif

// a · b + c, rounded once: the same bits wherever it stands.
DEVICE float mul_add(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double mul_add(double a, double b, double c) { return fma(a, b, c); }

// max(v, 0); NaN stays NaN.
DEVICE A positive(A v) { return v <= 0 ? A(0) : v; }

// This thread's first element, and the distance to its next, in a kernel over elements.
DEVICE i64 first() { return i64(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE i64 stride() { return i64(gridDim.x) * blockDim.x; }

// As many elements as one load brings at best.
constexpr int LANES = 16 / sizeof(T);

template <int N>
struct alignas(N * sizeof(T)) Pack {
    T v[N];
};

template <int N>
DEVICE Pack<N> load(const T* from) {
    return *reinterpret_cast<const Pack<N>*>(from);
}

template <int N>
DEVICE void store(T* to, const Pack<N>& pack) {
    *reinterpret_cast<Pack<N>*>(to) = pack;
}

template <int N, class F, class... P>
DEVICE Pack<N> each_lane(F f, const P&... p) {
    Pack<N> out;
#pragma unroll
    for (int l = 0; l < N; l++) out.v[l] = narrow(f(wide(p.v[l])...));
    return out;
}

// y[i] = f(x[i]...) for all i below n. `packed`: every pointer is aligned for LANES elements.
template <class F, class... X>
DEVICE void map(F f, i64 packed, i64 n, T* y, const X*... x) {
    i64 whole = packed ? n / LANES * LANES : 0;
    for (i64 i = first() * LANES; i < whole; i += stride() * LANES)
        store<LANES>(y + i, each_lane<LANES>(f, load<LANES>(x + i)...));
    for (i64 i = whole + first(); i < n; i += stride()) y[i] = narrow(f(wide(x[i])...));
}

// Row and column of element i of rows of `width`; by 32 bits where they do.
DEVICE void split(i64 i, i64 width, i64& row, i64& column) {
    if (((i | width) >> 32) == 0) {
        row = u32(i) / u32(width);
        column = u32(i) % u32(width);
    } else {
        row = i / width;
        column = i % width;
    }
}

// In a block of 32 threads along x for each row: the sum (or the largest) of a row's values, in a fixed
// order, given to all of its threads. Every thread of the block comes here.
template <class V>
DEVICE V row_sum(V value) {
    SHARED V shared[256];
    V* row = shared + threadIdx.y * 32;
    meet(); // The last row's sum is read.
    row[threadIdx.x] = value;
    for (unsigned half = 16; half; half /= 2) {
        meet();
        if (threadIdx.x < half) row[threadIdx.x] += row[threadIdx.x + half];
    }
    meet();
    return row[0];
}

template <class V>
DEVICE V row_max(V value) {
    SHARED V shared[256];
    V* row = shared + threadIdx.y * 32;
    meet();
    row[threadIdx.x] = value;
    for (unsigned half = 16; half; half /= 2) {
        meet();
        if (threadIdx.x < half && row[threadIdx.x + half] > row[threadIdx.x])
            row[threadIdx.x] = row[threadIdx.x + half];
    }
    meet();
    return row[0];
}
