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

DEVICE u64 two(u32 low, u32 high) { return u64(high) << 32 | low; }

// A seed where kernels read it, in halves that a double holds.
KERNEL(put_seed)(T* to, u64 seed) {
    if (first() != 0) return;
    to[0] = narrow(A(u32(seed)));
    to[1] = narrow(A(u32(seed >> 32)));
}

// The key of a part's masks, keys[8 · part]...: of the seed that follows from a step's, for one thing of its path
// after the other, as `derive_seed` has it; and from that seed as `SeedableRng::seed_from_u64` has it (PCG32).
KERNEL(mask_key)(const double* step, u32* keys, i64 part, i64 count, u64 a, u64 b, u64 c, u64 d) {
    if (first() != 0) return;
    const u64 path[4] = {a, b, c, d};
    u64 seed = two(u32(step[0]), u32(step[1]));
    for (int i = 0; i < count; i++) {
        const u64 key[4] = {seed, path[i], 0, 0};
        u32 words[16];
        chacha8(key, 0, 0, words);
        seed = two(words[0], words[1]);
    }
    for (int i = 0; i < 8; i++) {
        seed = seed * 6364136223846793005ull + 11634580027462260723ull;
        u32 mixed = u32((seed >> 18 ^ seed) >> 27);
        int by = int(seed >> 59);
        keys[8 * part + i] = mixed >> by | mixed << (-by & 31);
    }
}

// Elements start to start + n; each `chunk` of them has a stream of its own. A thread draws and
// drops sixteen. The key is part's of `keys`, if that is not null. y may be x.
KERNEL(dropout)(const T* x, T* y, i64 start, i64 n, const u32* keys, i64 part, u64 key0, u64 key1, u64 key2, u64 key3, u64 threshold,
                i64 all, double scale, i64 chunk) {
    u64 key[4] = {key0, key1, key2, key3};
    if (keys)
        for (int i = 0; i < 4; i++) key[i] = two(keys[8 * part + 2 * i], keys[8 * part + 2 * i + 1]);
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
