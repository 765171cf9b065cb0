// The kernels that a rehearsal knows.
#pragma once

#include "cuda/host.h"

#include <cstddef>

namespace abn {

enum Type { F32, BF16, F64, CANDLE };

// A kernel, and the bytes of its arguments, ended by 0.
struct Known {
    Entry entry;
    const std::size_t* sizes;
};

template <class... P>
struct Sizes {
    static constexpr std::size_t list[] = {sizeof(P)..., 0};
};

template <class... P>
constexpr const std::size_t* sizes_by_type(void (*)(P...)) {
    return Sizes<P...>::list;
}

// The one of that name; null: none.
const Known* find(Type type, const char* name);

} // namespace abn
