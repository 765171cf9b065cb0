// Batch normalisation of `rows` rows of `channels` channels, in parts that have statistics of their own.
//
// A block is threadIdx.x over packs of channels and threadIdx.y over rows. It handles blockDim.x packs
// from blockIdx.x on, `chunk` rows from blockIdx.y on, of the part blockIdx.z. What a thread knows of
// its channels stays in registers from row to row.
//
// `stats` holds mean, 1 / sqrt(var + eps) and gain = weight times that, of each channel of each part.
#include "cuda/kernel.h"

// What a thread of such a block works on.
struct Rows {
    i64 channel;        // its first one
    i64 first, end;     // its rows within the part: every blockDim.y-th
    i64 base;           // where the part begins, in elements
};

template <int N>
DEVICE Rows rows_of(i64 rows, i64 channels, i64 chunk) {
    Rows at;
    at.channel = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    at.first = blockIdx.y * chunk + threadIdx.y;
    at.end = blockIdx.y * chunk + chunk;
    if (at.end > rows) at.end = rows;
    if (at.channel >= channels) at.end = at.first; // none
    at.base = blockIdx.z * rows * channels;
    return at;
}

// Adds up two sums of each channel over the threads that share its pack, in a fixed order, and
// writes them to `partial`: for each part, for each chunk, the first sums of all channels, then the
// second ones.
template <int N>
DEVICE void write_sums(A (&a)[N], A (&b)[N], double* partial, i64 channels, i64 channel) {
    SHARED A shared[2 * N * 256];
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    for (int l = 0; l < N; l++) {
        shared[(2 * l) * 256 + thread] = a[l];
        shared[(2 * l + 1) * 256 + thread] = b[l];
    }
    for (int half = blockDim.y / 2; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half)
            for (int l = 0; l < 2 * N; l++)
                shared[l * 256 + thread] += shared[l * 256 + thread + half * width];
    }
    if (threadIdx.y == 0 && channel < channels) {
        double* to = partial + (i64(blockIdx.z) * gridDim.y + blockIdx.y) * 2 * channels + channel;
        for (int l = 0; l < N; l++) {
            to[l] = shared[(2 * l) * 256 + thread];
            to[channels + l] = shared[(2 * l + 1) * 256 + thread];
        }
    }
}

// Sums of x − x0 and its square, x0 being the part's first value of the channel: without it,
// a mean far from zero would cost digits.
template <int N>
DEVICE void moments(const T* x, double* partial, i64 rows, i64 channels, i64 chunk) {
    Rows at = rows_of<N>(rows, channels, chunk);
    A sum[N] = {}, square[N] = {}, shift[N] = {};
    x += at.base + at.channel;
    if (at.first < at.end) {
        Pack<N> first = load<N>(x);
        for (int l = 0; l < N; l++) shift[l] = wide(first.v[l]);
    }
#pragma unroll 4
    for (i64 row = at.first; row < at.end; row += blockDim.y) {
        Pack<N> v = load<N>(x + row * channels);
        for (int l = 0; l < N; l++) {
            A d = wide(v.v[l]) - shift[l];
            sum[l] += d;
            square[l] = mul_add(d, d, square[l]);
        }
    }
    write_sums<N>(sum, square, partial, channels, at.channel);
}

BLOCK_KERNEL(batch_moments)(const T* x, double* partial, i64 rows, i64 channels, i64 chunk, i64 packs) {
    if (packs) moments<LANES>(x, partial, rows, channels, chunk);
    else moments<1>(x, partial, rows, channels, chunk);
}

// Adds up a part's chunks of one channel, in a fixed order: blockDim.y threads share it. All threads
// get the sums.
DEVICE void fold(const double* partial, i64 chunks, i64 channels, i64 channel, double& a, double& b) {
    SHARED double shared[2][256];
    int width = blockDim.x, thread = threadIdx.y * width + threadIdx.x;
    a = b = 0;
    if (channel < channels) {
#pragma unroll 4
        for (i64 chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) {
            a += partial[chunk * 2 * channels + channel];
            b += partial[chunk * 2 * channels + channels + channel];
        }
    }
    meet(); // The last call's sums are read.
    shared[0][thread] = a;
    shared[1][thread] = b;
    for (int half = blockDim.y / 2; half; half /= 2) {
        meet();
        if (int(threadIdx.y) < half) {
            shared[0][thread] += shared[0][thread + half * width];
            shared[1][thread] += shared[1][thread + half * width];
        }
    }
    meet();
    a = shared[0][threadIdx.x];
    b = shared[1][threadIdx.x];
}

DEVICE void write_stats(A* stats, i64 channels, i64 channel, double mean, double var, double eps,
                        const A* weight) {
    double inverse = 1 / sqrt(var + eps);
    stats[channel] = A(mean);
    stats[channels + channel] = A(inverse);
    stats[2 * channels + channel] = A(inverse * weight[channel]);
}

// Statistics of each part from its sums, and the running ones, which move towards each in turn.
BLOCK_KERNEL(batch_statistics)(const T* x, const double* partial, A* stats, const A* weight,
                               A* running_mean, A* running_var, i64 parts, i64 chunks, i64 rows,
                               i64 channels, double momentum, double eps) {
    i64 channel = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    for (i64 part = 0; part < parts; part++) {
        double sum, square;
        fold(partial + part * chunks * 2 * channels, chunks, channels, channel, sum, square);
        if (threadIdx.y == 0 && channel < channels) {
            double mean = sum / rows;
            double var = (square - sum * mean) / rows;
            if (var < 0) var = 0;
            mean += wide(x[part * rows * channels + channel]);
            write_stats(stats + part * 3 * channels, channels, channel, mean, var, eps, weight);
            double unbiased = var * (double(rows) / (rows - 1));
            running_mean[channel] = A((1 - momentum) * running_mean[channel] + momentum * mean);
            running_var[channel] = A((1 - momentum) * running_var[channel] + momentum * unbiased);
        }
    }
}

// Of a batch that processes share: count, sums and sums of squares of each part of this process's share,
// to be added up over all. All 0 if its values do not count.
BLOCK_KERNEL(batch_totals)(const T* x, const double* partial, double* totals, i64 parts, i64 chunks, i64 rows,
                           i64 channels, i64 counts) {
    i64 channel = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    for (i64 part = 0; part < parts; part++) {
        double sum, square;
        fold(partial + part * chunks * 2 * channels, chunks, channels, channel, sum, square);
        if (threadIdx.y == 0 && channel < channels) {
            double mean = sum / rows;
            double spread = square - sum * mean;
            if (spread < 0) spread = 0;
            mean += wide(x[part * rows * channels + channel]);
            double* to = totals + part * (1 + 2 * channels);
            if (channel == 0) to[0] = counts ? rows : 0;
            to[1 + channel] = counts ? rows * mean : 0;
            to[1 + channels + channel] = counts ? spread + rows * mean * mean : 0;
        }
    }
}

// Statistics of each part from the totals of all processes, and the running ones.
KERNEL(shared_statistics)(const double* totals, A* stats, const A* weight, A* running_mean, A* running_var,
                          i64 parts, i64 channels, double momentum, double eps) {
    i64 channel = first();
    if (channel >= channels) return;
    for (i64 part = 0; part < parts; part++) {
        const double* from = totals + part * (1 + 2 * channels);
        double count = from[0], mean = from[1 + channel] / count;
        double var = from[1 + channels + channel] / count - mean * mean;
        if (var < 0) var = 0;
        write_stats(stats + part * 3 * channels, channels, channel, mean, var, eps, weight);
        double unbiased = var * (count / (count - 1));
        running_mean[channel] = A((1 - momentum) * running_mean[channel] + momentum * mean);
        running_var[channel] = A((1 - momentum) * running_var[channel] + momentum * unbiased);
    }
}

KERNEL(running_statistics)(A* stats, const A* weight, const A* running_mean, const A* running_var,
                           i64 channels, double eps) {
    i64 channel = first();
    if (channel < channels)
        write_stats(stats, channels, channel, running_mean[channel], running_var[channel], eps, weight);
}

// What is read of the statistics for each channel of a pack.
template <int N>
struct Affine {
    A mean[N], gain[N], bias[N];

    DEVICE_MEMBER void get(const A* stats, const A* from, i64 channels, i64 channel) {
        for (int l = 0; l < N; l++) {
            mean[l] = stats[channel + l];
            gain[l] = stats[2 * channels + channel + l];
            bias[l] = from[channel + l];
        }
    }

    // Forward and backward ask for the sign of the very same bits.
    DEVICE_MEMBER A at(int l, A x) const { return mul_add(x - mean[l], gain[l], bias[l]); }
};

template <int N>
DEVICE void normalise(const T* x, const T* residual, T* y, const A* stats, const A* bias, i64 rows,
                      i64 channels, i64 chunk, i64 relu) {
    Rows at = rows_of<N>(rows, channels, chunk);
    if (at.first >= at.end) return;
    Affine<N> affine;
    affine.get(stats + blockIdx.z * 3 * channels, bias, channels, at.channel);
    i64 base = at.base + at.channel;
#pragma unroll 2
    for (i64 row = at.first; row < at.end; row += blockDim.y) {
        i64 place = base + row * channels;
        Pack<N> in = load<N>(x + place), rest = {}, out;
        if (residual) rest = load<N>(residual + place);
        for (int l = 0; l < N; l++) {
            A v = affine.at(l, wide(in.v[l]));
            if (residual) v += wide(rest.v[l]);
            out.v[l] = narrow(relu ? positive(v) : v);
        }
        store<N>(y + place, out);
    }
}

KERNEL(batch_normalise)(const T* x, const T* residual, T* y, const A* stats, const A* bias, i64 rows,
                        i64 channels, i64 chunk, i64 relu, i64 packs) {
    if (packs) normalise<LANES>(x, residual, y, stats, bias, rows, channels, chunk, relu);
    else normalise<1>(x, residual, y, stats, bias, rows, channels, chunk, relu);
}

// The gradient that reaches the normalised value. Guided: negative ones do not.
template <int N>
DEVICE A masked(const Affine<N>& affine, int l, A grad, A x, i64 relu, i64 guided) {
    if (guided) grad = positive(grad);
    return relu && affine.at(l, x) <= 0 ? A(0) : grad;
}

// Sums of grad and of grad · (x − mean). Where the ReLU's mask is that of the output y (there was a
// residual), the masked gradient is written in the gradient's place; else it is computed again.
template <int N>
DEVICE void gradient_sums(T* grad, const T* x, const T* y, const A* stats, const A* bias, double* partial,
                          i64 rows, i64 channels, i64 chunk, i64 relu, i64 guided) {
    Rows at = rows_of<N>(rows, channels, chunk);
    Affine<N> affine;
    A sum[N] = {}, product[N] = {};
    if (at.first < at.end) affine.get(stats + blockIdx.z * 3 * channels, bias, channels, at.channel);
    i64 base = at.base + at.channel;
#pragma unroll 2
    for (i64 row = at.first; row < at.end; row += blockDim.y) {
        i64 place = base + row * channels;
        Pack<N> g = load<N>(grad + place), in = load<N>(x + place);
        if (y) {
            Pack<N> out = load<N>(y + place);
            for (int l = 0; l < N; l++) {
                A v = wide(g.v[l]);
                if (guided) v = positive(v);
                g.v[l] = narrow(wide(out.v[l]) <= 0 ? A(0) : v);
            }
            store<N>(grad + place, g);
        }
        for (int l = 0; l < N; l++) {
            A v = wide(g.v[l]), at_x = wide(in.v[l]);
            if (!y) v = masked(affine, l, v, at_x, relu, guided);
            sum[l] += v;
            product[l] = mul_add(v, at_x - affine.mean[l], product[l]);
        }
    }
    write_sums<N>(sum, product, partial, channels, at.channel);
}

BLOCK_KERNEL(batch_gradient_sums)(T* grad, const T* x, const T* y, const A* stats, const A* bias,
                                  double* partial, i64 rows, i64 channels, i64 chunk, i64 relu,
                                  i64 guided, i64 packs) {
    if (packs)
        gradient_sums<LANES>(grad, x, y, stats, bias, partial, rows, channels, chunk, relu, guided);
    else gradient_sums<1>(grad, x, y, stats, bias, partial, rows, channels, chunk, relu, guided);
}

// Gradients of weight and bias over all parts, and what the input's gradient needs of each part:
// the mean gradient and the tilt, of each channel. Both are 0 if the statistics do not depend on x.
BLOCK_KERNEL(batch_gradient_fold)(const double* partial, const A* stats, A* slopes, A* d_weight, A* d_bias,
                                  i64 parts, i64 chunks, i64 rows, i64 channels, i64 train) {
    i64 channel = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    double weight = 0, bias = 0;
    for (i64 part = 0; part < parts; part++) {
        double sum, product;
        fold(partial + part * chunks * 2 * channels, chunks, channels, channel, sum, product);
        if (threadIdx.y == 0 && channel < channels) {
            double inverse = stats[part * 3 * channels + channels + channel];
            A* slope = slopes + part * 2 * channels + channel;
            slope[0] = train ? A(sum / rows) : A(0);
            slope[channels] = train ? A(product * inverse * inverse / rows) : A(0);
            weight += product * inverse;
            bias += sum;
        }
    }
    if (threadIdx.y == 0 && channel < channels) {
        d_weight[channel] = A(weight);
        d_bias[channel] = A(bias);
    }
}

// Of a batch that processes share: the gradients of weight and bias from this process's share, and the
// sums that x's gradient needs of everybody's, 0 if its values do not count.
BLOCK_KERNEL(batch_gradient_totals)(const double* partial, const A* stats, double* totals, A* d_weight,
                                    A* d_bias, i64 parts, i64 chunks, i64 channels, i64 counts) {
    i64 channel = i64(blockIdx.x) * blockDim.x + threadIdx.x;
    double weight = 0, bias = 0;
    for (i64 part = 0; part < parts; part++) {
        double sum, product;
        fold(partial + part * chunks * 2 * channels, chunks, channels, channel, sum, product);
        if (threadIdx.y == 0 && channel < channels) {
            double* to = totals + part * 2 * channels + channel;
            to[0] = counts ? sum : 0;
            to[channels] = counts ? product : 0;
            weight += product * stats[part * 3 * channels + channels + channel];
            bias += sum;
        }
    }
    if (threadIdx.y == 0 && channel < channels) {
        d_weight[channel] = A(weight);
        d_bias[channel] = A(bias);
    }
}

// What x's gradient needs of each part, from the totals of all processes; mean and variance do not depend
// on values that do not count.
KERNEL(shared_slopes)(const double* totals, const double* moments, const A* stats, A* slopes, i64 parts,
                      i64 channels, i64 counts) {
    i64 channel = first();
    if (channel >= channels) return;
    for (i64 part = 0; part < parts; part++) {
        const double* from = totals + part * 2 * channels + channel;
        double count = moments[part * (1 + 2 * channels)];
        double inverse = stats[part * 3 * channels + channels + channel];
        A* slope = slopes + part * 2 * channels + channel;
        slope[0] = counts ? A(from[0] / count) : A(0);
        slope[channels] = counts ? A(from[channels] * inverse * inverse / count) : A(0);
    }
}

template <int N>
DEVICE void input_gradient(const T* grad, const T* x, T* dx, const A* stats, const A* slopes, const A* bias,
                           i64 rows, i64 channels, i64 chunk, i64 relu, i64 guided) {
    Rows at = rows_of<N>(rows, channels, chunk);
    if (at.first >= at.end) return;
    Affine<N> affine;
    affine.get(stats + blockIdx.z * 3 * channels, bias, channels, at.channel);
    A mean[N] = {}, tilt[N] = {};
    if (slopes) {
        const A* slope = slopes + blockIdx.z * 2 * channels + at.channel;
        for (int l = 0; l < N; l++) {
            mean[l] = slope[l];
            tilt[l] = slope[channels + l];
        }
    }
    i64 base = at.base + at.channel;
#pragma unroll 2
    for (i64 row = at.first; row < at.end; row += blockDim.y) {
        i64 place = base + row * channels;
        Pack<N> g = load<N>(grad + place), in = load<N>(x + place), out;
        for (int l = 0; l < N; l++) {
            A at_x = wide(in.v[l]);
            A v = masked(affine, l, wide(g.v[l]), at_x, relu, guided) - mean[l];
            out.v[l] = narrow(affine.gain[l] * mul_add(affine.mean[l] - at_x, tilt[l], v));
        }
        store<N>(dx + place, out);
    }
}

// dx may be grad; without slopes the statistics are constants.
KERNEL(batch_input_gradient)(const T* grad, const T* x, T* dx, const A* stats, const A* slopes,
                             const A* bias, i64 rows, i64 channels, i64 chunk, i64 relu, i64 guided,
                             i64 packs) {
    if (packs)
        input_gradient<LANES>(grad, x, dx, stats, slopes, bias, rows, channels, chunk, relu, guided);
    else input_gradient<1>(grad, x, dx, stats, slopes, bias, rows, channels, chunk, relu, guided);
}
