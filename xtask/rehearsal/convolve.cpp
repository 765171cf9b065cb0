#include "convolve.h"

#include "numbers.h"

#include <cstddef>
#include <vector>

using namespace standin;

namespace {

std::vector<float> numbers(const void* from, size_t count, bool bf16, bool tf32) {
    std::vector<float> to(count);
    for (size_t i = 0; i < count; i++) {
        if (bf16) to[i] = of_bf16(static_cast<const uint16_t*>(from)[i]);
        else to[i] = static_cast<const float*>(from)[i];
        if (!bf16 && tf32) to[i] = to_tf32(to[i]);
    }
    return to;
}

void write(void* to, const std::vector<double>& from, bool bf16) {
    for (size_t i = 0; i < from.size(); i++) {
        if (bf16) static_cast<uint16_t*>(to)[i] = to_bf16(float(from[i]));
        else static_cast<float*>(to)[i] = float(from[i]);
    }
}

// Calls `f` with the offsets of the channels of one group in x, w and y for every pixel that a tap meets: of w, the
// group's first filter at that tap.
template <class F>
void each_tap(const Shape& s, F f) {
    const int channels = s.c / s.groups, filters = s.k / s.groups;
    for (int n = 0; n < s.n; n++)
        for (int p = 0; p < s.p; p++)
            for (int q = 0; q < s.q; q++)
                for (int i = 0; i < s.r; i++)
                    for (int j = 0; j < s.s; j++) {
                        int row = p * s.stride_h + i * s.dilation_h - s.pad_h;
                        int column = q * s.stride_w + j * s.dilation_w - s.pad_w;
                        if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
                        for (int g = 0; g < s.groups; g++) {
                            size_t x = ((size_t(n) * s.h + row) * s.w + column) * s.c + g * channels;
                            size_t w = (size_t(g * filters) * s.r * s.s + i * s.s + j) * channels;
                            size_t y = ((size_t(n) * s.p + p) * s.q + q) * s.k + g * filters;
                            f(x, w, y);
                        }
                    }
}

} // namespace

void standin::convolve(Pass pass, const Shape& s, bool bf16, bool tf32, const void* a, const void* b, void* to) {
    const int channels = s.c / s.groups, filters = s.k / s.groups;
    const size_t next_filter = size_t(s.r) * s.s * channels;
    const size_t x_count = size_t(s.n) * s.h * s.w * s.c, w_count = s.k * next_filter;
    const size_t y_count = size_t(s.n) * s.p * s.q * s.k;
    std::vector<double> sums;
    if (pass == Pass::FORWARD) {
        auto x = numbers(a, x_count, bf16, tf32), w = numbers(b, w_count, bf16, tf32);
        sums.assign(y_count, 0);
        each_tap(s, [&](size_t xi, size_t wi, size_t yi) {
            for (int k = 0; k < filters; k++) {
                const float *xs = &x[xi], *ws = &w[wi + k * next_filter];
                double lanes[8] = {};
                int c = 0;
                for (; c + 8 <= channels; c += 8)
                    for (int l = 0; l < 8; l++) lanes[l] += double(xs[c + l]) * ws[c + l];
                for (; c < channels; c++) lanes[0] += double(xs[c]) * ws[c];
                double sum = 0;
                for (double lane : lanes) sum += lane;
                sums[yi + k] += sum;
            }
        });
    } else if (pass == Pass::DATA) {
        auto dy = numbers(a, y_count, bf16, tf32), w = numbers(b, w_count, bf16, tf32);
        sums.assign(x_count, 0);
        each_tap(s, [&](size_t xi, size_t wi, size_t yi) {
            for (int k = 0; k < filters; k++) {
                const double gradient = dy[yi + k];
                const float* ws = &w[wi + k * next_filter];
                double* to = &sums[xi];
                for (int c = 0; c < channels; c++) to[c] += gradient * ws[c];
            }
        });
    } else {
        auto x = numbers(a, x_count, bf16, tf32), dy = numbers(b, y_count, bf16, tf32);
        sums.assign(w_count, 0);
        each_tap(s, [&](size_t xi, size_t wi, size_t yi) {
            for (int k = 0; k < filters; k++) {
                const double gradient = dy[yi + k];
                const float* xs = &x[xi];
                double* to = &sums[wi + k * next_filter];
                for (int c = 0; c < channels; c++) to[c] += gradient * xs[c];
            }
        });
    }
    write(to, sums, bf16);
}
