// A feature map (pixels, channels), weighted by the maps `begin` to `begin + chosen` of (pixels, count).
#include "cuda/kernel.h"

template <int N>
DEVICE void attend_by(const T* g, const T* maps, T* y, i64 pixels, i64 channels, i64 count, i64 begin,
                    i64 chosen, A offset) {
    i64 packs = channels / N;
    for (i64 i = first(); i < chosen * pixels * packs; i += stride()) {
        i64 row, pack, part, pixel;
        split(i, packs, row, pack);
        split(row, pixels, part, pixel);
        A weight = offset + wide(maps[pixel * count + begin + part]);
        Pack<N> in = load<N>(g + pixel * channels + pack * N);
        store<N>(y + i * N, each_lane<N>([=](A g) { return g * weight; }, in));
    }
}

KERNEL(attend)(const T* g, const T* maps, T* y, i64 pixels, i64 channels, i64 count, i64 begin, i64 chosen,
               double offset, i64 packs) {
    if (packs) attend_by<LANES>(g, maps, y, pixels, channels, count, begin, chosen, A(offset));
    else attend_by<1>(g, maps, y, pixels, channels, count, begin, chosen, A(offset));
}

// d_maps[pixel, t] = Σ dy · g over the channels; 0 for maps that were not chosen. 32 threads a sum.
BLOCK_KERNEL(attend_map_gradient)(const T* dy, const T* g, T* d_maps, i64 pixels, i64 channels, i64 count,
                                  i64 begin, i64 chosen) {
    i64 row = i64(blockIdx.x) * blockDim.y + threadIdx.y, pixel, t;
    split(row, count, pixel, t);
    A sum = 0;
    if (pixel < pixels && t >= begin && t < begin + chosen) {
        const T* gradient = dy + ((t - begin) * pixels + pixel) * channels;
        for (i64 c = threadIdx.x; c < channels; c += 32)
            sum = mul_add(wide(gradient[c]), wide(g[pixel * channels + c]), sum);
    }
    sum = row_sum(sum);
    if (pixel < pixels && threadIdx.x == 0) d_maps[row] = narrow(sum);
}

template <int N>
DEVICE void attend_back(const T* dy, const T* maps, T* d_g, i64 pixels, i64 channels, i64 count, i64 begin,
                     i64 chosen, A offset) {
    i64 packs = channels / N;
    for (i64 i = first(); i < pixels * packs; i += stride()) {
        i64 pixel, pack;
        split(i, packs, pixel, pack);
        A sums[N] = {};
        for (i64 part = 0; part < chosen; part++) {
            A weight = offset + wide(maps[pixel * count + begin + part]);
            Pack<N> gradient = load<N>(dy + part * pixels * channels + i * N);
            for (int l = 0; l < N; l++) sums[l] = mul_add(wide(gradient.v[l]), weight, sums[l]);
        }
        Pack<N> out;
        for (int l = 0; l < N; l++) out.v[l] = narrow(sums[l]);
        store<N>(d_g + i * N, out);
    }
}

// d_g may be dy if one map was chosen.
KERNEL(attend_gradient)(const T* dy, const T* maps, T* d_g, i64 pixels, i64 channels, i64 count, i64 begin,
                        i64 chosen, double offset, i64 packs) {
    if (packs) attend_back<LANES>(dy, maps, d_g, pixels, channels, count, begin, chosen, A(offset));
    else attend_back<1>(dy, maps, d_g, pixels, channels, count, begin, chosen, A(offset));
}
