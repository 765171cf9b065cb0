// Numbers as a GPU's libraries see them.
#pragma once

#include <cstdint>
#include <cstring>

namespace standin {

inline float of_bf16(uint16_t bits) {
    uint32_t wide = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

inline uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// With ten bits after the point, as tensor cores read an f32 in TF32.
inline float to_tf32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits >> 23 & 0xff) != 0xff) bits = (bits + 0x1000) & ~uint32_t(0x1fff);
    std::memcpy(&value, &bits, 4);
    return value;
}

} // namespace standin
