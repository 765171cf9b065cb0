// cuBLAS: the products that candle asks for. Numbers of types and results are those of cuBLAS 13's headers.
#include "device.h"
#include "numbers.h"

using namespace standin;

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1, R_16BF = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };
enum { OP_N = 0, OP_T = 1 };

struct Handle {
    CUstream stream = nullptr;
};

Status refuse(Status status, const char* why) {
    standin::refuse(CUDA_ERROR_NOT_SUPPORTED, why);
    return status;
}

// Column after column, as Fortran has them.
struct Matrix {
    const void* at;
    Type type;
    long long first, second; // elements from one row, and column, to the next
    bool tf32;

    double operator()(long long row, long long column) const {
        long long i = row * first + column * second;
        if (type == R_64F) return static_cast<const double*>(at)[i];
        if (type == R_16BF) return of_bf16(static_cast<const uint16_t*>(at)[i]);
        float value = static_cast<const float*>(at)[i];
        return tf32 ? to_tf32(value) : value;
    }
};

size_t size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }

void write(void* c, int type, int m, int n, int k, int ldc, const Matrix& left, const Matrix& right) {
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double sum = 0;
            for (int l = 0; l < k; l++) sum += left(i, l) * right(l, j);
            size_t to = size_t(j) * ldc + i;
            if (type == R_64F) static_cast<double*>(c)[to] = sum;
            else if (type == R_32F) static_cast<float*>(c)[to] = float(sum);
            else static_cast<uint16_t*>(c)[to] = to_bf16(float(sum));
        }
}

// Elements from one matrix to the next, of several at once.
struct Batch {
    int count;
    long long a, b, c;
};

int product(Handle* handle, Batch batch, int transa, int transb, int m, int n, int k, double alpha, const void* a,
            int lda, const void* b, int ldb, double beta, void* c, int ldc, int type, bool tf32) {
    if (!handle || !handle->stream) return refuse(NOT_INITIALIZED, "a product without handle or stream");
    if (transa > OP_T || transb > OP_T || m < 0 || n < 0 || k < 0) return refuse(INVALID_VALUE, "a product's sizes");
    int rows_a = transa ? k : m, rows_b = transb ? n : k;
    if (lda < std::max(1, rows_a) || ldb < std::max(1, rows_b) || ldc < std::max(1, m))
        return refuse(INVALID_VALUE, "columns that overlap");
    if (alpha != 1 || beta != 0) give_up("a product is scaled or added");
    if (!m || !n) return SUCCESS;
    if (batch.count < 1 || (batch.count > 1 && batch.c < (n - 1) * (long long)ldc + m))
        return refuse(INVALID_VALUE, "products that overlap");
    auto bytes = [&](int rows, int columns, int ld, long long next) {
        return ((batch.count - 1) * next + (columns - 1) * size_t(ld) + rows) * size_of(type);
    };
    std::vector<Touch> touched{writes(c, bytes(m, n, ldc, batch.c))};
    if (k) {
        touched.push_back(reads(a, bytes(rows_a, transa ? m : k, lda, batch.a)));
        touched.push_back(reads(b, bytes(rows_b, transb ? k : n, ldb, batch.b)));
    }
    for (const Touch& one : touched)
        if (one.at % size_of(type)) return refuse(INVALID_VALUE, "a matrix is not aligned");
    counts.libraries++;
    CUresult told = tell(handle->stream, "a matrix product", touched, [=] {
        auto after = [type](const void* from, long long elements) {
            return static_cast<const char*>(from) + elements * (long long)size_of(type);
        };
        for (int i = 0; i < batch.count; i++) {
            Matrix left{after(a, i * batch.a), Type(type), transa ? lda : 1, transa ? 1 : lda, tf32};
            Matrix right{after(b, i * batch.b), Type(type), transb ? ldb : 1, transb ? 1 : ldb, tf32};
            write(const_cast<char*>(after(c, i * batch.c)), type, m, n, k, ldc, left, right);
        }
    });
    return told == CUDA_SUCCESS ? SUCCESS : EXECUTION_FAILED;
}

} // namespace

API int cublasCreate_v2(Handle** out) {
    LOCK;
    if (!has_context()) return refuse(NOT_INITIALIZED, "cuBLAS without a context");
    return *out = new Handle, SUCCESS;
}
API int cublasDestroy_v2(Handle*) { return SUCCESS; }
API int cublasSetStream_v2(Handle* handle, CUstream stream) {
    LOCK;
    if (!handle || !is_stream(stream)) return refuse(INVALID_VALUE, "cuBLAS on no stream");
    return handle->stream = stream, SUCCESS;
}

API int cublasGemmStridedBatchedEx(Handle* handle, int transa, int transb, int m, int n, int k, const void* alpha,
                                   const void* a, int type_a, int lda, long long next_a, const void* b, int type_b,
                                   int ldb, long long next_b, const void* beta, void* c, int type_c, int ldc,
                                   long long next_c, int batches, int compute, int) {
    LOCK;
    if (type_a != type_b || type_a != type_c) return refuse(NOT_SUPPORTED, "a product of several types");
    // cuBLAS's table has TF32 for f32 alone.
    bool known = (compute == COMPUTE_32F && (type_a == R_32F || type_a == R_16BF)) ||
                 (compute == COMPUTE_32F_FAST_TF32 && type_a == R_32F);
    if (!known) return refuse(NOT_SUPPORTED, "a product that cuBLAS's table has not");
    return product(handle, {batches, next_a, next_b, next_c}, transa, transb, m, n, k, *static_cast<const float*>(alpha), a, lda, b, ldb,
                   *static_cast<const float*>(beta), c, ldc, type_a, compute == COMPUTE_32F_FAST_TF32);
}

API int cublasDgemmStridedBatched(Handle* handle, int transa, int transb, int m, int n, int k, const double* alpha,
                                  const double* a, int lda, long long next_a, const double* b, int ldb,
                                  long long next_b, const double* beta, double* c, int ldc, long long next_c,
                                  int batches) {
    LOCK;
    return product(handle, {batches, next_a, next_b, next_c}, transa, transb, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc, R_64F, false);
}
