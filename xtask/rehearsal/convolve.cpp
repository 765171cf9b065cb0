#include "convolve.h"

#include "numbers.h"

#include <algorithm>
#include <cstddef>
#include <vector>

using namespace standin;

namespace {

// Pixels of the output whose inputs are brought together at a time.
const int PIXELS = 64;

std::vector<double> numbers(const void* from, size_t count, bool bf16, bool tf32) {
    std::vector<double> to(count);
    for (size_t i = 0; i < count; i++) {
        float value = bf16 ? of_bf16(static_cast<const uint16_t*>(from)[i]) : static_cast<const float*>(from)[i];
        to[i] = !bf16 && tf32 ? to_tf32(value) : value;
    }
    return to;
}

void write(void* to, const std::vector<double>& from, bool bf16) {
    for (size_t i = 0; i < from.size(); i++) {
        if (bf16) static_cast<uint16_t*>(to)[i] = to_bf16(float(from[i]));
        else static_cast<float*>(to)[i] = float(from[i]);
    }
}

// A matrix's elements, and how far it is from row to row and from column to column.
struct Matrix {
    const double* at;
    size_t row, column;
};

typedef double Vector __attribute__((vector_size(32), aligned(8)));
const size_t LANES = 4;

// c (R, 2 vectors) += a (R, depth) · b (depth, 2 vectors).
template <size_t R>
void add_tile(size_t depth, Matrix a, const double* b, size_t next_b, double* c, size_t next_c) {
    Vector sums[R][2] = {};
    const double* left = a.at;
    for (size_t l = 0; l < depth; l++, left += a.column, b += next_b) {
        const Vector b0 = *reinterpret_cast<const Vector*>(b), b1 = *reinterpret_cast<const Vector*>(b + LANES);
        for (size_t y = 0; y < R; y++) {
            const double v = left[y * a.row];
            sums[y][0] += v * b0;
            sums[y][1] += v * b1;
        }
    }
    for (size_t y = 0; y < R; y++)
        for (size_t x = 0; x < 2; x++) *reinterpret_cast<Vector*>(c + y * next_c + x * LANES) += sums[y][x];
}

// A matrix whose columns lie side by side in panels of WIDTH.
const size_t WIDTH = 2 * LANES;
struct Panels {
    const double* at;
    size_t row, panel;
};

// c (rows, columns) += a (rows, depth) · b (depth, columns), c's columns being side by side. The products of two f32 are
// exact in f64.
void add_product(size_t rows, size_t columns, size_t depth, Matrix a, Panels b, double* c, size_t next_c) {
    for (size_t j = 0; j < columns; j += WIDTH) {
        const double* panel = b.at + j / WIDTH * b.panel;
        size_t i = 0;
        auto from = [&] { return Matrix{a.at + i * a.row, a.row, a.column}; };
        if (j + WIDTH <= columns) {
            for (; i + 4 <= rows; i += 4) add_tile<4>(depth, from(), panel, b.row, c + i * next_c + j, next_c);
            for (; i < rows; i++) add_tile<1>(depth, from(), panel, b.row, c + i * next_c + j, next_c);
            continue;
        }
        for (; i < rows; i++)
            for (size_t x = 0; x < columns - j; x++) {
                double sum = 0;
                for (size_t l = 0; l < depth; l++) sum += a.at[i * a.row + l * a.column] * panel[l * b.row + x];
                c[i * next_c + j + x] += sum;
            }
    }
}

// Calls `f` with the offset in x and in a row of the patches for every tap that some pixels of the output meet, and the
// pixel's number from the first.
template <class F>
void each_tap(const Shape& s, int group, size_t first, size_t count, F f) {
    const int channels = s.c / s.groups;
    for (size_t pixel = 0; pixel < count; pixel++) {
        const size_t at = first + pixel;
        const int n = at / (size_t(s.p) * s.q), p = at / s.q % s.p, q = at % s.q;
        for (int i = 0; i < s.r; i++)
            for (int j = 0; j < s.s; j++) {
                int row = p * s.stride_h + i * s.dilation_h - s.pad_h;
                int column = q * s.stride_w + j * s.dilation_w - s.pad_w;
                if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
                f(pixel, ((size_t(n) * s.h + row) * s.w + column) * s.c + group * channels, size_t(i * s.s + j) * channels);
            }
    }
}

} // namespace

void standin::convolve(Pass pass, const Shape& s, bool bf16, bool tf32, const void* a, const void* b, void* to) {
    const size_t channels = s.c / s.groups, filters = s.k / s.groups;
    // A filter, and what a pixel of the output sees of the input.
    const size_t patch = s.r * s.s * channels, of_group = filters * patch;
    const size_t x_count = size_t(s.n) * s.h * s.w * s.c, w_count = s.k * patch;
    const size_t pixels = size_t(s.n) * s.p * s.q, y_count = pixels * s.k;
    const bool forward = pass == Pass::FORWARD, data = pass == Pass::DATA;
    const auto left = numbers(a, data ? y_count : x_count, bf16, tf32);
    const auto right = numbers(b, pass == Pass::FILTER ? y_count : w_count, bf16, tf32);
    std::vector<double> sums(forward ? y_count : data ? x_count : w_count), patches(PIXELS * patch), turned((filters + WIDTH) * patch);
    for (int group = 0; group < s.groups; group++) {
        if (forward)
            for (size_t k = 0; k < filters; k++)
                for (size_t t = 0; t < patch; t++)
                    turned[k / WIDTH * WIDTH * patch + t * WIDTH + k % WIDTH] = right[group * of_group + k * patch + t];
        for (size_t first = 0; first < pixels; first += PIXELS) {
            const size_t count = std::min<size_t>(PIXELS, pixels - first), y = first * s.k + group * filters;
            std::fill(patches.begin(), patches.end(), 0);
            if (data) {
                add_product(count, patch, filters, {&left[y], size_t(s.k), 1}, {&right[group * of_group], patch, WIDTH}, &patches[0], patch);
                each_tap(s, group, first, count, [&](size_t pixel, size_t x, size_t tap) {
                    for (size_t c = 0; c < channels; c++) sums[x + c] += patches[pixel * patch + tap + c];
                });
                continue;
            }
            each_tap(s, group, first, count, [&](size_t pixel, size_t x, size_t tap) {
                std::copy_n(&left[x], channels, &patches[pixel * patch + tap]);
            });
            if (forward) add_product(count, filters, patch, {&patches[0], patch, 1}, {&turned[0], WIDTH, WIDTH * patch}, &sums[y], s.k);
            else add_product(filters, patch, count, {&right[y], 1, size_t(s.k)}, {&patches[0], patch, WIDTH}, &sums[group * of_group], patch);
        }
    }
    write(to, sums, bf16);
}
