// candle's kernels, as far as something here asks for one: elementwise, with the arguments of candle-kernels 0.11.
// One thread does the work of all.
#include "kernels.h"
#include "numbers.h"

#include <cstdlib>
#include <functional>

using std::size_t;

namespace {

struct Bf16 {
    uint16_t bits;
    Bf16() = default;
    Bf16(float value) : bits(standin::to_bf16(value)) {}
    operator float() const { return standin::of_bf16(bits); }
};

bool is_first() { return !(blockIdx.x | blockIdx.y | blockIdx.z | threadIdx.x | threadIdx.y | threadIdx.z); }

// Where element i of a tensor lies: its sizes, and the distances along them. Without them it is contiguous.
size_t place(size_t i, size_t rank, const size_t* sizes, const size_t* strides) {
    if (!sizes) return i;
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= sizes[d]) at += i % sizes[d] * strides[d];
    return at;
}

template <class X>
void const_set(size_t count, size_t rank, const size_t* info, X value, X* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++) out[place(i, rank, info, info + rank)] = value;
}

template <class X>
void affine(size_t count, size_t rank, const size_t* info, const X* in, X* out, X mul, X add) {
    if (is_first())
        for (size_t i = 0; i < count; i++) out[i] = (in ? in[place(i, rank, info, info + rank)] : out[i]) * mul + add;
}

template <class X, class Y>
void cast(size_t count, size_t rank, const size_t* info, const X* in, Y* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++) out[i] = in[place(i, rank, info, info + rank)];
}

template <class X, class F>
void unary(size_t count, size_t rank, const size_t* info, const X* in, X* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++) out[i] = F()(in ? in[place(i, rank, info, info + rank)] : out[i]);
}

template <class X, class F>
void binary(size_t count, size_t rank, const size_t* info, const X* a, const X* b, X* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++)
            out[i] = F()(a[place(i, rank, info, info + rank)], b[place(i, rank, info, info + 2 * rank)]);
}

template <class X>
void copy2d(const X* from, X* to, uint32_t rows, uint32_t columns, uint32_t from_row, uint32_t to_row) {
    if (is_first())
        for (uint32_t i = 0; i < rows; i++)
            for (uint32_t j = 0; j < columns; j++) to[i * to_row + j] = from[i * from_row + j];
}

// What it is told of sizes is those of the numbers, which are contiguous.
template <class X>
void index_select(size_t count, size_t, const size_t*, const uint32_t* ids, const X* in, X* out, size_t,
                  size_t of_dimension, size_t selected, size_t right) {
    if (is_first())
        for (size_t i = 0; i < count; i++) {
            uint32_t id = ids[i / right % selected];
            if (id >= of_dimension) std::abort();
            out[i] = in[(i / (selected * right) * of_dimension + id) * right + i % right];
        }
}

template <class X>
void where(size_t count, size_t rank, const size_t* info, const uint8_t* which, const X* yes, const X* no, X* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++)
            out[i] = which[place(i, rank, info, info + rank)] ? yes[place(i, rank, info, info + 2 * rank)]
                                                              : no[place(i, rank, info, info + 3 * rank)];
}

// A block for each of the results.
template <class X, class F>
void reduce(size_t count, size_t each, size_t rank, const size_t* info, const X* in, X* out) {
    if (threadIdx.x) return;
    size_t first = blockIdx.x * each;
    auto at = [&](size_t i) -> X { return in[place(i, rank, info, info + rank)]; };
    double sum = at(first);
    for (size_t i = first + 1; i < first + each && i < count; i++) sum = F()(sum, double(at(i)));
    out[blockIdx.x] = X(sum);
}

// Of few numbers each.
template <class X>
void sum_small(size_t results, size_t each, size_t rank, const size_t* info, const X* in, X* out) {
    if (!is_first()) return;
    for (size_t result = 0; result < results; result++) {
        double sum = 0;
        for (size_t i = result * each; i < (result + 1) * each; i++) sum += double(in[place(i, rank, info, info + rank)]);
        out[result] = X(sum);
    }
}

struct Copy {
    template <class X> X operator()(X x) { return x; }
};
struct Square {
    template <class X> X operator()(X x) { return x * x; }
};
struct Negate {
    template <class X> X operator()(X x) { return -x; }
};
struct Relu {
    template <class X> X operator()(X x) { return x > X(0) ? x : X(0); }
};
struct Absolute {
    template <class X> X operator()(X x) { return x < X(0) ? X(-x) : x; }
};
struct Root {
    template <class X> X operator()(X x) { return X(std::sqrt(x)); }
};
struct Exponential {
    template <class X> X operator()(X x) { return X(std::exp(x)); }
};
struct Add {
    template <class X> X operator()(X x, X y) { return x + y; }
};
struct Subtract {
    template <class X> X operator()(X x, X y) { return x - y; }
};
struct Multiply {
    template <class X> X operator()(X x, X y) { return x * y; }
};
struct Largest {
    template <class X> X operator()(X x, X y) { return x > y ? x : y; }
};
struct Smallest {
    template <class X> X operator()(X x, X y) { return x < y ? x : y; }
};
struct Divide {
    template <class X> X operator()(X x, X y) { return x / y; }
};

// As `abn::call`, of arguments of any size.
template <class... P, size_t... I>
void call_with(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}
template <class... P>
void call_by_type(void (*kernel)(P...), void** arguments) {
    call_with(kernel, arguments, std::index_sequence_for<P...>());
}
template <auto kernel>
void call(void** arguments) {
    call_by_type(kernel, arguments);
}
template <auto kernel>
constexpr standin::Kernel known(const char* name) {
    return {{name, call<kernel>, false}, standin::parameters(kernel)};
}

template <class X, class F>
void compare(size_t count, size_t rank, const size_t* info, const X* a, const X* b, uint8_t* out) {
    if (is_first())
        for (size_t i = 0; i < count; i++)
            out[i] = F()(a[place(i, rank, info, info + rank)], b[place(i, rank, info, info + 2 * rank)]);
}

#define OF_TYPE(X, name) \
    known<const_set<X>>("const_set_" name), known<copy2d<X>>("copy2d_" name), known<affine<X>>("affine_" name), known<unary<X, Copy>>("ucopy_" name), \
        known<unary<X, Square>>("usqr_" name), known<unary<X, Negate>>("uneg_" name), \
        known<unary<X, Relu>>("urelu_" name), known<unary<X, Absolute>>("uabs_" name), \
        known<unary<X, Root>>("usqrt_" name), \
        known<unary<X, Exponential>>("uexp_" name), \
        known<binary<X, Add>>("badd_" name), known<binary<X, Subtract>>("bsub_" name), \
        known<binary<X, Multiply>>("bmul_" name), known<binary<X, Divide>>("bdiv_" name), \
        known<reduce<X, Add>>("fast_sum_" name), known<sum_small<X>>("fast_sum_small_" name), \
        known<reduce<X, Largest>>("fast_max_" name), \
        known<reduce<X, Smallest>>("fast_min_" name)

const standin::Kernel KNOWN[] = {
    OF_TYPE(float, "f32"),
    OF_TYPE(double, "f64"),
    OF_TYPE(Bf16, "bf16"),
    known<index_select<float>>("is_u32_f32"),
    known<where<float>>("where_u8_f32"),
    known<compare<float, std::less<float>>>("lt_f32"),
    known<compare<float, std::greater_equal<float>>>("ge_f32"),
    known<unary<uint32_t, Copy>>("ucopy_u32"),
    known<unary<uint8_t, Copy>>("ucopy_u8"),
    known<cast<float, double>>("cast_f32_f64"),
    known<cast<double, float>>("cast_f64_f32"),
    known<cast<float, Bf16>>("cast_f32_bf16"),
    known<cast<Bf16, float>>("cast_bf16_f32"),
    known<cast<uint32_t, float>>("cast_u32_f32"),
    known<cast<uint8_t, float>>("cast_u8_f32"),
};

} // namespace

const standin::Kernel* standin::find_candles(const char* name) {
    for (const Kernel& one : KNOWN)
        if (!std::strcmp(one.entry.name, name)) return &one;
    return nullptr;
}
