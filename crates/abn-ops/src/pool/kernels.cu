// Windows over a feature map (n, h, w, channels), `count` of them along each axis.
#include "cuda/kernel.h"

// As `Axis` of windows.rs: fixed windows, or (kernel 0) those that cover the axis as evenly as can be.
struct Axis {
    i64 len, count, kernel, stride, padding;

    DEVICE_MEMBER i64 first_input(i64 window) const {
        if (!kernel) return window * len / count;
        i64 start = window * stride - padding;
        return start > 0 ? start : 0;
    }
    DEVICE_MEMBER i64 end_input(i64 window) const {
        if (!kernel) return ((window + 1) * len + count - 1) / count;
        i64 end = window * stride - padding + kernel;
        return end < len ? end : len;
    }
    DEVICE_MEMBER i64 first_window(i64 input) const {
        if (!kernel) return input * count / len;
        i64 reach = input + padding + 1 - kernel;
        i64 window = reach > 0 ? (reach + stride - 1) / stride : 0, end = end_window(input);
        return window < end ? window : end;
    }
    DEVICE_MEMBER i64 end_window(i64 input) const {
        if (!kernel) return ((input + 1) * count + len - 1) / len;
        i64 end = (input + padding) / stride + 1;
        return end < count ? end : count;
    }
    // What the sum is divided by to give the mean along this axis.
    DEVICE_MEMBER i64 divisor(i64 window) const {
        return kernel ? kernel : end_input(window) - first_input(window);
    }
};

struct Windows {
    Axis rows, columns;
    i64 channels;

    // Sample, row, column and channel of an element of a map of that height and width.
    DEVICE_MEMBER void place(i64 i, i64 height, i64 width, i64 (&at)[4]) const {
        i64 rest;
        split(i, channels, rest, at[3]);
        split(rest, width, rest, at[2]);
        split(rest, height, at[0], at[1]);
    }
    DEVICE_MEMBER i64 input(i64 sample, i64 row, i64 column, i64 channel) const {
        return ((sample * rows.len + row) * columns.len + column) * channels + channel;
    }
    DEVICE_MEMBER i64 output(i64 sample, i64 row, i64 column, i64 channel) const {
        return ((sample * rows.count + row) * columns.count + column) * channels + channel;
    }
};

// `winners`, if there, gets the pixel of each maximum: the first one. NaN is larger than any number.
KERNEL(max_pool)(const T* x, T* y, u32* winners, i64 n, Windows windows) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 at[4];
        windows.place(i, windows.rows.count, windows.columns.count, at);
        i64 row = windows.rows.first_input(at[1]), column = windows.columns.first_input(at[2]);
        i64 end_row = windows.rows.end_input(at[1]), end_column = windows.columns.end_input(at[2]);
        A max = wide(x[windows.input(at[0], row, column, at[3])]);
        i64 winner = row * windows.columns.len + column;
        for (i64 r = row; r < end_row; r++)
            for (i64 c = column; c < end_column; c++) {
                A v = wide(x[windows.input(at[0], r, c, at[3])]);
                if (v > max || v != v) max = v, winner = r * windows.columns.len + c;
            }
        y[i] = narrow(max);
        if (winners) winners[i] = u32(winner);
    }
}

// Each input gathers from the windows over it that it won.
KERNEL(max_pool_gradient)(const T* dy, const u32* winners, T* dx, i64 n, Windows windows) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 at[4];
        windows.place(i, windows.rows.len, windows.columns.len, at);
        u32 pixel = u32(at[1] * windows.columns.len + at[2]);
        A sum = 0;
        for (i64 r = windows.rows.first_window(at[1]); r < windows.rows.end_window(at[1]); r++)
            for (i64 c = windows.columns.first_window(at[2]); c < windows.columns.end_window(at[2]); c++) {
                i64 window = windows.output(at[0], r, c, at[3]);
                if (winners[window] == pixel) sum += wide(dy[window]);
            }
        dx[i] = narrow(sum);
    }
}

KERNEL(mean_pool)(const T* x, T* y, i64 n, Windows windows) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 at[4];
        windows.place(i, windows.rows.count, windows.columns.count, at);
        A sum = 0;
        for (i64 r = windows.rows.first_input(at[1]); r < windows.rows.end_input(at[1]); r++)
            for (i64 c = windows.columns.first_input(at[2]); c < windows.columns.end_input(at[2]); c++)
                sum += wide(x[windows.input(at[0], r, c, at[3])]);
        y[i] = narrow(sum / A(windows.rows.divisor(at[1]) * windows.columns.divisor(at[2])));
    }
}

KERNEL(mean_pool_gradient)(const T* dy, T* dx, i64 n, Windows windows) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 at[4];
        windows.place(i, windows.rows.len, windows.columns.len, at);
        A sum = 0;
        for (i64 r = windows.rows.first_window(at[1]); r < windows.rows.end_window(at[1]); r++)
            for (i64 c = windows.columns.first_window(at[2]); c < windows.columns.end_window(at[2]); c++) {
                A share = A(1) / A(windows.rows.divisor(r) * windows.columns.divisor(c));
                sum += wide(dy[windows.output(at[0], r, c, at[3])]) * share;
            }
        dx[i] = narrow(sum);
    }
}
