// The kernels that the stand-in for the driver knows.
#pragma once

#include "cuda/host.h"

#include <cstddef>
#include <type_traits>

namespace standin {

// What the driver must know of a kernel's argument.
struct Parameter {
    std::size_t bytes; // 0: after the last
    enum Kind { VALUE, READ, WRITTEN } kind;
};

struct Kernel {
    abn::Entry entry;
    const Parameter* parameters;
};

template <class P>
constexpr Parameter parameter() {
    if (!std::is_pointer<P>::value) return {sizeof(P), Parameter::VALUE};
    using To = std::remove_pointer_t<P>;
    return {sizeof(P), std::is_const<To>::value ? Parameter::READ : Parameter::WRITTEN};
}

template <class... P>
struct Parameters {
    static constexpr Parameter list[] = {parameter<P>()..., {0, Parameter::VALUE}};
};

template <class... P>
constexpr const Parameter* parameters(void (*)(P...)) {
    return Parameters<P...>::list;
}

// The kernel of that name among those of a number type (f32, bf16 or f64), and among candle's; null: none.
const Kernel* find_f32(const char* name);
const Kernel* find_bf16(const char* name);
const Kernel* find_f64(const char* name);
const Kernel* find_candles(const char* name);

} // namespace standin
