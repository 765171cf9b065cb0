// cuDNN's convolutions, by loops: what is asked for is checked as cuDNN checks it, and computed from nothing but
// descriptors and pointers. Prototypes and numbers are those of cuDNN 9's headers.
//
// Of algorithms there are, for channels-last tensors, what the documentation of cuDNN's functions lists: one that
// is deterministic and one that is not, which is faster and must not be taken by who asks for determinism.
// With ABN_REHEARSE_CUDNN, a status of cuDNN's, that is the answer to who asks for algorithms; with its negative, there are
// some, each of which fails so.
#include "convolve.h"
#include "device.h"

using namespace standin;

namespace {

enum Status { SUCCESS = 0, BAD_PARAM = 2000, NULL_POINTER = 2002, MISALIGNED = 2003, TOO_SMALL = 2006,
              SHAPE_MISMATCH = 2008, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };
enum { NCHW = 0, NHWC = 1 };
enum { FLOAT = 0, BFLOAT16 = 9 };
enum Math { DEFAULT_MATH = 0, TENSOR_OP_MATH = 1, ALLOW_CONVERSION = 2, FMA_MATH = 3 };
enum { CROSS_CORRELATION = 1 };

struct Handle {
    CUstream stream = nullptr;
};

// Of a tensor (n, c, h, w) or a filter (k, c, h, w).
struct Sizes {
    bool set = false;
    int format = 0, type = 0, n = 0, c = 0, h = 0, w = 0;

    size_t bytes() const { return size_t(n) * c * h * w * (type == FLOAT ? 4 : 2); }
};
struct Tensor : Sizes {};
struct Filter : Sizes {};

struct Convolution {
    bool set = false;
    int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups = 1;
    int math = DEFAULT_MATH;
};

struct Perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
static_assert(sizeof(Perf) == 48, "as in the headers");

int refuse(int status, const char* why) {
    char text[200];
    std::snprintf(text, sizeof text, "cuDNN (%d): %s", status, why);
    standin::refuse(CUDA_ERROR_NOT_SUPPORTED, text);
    return status;
}

int set(Sizes& of, int format, int type, int n, int c, int h, int w) {
    if (format != NCHW && format != NHWC) return refuse(BAD_PARAM, "a format");
    if (type != FLOAT && type != BFLOAT16) return refuse(NOT_SUPPORTED, "a number type");
    if (n < 1 || c < 1 || h < 1 || w < 1) return refuse(BAD_PARAM, "sizes of 1 and more");
    if (double(n) * c * h * w >= 2147483648.0) return refuse(NOT_SUPPORTED, "a tensor of 2^31 elements");
    static_cast<Sizes&>(of) = {true, format, type, n, c, h, w};
    return SUCCESS;
}

// Everything that one of the three functions is given, in the forward pass's words.
struct Ask {
    const Handle* handle;
    const Tensor *x, *y;
    const Filter* w;
    const Convolution* convolution;

    int check() const {
        if (!handle || !x || !y || !w || !convolution) return refuse(NULL_POINTER, "a null pointer");
        if (!x->set || !y->set || !w->set || !convolution->set) return refuse(BAD_PARAM, "a descriptor that is not set");
        if (!is_stream(handle->stream)) return refuse(BAD_PARAM, "a handle without a stream");
        if (x->type != w->type || x->type != y->type) return refuse(BAD_PARAM, "several number types");
        if (x->format != NHWC || w->format != NHWC || y->format != NHWC)
            return refuse(NOT_SUPPORTED, "ours are channels-last");
        const Convolution& v = *convolution;
        if (x->c != w->c * v.groups || w->n % v.groups || y->c != w->n || x->n != y->n)
            return refuse(SHAPE_MISMATCH, "channels, groups or samples do not fit");
        auto out = [](int in, int pad, int kernel, int dilation, int stride) {
            return (in + 2 * pad - ((kernel - 1) * dilation + 1)) / stride + 1;
        };
        if (y->h != out(x->h, v.pad_h, w->h, v.dilation_h, v.stride_h) ||
            y->w != out(x->w, v.pad_w, w->w, v.dilation_w, v.stride_w))
            return refuse(SHAPE_MISMATCH, "the output's height or width");
        return SUCCESS;
    }

    Shape shape() const {
        const Convolution& v = *convolution;
        return {x->n, x->h, x->w, x->c, w->n, w->h, w->w, y->h, y->w, v.groups,
                v.pad_h, v.pad_w, v.stride_h, v.stride_w, v.dilation_h, v.dilation_w};
    }

    bool bf16() const { return x->type == BFLOAT16; }

    // Different for each shape, so that nobody gets by with another's.
    size_t workspace() const { return (x->bytes() + y->bytes()) / 2 + 256 * size_t(w->h); }
};

// Fastest first; what there is not, last. The first is never deterministic.
int list(const Ask& ask, int fast, int steady, int missing, int most, int* count, Perf* to, size_t room, bool measured) {
    if (int status = ask.check()) return status;
    if (most < 1 || !count || !to) return refuse(BAD_PARAM, "no room for algorithms");
    static const char* told = std::getenv("ABN_REHEARSE_CUDNN");
    static const int answer = told ? std::atoi(told) : SUCCESS;
    if (answer > SUCCESS) return refuse(answer, "as it was told to");
    // Its own word for full f32 is the default, which is TF32 for who sets it.
    int math = ask.bf16() ? TENSOR_OP_MATH : DEFAULT_MATH;
    size_t memory = ask.workspace();
    Perf all[] = {
        {fast, SUCCESS, 1, 0, 0, math, {}},
        {steady, memory <= room ? SUCCESS : NOT_SUPPORTED, 2, memory, 1, math, {}},
        {missing, NOT_SUPPORTED, -1, 0, 1, math, {}},
    };
    for (Perf& one : all) {
        if (!measured) one.time = -1;
        if (answer < SUCCESS) one.status = -answer;
    }
    *count = 0;
    for (const Perf& one : all)
        if (*count < most) to[(*count)++] = one;
    return SUCCESS;
}

int run(const Ask& ask, int algorithm, int steady, Pass pass, const void* alpha, const void* beta, const void* a,
        size_t bytes_a, const void* b, size_t bytes_b, void* to, size_t bytes_to, void* work, size_t room) {
    if (int status = ask.check()) return status;
    if (!alpha || !beta || !a || !b || !to) return refuse(NULL_POINTER, "a null pointer");
    if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
        give_up("a convolution is scaled or added");
    if (algorithm != steady) return refuse(NOT_SUPPORTED, "an algorithm that was not said to be deterministic");
    size_t memory = ask.workspace();
    if (room < memory || (memory && !work)) return refuse(TOO_SMALL, "too little to work in");
    for (const void* one : {a, b, static_cast<const void*>(to), static_cast<const void*>(work)})
        if (uintptr_t(one) % 16) return refuse(MISALIGNED, "16 bytes are what kernels read at a time");
    // With the mathematics that were set last, f32 is rounded to TF32 or not.
    bool tf32 = ask.convolution->math != FMA_MATH;
    if (ask.bf16() && ask.convolution->math == FMA_MATH) return refuse(NOT_SUPPORTED, "bf16 without tensor cores");
    counts.libraries++;
    Shape shape = ask.shape();
    bool bf16 = ask.bf16();
    std::vector<Touch> touched{reads(a, bytes_a), reads(b, bytes_b), writes(to, bytes_to), writes(work, memory)};
    CUresult told = tell(ask.handle->stream, "a convolution", touched, [=] {
        poison(uintptr_t(work), memory);
        convolve(pass, shape, bf16, tf32, a, b, to);
    });
    return told == CUDA_SUCCESS ? SUCCESS : EXECUTION_FAILED;
}

// All algorithms are run once, so nothing may be captured, and the result is written.
int measured(const Ask& ask, std::vector<Touch> touched, void* to, size_t bytes, void* work, size_t room) {
    if (int status = ask.check()) return status;
    if (!to) return refuse(NULL_POINTER, "a null pointer");
    if (is_capturing(ask.handle->stream)) {
        break_capture(ask.handle->stream, "cuDNN measures");
        return EXECUTION_FAILED;
    }
    touched.push_back(writes(to, bytes));
    if (room) touched.push_back(writes(work, room));
    CUresult told = tell(ask.handle->stream, "cuDNN's measuring", touched, [=] {
        poison(uintptr_t(to), bytes);
        if (room) poison(uintptr_t(work), room);
    });
    if (told == CUDA_SUCCESS) told = cuStreamSynchronize(ask.handle->stream);
    return told == CUDA_SUCCESS ? SUCCESS : EXECUTION_FAILED;
}

// Algorithms by their numbers.
const int FORWARD_GEMM = 0, FORWARD_PRECOMPUTED = 1, FORWARD_WINOGRAD = 6;
const int DATA_0 = 0, DATA_1 = 1, DATA_WINOGRAD = 4;
const int FILTER_0 = 0, FILTER_1 = 1, FILTER_FFT = 2;
const size_t ANY = SIZE_MAX;

} // namespace

API int cudnnCreate(Handle** out) {
    LOCK;
    if (!has_context()) return refuse(1001, "cuDNN without a context");
    return *out = new Handle, SUCCESS;
}
API int cudnnDestroy(Handle*) { return SUCCESS; }
API int cudnnSetStream(Handle* handle, CUstream stream) {
    LOCK;
    if (!handle || !is_stream(stream)) return refuse(BAD_PARAM, "cuDNN on no stream");
    return handle->stream = stream, SUCCESS;
}

API int cudnnCreateTensorDescriptor(Tensor** out) { return *out = new Tensor, SUCCESS; }
API int cudnnCreateFilterDescriptor(Filter** out) { return *out = new Filter, SUCCESS; }
API int cudnnCreateConvolutionDescriptor(Convolution** out) { return *out = new Convolution, SUCCESS; }
API int cudnnDestroyTensorDescriptor(Tensor* it) { return delete it, SUCCESS; }
API int cudnnDestroyFilterDescriptor(Filter* it) { return delete it, SUCCESS; }
API int cudnnDestroyConvolutionDescriptor(Convolution* it) { return delete it, SUCCESS; }

API int cudnnSetTensor4dDescriptor(Tensor* it, int format, int type, int n, int c, int h, int w) {
    return set(*it, format, type, n, c, h, w);
}
API int cudnnSetFilter4dDescriptor(Filter* it, int type, int format, int k, int c, int h, int w) {
    return set(*it, format, type, k, c, h, w);
}
API int cudnnSetConvolution2dDescriptor(Convolution* it, int pad_h, int pad_w, int stride_h, int stride_w,
                                        int dilation_h, int dilation_w, int mode, int compute) {
    if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1)
        return refuse(BAD_PARAM, "padding, stride or dilation");
    if (mode != CROSS_CORRELATION) return refuse(NOT_SUPPORTED, "weights that are turned round");
    if (compute != FLOAT) return refuse(NOT_SUPPORTED, "sums in another type than f32");
    *it = {true, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w};
    return SUCCESS;
}
API int cudnnSetConvolutionMathType(Convolution* it, int math) {
    if (math < DEFAULT_MATH || math > FMA_MATH) return refuse(BAD_PARAM, "a way to compute");
    return it->math = math, SUCCESS;
}
API int cudnnSetConvolutionGroupCount(Convolution* it, int groups) {
    if (groups < 1) return refuse(BAD_PARAM, "a number of groups");
    return it->groups = groups, SUCCESS;
}

API int cudnnGetConvolutionForwardAlgorithm_v7(Handle* handle, Tensor* x, Filter* w, Convolution* convolution, Tensor* y,
                                               int most, int* count, Perf* to) {
    LOCK;
    return list({handle, x, y, w, convolution}, FORWARD_GEMM, FORWARD_PRECOMPUTED, FORWARD_WINOGRAD, most, count, to, ANY, false);
}
API int cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle* handle, Filter* w, Tensor* dy, Convolution* convolution,
                                                    Tensor* dx, int most, int* count, Perf* to) {
    LOCK;
    return list({handle, dx, dy, w, convolution}, DATA_0, DATA_1, DATA_WINOGRAD, most, count, to, ANY, false);
}
API int cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle* handle, Tensor* x, Tensor* dy, Convolution* convolution,
                                                      Filter* dw, int most, int* count, Perf* to) {
    LOCK;
    return list({handle, x, dy, dw, convolution}, FILTER_0, FILTER_1, FILTER_FFT, most, count, to, ANY, false);
}

API int cudnnFindConvolutionForwardAlgorithmEx(Handle* handle, Tensor* x, const void* x_at, Filter* w, const void* w_at,
                                               Convolution* convolution, Tensor* y, void* y_at, int most, int* count,
                                               Perf* to, void* work, size_t room) {
    LOCK;
    Ask ask{handle, x, y, w, convolution};
    if (int status = list(ask, FORWARD_GEMM, FORWARD_PRECOMPUTED, FORWARD_WINOGRAD, most, count, to, room, true)) return status;
    return measured(ask, {reads(x_at, x->bytes()), reads(w_at, w->bytes())}, y_at, y->bytes(), work, room);
}
API int cudnnFindConvolutionBackwardDataAlgorithmEx(Handle* handle, Filter* w, const void* w_at, Tensor* dy,
                                                    const void* dy_at, Convolution* convolution, Tensor* dx, void* dx_at,
                                                    int most, int* count, Perf* to, void* work, size_t room) {
    LOCK;
    Ask ask{handle, dx, dy, w, convolution};
    if (int status = list(ask, DATA_0, DATA_1, DATA_WINOGRAD, most, count, to, room, true)) return status;
    return measured(ask, {reads(w_at, w->bytes()), reads(dy_at, dy->bytes())}, dx_at, dx->bytes(), work, room);
}
API int cudnnFindConvolutionBackwardFilterAlgorithmEx(Handle* handle, Tensor* x, const void* x_at, Tensor* dy,
                                                      const void* dy_at, Convolution* convolution, Filter* dw,
                                                      void* dw_at, int most, int* count, Perf* to, void* work,
                                                      size_t room) {
    LOCK;
    Ask ask{handle, x, dy, dw, convolution};
    if (int status = list(ask, FILTER_0, FILTER_1, FILTER_FFT, most, count, to, room, true)) return status;
    return measured(ask, {reads(x_at, x->bytes()), reads(dy_at, dy->bytes())}, dw_at, dw->bytes(), work, room);
}

API int cudnnConvolutionForward(Handle* handle, const void* alpha, Tensor* x, const void* x_at, Filter* w,
                                const void* w_at, Convolution* convolution, int algorithm, void* work, size_t room,
                                const void* beta, Tensor* y, void* y_at) {
    LOCK;
    return run({handle, x, y, w, convolution}, algorithm, FORWARD_PRECOMPUTED, Pass::FORWARD, alpha, beta, x_at,
               x->bytes(), w_at, w->bytes(), y_at, y->bytes(), work, room);
}
API int cudnnConvolutionBackwardData(Handle* handle, const void* alpha, Filter* w, const void* w_at, Tensor* dy,
                                     const void* dy_at, Convolution* convolution, int algorithm, void* work, size_t room,
                                     const void* beta, Tensor* dx, void* dx_at) {
    LOCK;
    return run({handle, dx, dy, w, convolution}, algorithm, DATA_1, Pass::DATA, alpha, beta, dy_at, dy->bytes(), w_at,
               w->bytes(), dx_at, dx->bytes(), work, room);
}
API int cudnnConvolutionBackwardFilter(Handle* handle, const void* alpha, Tensor* x, const void* x_at, Tensor* dy,
                                       const void* dy_at, Convolution* convolution, int algorithm, void* work,
                                       size_t room, const void* beta, Filter* dw, void* dw_at) {
    LOCK;
    return run({handle, x, dy, dw, convolution}, algorithm, FILTER_1, Pass::FILTER, alpha, beta, x_at, x->bytes(), dy_at,
               dy->bytes(), dw_at, dw->bytes(), work, room);
}
