#include "cuda/kernel.h"

// y (windows, 3, height, width): see `cut_windows`. `windows` has four numbers each: the image, the row and
// the column (signed) at which its first pixel lies, and whether the window is mirrored.
KERNEL(cut_windows)(const unsigned char* images, const u32* windows, const T* levels, T* y, i64 n, i64 height,
                    i64 width, i64 count, i64 rows, i64 columns, i64 channels) {
    for (i64 i = first(); i < n; i += stride()) {
        i64 line, x, plane, row, window, channel;
        split(i, width, line, x);
        split(line, height, plane, row);
        split(plane, 3, window, channel);
        const u32* at = windows + window * 4;
        i64 column = (at[3] ? width - 1 - x : x) - int(at[2]);
        row -= int(at[1]);
        int byte = 0;
        bool exists = at[0] < count;
        if (exists && row >= 0 && row < rows && column >= 0 && column < columns)
            byte = images[((at[0] * rows + row) * columns + column) * channels + (channels == 1 ? 0 : channel)];
        y[i] = exists ? levels[channel * 256 + byte] : narrow(A(NAN));
    }
}
