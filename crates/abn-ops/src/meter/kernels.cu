#include "cuda/kernel.h"
#include "loss/tasks.h"

// Whether another class's score goes before the label's, as the first of the highest scores would.
DEVICE bool goes_before(A score, i64 at, A own, i64 label) {
    return score > own || (score == own && at < label);
}

// How many of n rows of k scores do not have the first of their highest at their label, which is that at
// row · step + column. With `single`, a row is one score, above 0 for label 1. For the block's first thread;
// of 32 threads along x for each row, every one comes here.
DEVICE double wrong_answers(const T* scores, const u32* labels, i64 n, i64 k, i64 step, i64 column, bool single) {
    SHARED int beaten[8];
    SHARED double counts[8];
    double wrong = 0;
    for (i64 start = 0; start < n; start += blockDim.y) {
        i64 sample = start + threadIdx.y;
        if (threadIdx.x == 0) beaten[threadIdx.y] = 0;
        meet();
        if (sample < n) {
            const T* row = scores + sample * k;
            i64 label = labels[sample * step + column];
            A own = single ? wide(row[0]) : label < k ? wide(row[label]) : A(NAN);
            bool before = !(own == own) || (single && label != (own > 0));
            for (i64 i = threadIdx.x; i < k; i += 32)
                before = before || goes_before(wide(row[i]), i, own, single ? 0 : label);
            if (before) beaten[threadIdx.y] = 1;
        }
        meet();
        if (threadIdx.x == 0 && sample < n) wrong += beaten[threadIdx.y];
        meet(); // before the next row's begins
    }
    if (threadIdx.x == 0) counts[threadIdx.y] = wrong;
    meet();
    double all = 0;
    for (unsigned row = 0; row < blockDim.y; row++) all += counts[row];
    meet(); // before the next scores' are written
    return all;
}

// Adds a batch's losses to `sums`: batches, samples times the losses total, perception and attention; and, of
// the first batch whose total is no number, which it was (from 1 on) and the total.
DEVICE void add_losses(double* sums, i64 n, double total, double perception, double attention) {
    sums[0] += 1;
    sums[1] += n * total;
    sums[2] += n * perception;
    sums[3] += n * attention;
    if (!(total - total == 0) && sums[6] == 0) {
        sums[6] = sums[0];
        sums[7] = total;
    }
}

// Adds what one batch gave, wrong answers of the two branches too. One block; without an attention branch, its
// scores and its loss are null.
BLOCK_KERNEL(meter)(const T* perception, const T* attention, const u32* labels, const A* loss_total,
                    const A* loss_perception, const A* loss_attention, double* sums, i64 n, i64 k) {
    double wrong = wrong_answers(perception, labels, n, k, 1, 0, false);
    double wrong_attention = attention ? wrong_answers(attention, labels, n, k, 1, 0, false) : 0;
    if (threadIdx.x != 0 || threadIdx.y != 0) return;
    add_losses(sums, n, loss_total[0], loss_perception[0], loss_attention ? double(loss_attention[0]) : 0);
    sums[4] += wrong;
    sums[5] += wrong_attention;
}

// How many wrong answers each of several tasks has. A block for each.
BLOCK_KERNEL(meter_tasks)(const WHOLE Tasks tasks, const u32* labels, double* wrong, i64 n, i64 all) {
    const Task& task = tasks.at[blockIdx.x];
    double count = wrong_answers(task.scores, labels, n, task.k, all, task.column, task.k == 1);
    if (threadIdx.x == 0 && threadIdx.y == 0) wrong[blockIdx.x] = count;
}

// Losses that are to be added up.
struct Losses {
    const A* at[96];
};

// Adds a batch with several tasks: the parts of its losses, of which the first are the perception branch's and the others
// the attention branch's; and the tasks' wrong answers, the attention branch's after the others. One block of 32. Without
// `last` more parts follow.
BLOCK_KERNEL(meter_batch)(const WHOLE Losses losses, const double* wrong, double* sums, i64 perception, i64 parts,
                          i64 tasks, i64 counts, i64 n, i64 last) {
    double sum[4] = {};
    for (i64 i = threadIdx.x; i < parts; i += 32) sum[i < perception ? 0 : 1] += losses.at[i][0];
    for (i64 i = threadIdx.x; i < counts; i += 32) sum[i < tasks ? 2 : 3] += wrong[i];
    for (double& one : sum) one = row_sum(one);
    if (threadIdx.x != 0) return;
    sums[8] += sum[0];
    sums[9] += sum[1];
    if (!last) return;
    sums[4] += sum[2];
    sums[5] += sum[3];
    add_losses(sums, n, sums[9] + sums[8], sums[8], sums[9]);
    sums[8] = sums[9] = 0;
}
