#include "cuda/kernel.h"

// Whether another class's score goes before the label's, as the first of the highest scores would.
DEVICE bool goes_before(A score, i64 at, A own, i64 label) {
    return score > own || (score == own && at < label);
}

// Adds what one batch gave to `sums`: batches, samples times the losses total, perception and attention,
// wrong answers of the two branches; and, of the first batch whose total is no number, which it was
// (from 1 on) and the total. One block of 32 threads along x for each row. Without an attention branch,
// its scores and its loss are null.
BLOCK_KERNEL(meter)(const T* perception, const T* attention, const u32* labels, const A* losses_total,
                    const A* loss_perception, const A* loss_attention, double* sums, i64 n, i64 k) {
    SHARED int beaten[8];
    SHARED double counts[2][8];
    double wrong[2] = {};
    for (int branch = 0; branch < 2; branch++) {
        const T* scores = branch ? attention : perception;
        if (!scores) continue;
        for (i64 start = 0; start < n; start += blockDim.y) {
            i64 sample = start + threadIdx.y;
            if (threadIdx.x == 0) beaten[threadIdx.y] = 0;
            meet();
            if (sample < n) {
                const T* row = scores + sample * k;
                i64 label = labels[sample];
                A own = label < k ? wide(row[label]) : A(NAN);
                bool before = !(own == own);
                for (i64 i = threadIdx.x; i < k; i += 32)
                    before = before || goes_before(wide(row[i]), i, own, label);
                if (before) beaten[threadIdx.y] = 1;
            }
            meet();
            if (threadIdx.x == 0 && sample < n) wrong[branch] += beaten[threadIdx.y];
            meet(); // before the next row's begins
        }
    }
    if (threadIdx.x == 0)
        for (int branch = 0; branch < 2; branch++) counts[branch][threadIdx.y] = wrong[branch];
    meet();
    if (threadIdx.x != 0 || threadIdx.y != 0) return;
    double total = losses_total[0];
    sums[0] += 1;
    sums[1] += n * total;
    sums[2] += n * double(loss_perception[0]);
    if (loss_attention) sums[3] += n * double(loss_attention[0]);
    for (unsigned row = 0; row < blockDim.y; row++) {
        sums[4] += counts[0][row];
        sums[5] += counts[1][row];
    }
    if (!(total - total == 0) && sums[6] == 0) {
        sums[6] = sums[0];
        sums[7] = total;
    }
}

KERNEL(clear)(T* x, i64 n) {
    for (i64 i = first(); i < n; i += stride()) x[i] = narrow(A(0));
}
