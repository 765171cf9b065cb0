#include "cuda/kernel.h"

DEVICE u32 rotate(u32 v, int by) { return v << by | v >> (32 - by); }

DEVICE void quarter(u32& a, u32& b, u32& c, u32& d) {
    a += b, d = rotate(d ^ a, 16);
    c += d, b = rotate(b ^ c, 12);
    a += b, d = rotate(d ^ a, 8);
    c += d, b = rotate(b ^ c, 7);
}

// Block `counter` of ChaCha8's stream: the words that `rand_chacha::ChaCha8Rng` gives.
DEVICE void chacha8(const u64 (&key)[4], u64 stream, u64 counter, u32 (&out)[16]) {
    const u32 start[16] = {
        0x61707865,     0x3320646e,          0x79622d32,     0x6b206574,
        u32(key[0]),    u32(key[0] >> 32),   u32(key[1]),    u32(key[1] >> 32),
        u32(key[2]),    u32(key[2] >> 32),   u32(key[3]),    u32(key[3] >> 32),
        u32(counter),   u32(counter >> 32),  u32(stream),    u32(stream >> 32),
    };
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] = start[i];
#pragma unroll
    for (int round = 0; round < 4; round++) {
        quarter(out[0], out[4], out[8], out[12]);
        quarter(out[1], out[5], out[9], out[13]);
        quarter(out[2], out[6], out[10], out[14]);
        quarter(out[3], out[7], out[11], out[15]);
        quarter(out[0], out[5], out[10], out[15]);
        quarter(out[1], out[6], out[11], out[12]);
        quarter(out[2], out[7], out[8], out[13]);
        quarter(out[3], out[4], out[9], out[14]);
    }
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] += start[i];
}

// Elements start to start + n; each `chunk` of them has a stream of its own. A thread draws and
// drops sixteen. y may be x.
KERNEL(dropout)(const T* x, T* y, i64 start, i64 n, u64 key0, u64 key1, u64 key2, u64 key3, u64 threshold,
                i64 all, double scale, i64 chunk) {
    const u64 key[4] = {key0, key1, key2, key3};
    i64 draw = first(), at = draw * 16;
    if (at >= n) return;
    u32 words[16];
    chacha8(key, at / chunk, at % chunk / 16, words);
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (at + i < n) {
            bool dropped = all || words[i] < threshold;
            y[start + at + i] = narrow(dropped ? A(0) : wide(x[start + at + i]) * A(scale));
        }
}
